"""Reasons why requests are rejected."""

from collections.abc import Callable
from enum import StrEnum


class Rejection(StrEnum):
    """Why a request is rejected or abandoned, as named in metrics."""

    HOST = "host"  # the host, or the page's origin, is not allowed
    KEY = "key"  # the key is missing or invalid
    SCOPE = "scope"  # the key lacks the scope
    QUOTA = "quota"  # the key's quota is used up
    CONNECTIONS = "connections"  # too many are open
    REQUESTS = "requests"  # too many are in flight
    STREAMS = "streams"  # too many are open
    QUEUE = "queue"  # too many utterances wait for a place
    TENANT = "tenant"  # the tenant has its share of the capacity
    DRAINING = "draining"
    DEADLINE = "deadline"
    CLIENT_LEFT = "client_left"


CountRejection = Callable[[Rejection], None]

ENDING = "the service is about to end; another one takes the request"
