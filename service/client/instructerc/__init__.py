"""A client of the service for emotion recognition in conversation.

It needs only httpx and pydantic.
"""

from instructerc.async_client import AsyncClient
from instructerc.client import Client
from instructerc.errors import (
    ClientError,
    Conflict,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    TooMany,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
)
from instructerc.retries import Retries
from instructerc.streams import Followed, Result
from instructerc.transport import Timeouts

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Conflict",
    "Followed",
    "Invalid",
    "NotAllowed",
    "NotFound",
    "Refused",
    "Result",
    "Retries",
    "Timeouts",
    "TooMany",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
]
