"""Reasons why requests are rejected."""

from collections.abc import Callable
from enum import StrEnum


class Rejection(StrEnum):
    """Why a request is not answered with what it asked for; metrics name them so."""

    HOST = "host"  # another one is asked for, or its page asks
    KEY = "key"  # none, or none that is good
    SCOPE = "scope"  # the key is not for this
    QUOTA = "quota"  # the key has used it up
    CONNECTIONS = "connections"  # too many are open
    REQUESTS = "requests"  # too many under way
    STREAMS = "streams"  # too many are open
    QUEUE = "queue"  # too many utterances wait for a place
    TENANT = "tenant"  # one tenant has its share of the room
    DRAINING = "draining"
    DEADLINE = "deadline"
    CLIENT_LEFT = "client_left"


CountRejection = Callable[[Rejection], None]

ENDING = "the service is about to end; another one takes the request"
