"""Feeding the HTTP parser: a few bytes at a time, counted.

The parser takes all it is given, keeps what it finds, and cannot be stopped.
"""

from collections.abc import Iterable

from service.api.head_limits import MOST_BYTES_OUTSIDE_BODIES

# So much may surround each byte of a body: one byte a chunk is wasteful, but is no attack.
_FORGIVEN = 16
# The end of a chunked body may lie anywhere: so many bytes beyond it are parsed at most.
_CHUNKED_BYTES = 256


class Framing:
    """Where on a connection the next byte belongs.

    Before a request, in its head, in a body of known length, or in a body of chunks.

    Attributes:
        in_head: not in a body, nor in its trailers.
    """

    def __init__(self) -> None:
        self.in_head = True
        self._begun = False
        self._due = 0  # bytes of a body of known length
        self._outside = 0  # bytes outside bodies since the last head or request was over

    def take(self, received: bytearray) -> bytes:
        """Take from what was received what the parser is given next; b"" where more must come.

        That is a whole line of a head, or as much as there is of a body. A head's `Upgrade` is left
        out: the service stays with HTTP/1.1, as it may (RFC 9110, section 7.8), but the parser
        would take the request's body for another request.
        """
        while True:
            self.skip_blank_lines(received)
            if self.in_head:
                length = received.find(b"\n") + 1
                if not (length or self._begun or received[:1].isalpha()):
                    length = len(received)  # TLS and the like, of which no line must be awaited
            else:
                length = min(len(received), self._due or _CHUNKED_BYTES)
            piece = bytes(received[:length])
            del received[:length]
            if not self._due:
                self._outside += length
            if not (self._begun and self.in_head and piece[:8].lower() == b"upgrade:"):
                return piece

    def skip_blank_lines(self, received: bytearray) -> None:
        """Take what may come before a request and says nothing."""
        if self._begun:
            return
        blank = len(received) - len(received.lstrip(b"\r\n"))
        self._outside += blank
        del received[:blank]

    def is_too_much(self, begun: int) -> bool:
        """Whether too much came outside bodies, with so many bytes of a line that is begun."""
        return self._outside + begun > MOST_BYTES_OUTSIDE_BODIES

    def begin(self) -> None:
        """A request begins."""
        self._begun = True

    def end_head(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """A request's head is over.

        Args:
            headers: names in lower case, and values; the parser has found them to agree.
        """
        self.in_head = False
        self._due = int(dict(headers).get(b"content-length", 0))
        self._outside = 0

    def count_body(self, length: int) -> None:
        """So many bytes of what was taken last are of a body."""
        if self._due:
            self._due -= length
        else:
            self._outside = max(0, self._outside - length * (1 + _FORGIVEN))

    def end(self) -> None:
        """A request is over."""
        self.in_head = True
        self._begun = False
        self._due = 0
        self._outside = 0
