"""Feeding the HTTP parser a few bytes at a time, and counting them.

The parser consumes all its input, keeps what it parses, and cannot be stopped.
"""

from collections.abc import Iterable

from service.api.head_limits import MOST_BYTES_OUTSIDE_BODIES

# Bytes of framing allowed for each byte of a body: one byte per chunk is wasteful, not an attack.
_FORGIVEN = 16
# The end of a chunked body may be anywhere: at most this many bytes beyond it are parsed.
_CHUNKED_BYTES = 256


class Framing:
    """Where the next byte of a connection belongs.

    Before a request, in its head, in a body of known length, or in a chunked body.

    Attributes:
        in_head: neither in a body nor in its trailers.
    """

    def __init__(self) -> None:
        self.in_head = True
        self._begun = False
        self._due = 0  # bytes that remain of a body of known length
        self._outside = 0  # bytes outside bodies since the last head or request ended

    def take(self, received: bytearray) -> bytes:
        """Take the next piece for the parser from the received bytes; b"" if more must arrive.

        A piece is a whole line of a head, or what has arrived of a body. The header `Upgrade` is
        dropped: the service stays with HTTP/1.1, as RFC 9110, section 7.8, allows, but the parser
        would treat the request's body as another request.
        """
        while True:
            self.skip_blank_lines(received)
            if self.in_head:
                length = received.find(b"\n") + 1
                if not (length or self._begun or received[:1].isalpha()):
                    length = len(received)  # TLS and the like: no line end will come
            else:
                length = min(len(received), self._due or _CHUNKED_BYTES)
            piece = bytes(received[:length])
            del received[:length]
            if not self._due:
                self._outside += length
            if not (self._begun and self.in_head and piece[:8].lower() == b"upgrade:"):
                return piece

    def skip_blank_lines(self, received: bytearray) -> None:
        """Drop blank lines before a request (RFC 9112, section 2.2)."""
        if self._begun:
            return
        blank = len(received) - len(received.lstrip(b"\r\n"))
        self._outside += blank
        del received[:blank]

    def is_too_much(self, begun: int) -> bool:
        """Whether too much arrived outside bodies, counting `begun` bytes of an unfinished line."""
        return self._outside + begun > MOST_BYTES_OUTSIDE_BODIES

    def begin(self) -> None:
        """Note that a request begins."""
        self._begun = True

    def end_head(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Note that a request's head ends.

        Args:
            headers: names in lower case, and values; the parser has checked that they agree.
        """
        self.in_head = False
        self._due = int(dict(headers).get(b"content-length", 0))
        self._outside = 0

    def count_body(self, length: int) -> None:
        """Note how many bytes of the last piece belong to a body."""
        if self._due:
            self._due -= length
        else:
            self._outside = max(0, self._outside - length * (1 + _FORGIVEN))

    def end(self) -> None:
        """Note that a request ends."""
        self.in_head = True
        self._begun = False
        self._due = 0
        self._outside = 0
