"""Whether an address is free to listen on."""

import socket


def why_not_free(host: str, port: int) -> str | None:
    """Why it is impossible to listen on an address now; None if it is free, or `port` is 0."""
    if port == 0:
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or type(error).__name__
        except (UnicodeError, TypeError):  # a name that cannot be encoded
            return "not a host name"
    return None
