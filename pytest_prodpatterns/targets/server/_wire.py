"""What a server says in HTTP/1.1, read as far as it came: no sockets, no time.

Theory of operation.  A `Reading` takes bytes in any portions: first a line with the status, then header fields,
then the body, whose end the header tells (`_bodies`).  Each takes what it needs from the front of one buffer, or
leaves it and waits for more, so what comes of the bytes never depends on the portions.  Of a body only its size and
its beginning are kept: an endless one costs no memory.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pytest_prodpatterns.targets.server._bodies import (
    MOST_HEAD,
    Body,
    Chunked,
    Malformed,
    Sized,
    UntilEnd,
    take_line,
)
from pytest_prodpatterns.targets.server._sample import Sample

_NOT_HTTP: Final = "not HTTP"

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: .*)?", re.DOTALL)
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
_INTERIM: Final = frozenset(range(100, 200)) - {101}
_BODILESS: Final = frozenset({101, 204, 304})
_TOLD: Final = {"content-type": "content_type", "retry-after": "retry_after", "x-request-id": "request_id"}


class Reading:
    """One response, as far as it was read.

    Args:
        method: Of the request: a response to HEAD has no body, whatever its header says.

    Attributes:
        started: Whether anything of it came; interim responses (1xx) are skipped.
        status: The status, 0 until the head is whole.
        headers: Name in small letters -> value; values of a name that comes twice are joined by a comma.
        body: The body, None until the head is whole.
        broken: What is wrong with it, or None.
    """

    def __init__(self, method: str = "GET") -> None:
        self.started = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body: Body | None = None
        self.broken: str | None = None
        self._bodiless = method == "HEAD"
        self._buffer = bytearray()
        self._strange = Sample()  # what came instead of a response
        self._await_head()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self.started = self.started or bool(data)
        self._buffer += data
        if self.broken is None:
            try:
                self._read()
            except Malformed as malformed:
                self.broken = str(malformed)
        if self.broken == _NOT_HTTP:
            self._strange.take(self._buffer)
            self._buffer.clear()

    def end(self) -> None:
        """Take note that no more will come: for some bodies that is their end."""
        if self.body is not None:
            self.body.end()

    # -- what is known ---------------------------------------------------------------------------------------

    @property
    def whole(self) -> bool:
        """Whether the response is complete."""
        return self.body is not None and self.body.whole

    @property
    def close(self) -> bool:
        """Whether the server said that the connection ends with this response."""
        words = {word.strip().lower() for word in self.headers.get("connection", "").split(",")}
        return "close" in words or (self._version == b"0" and "keep-alive" not in words)

    @property
    def surplus(self) -> bytes:
        """What came behind a whole response."""
        return bytes(self._buffer) if self.whole else b""

    @property
    def event_ended(self) -> bool:
        """Whether the body stands behind an event of an event stream, not inside one."""
        return self.body is not None and not self.body.in_chunk and self.body.sample.end.endswith(_EVENT_ENDS)

    @property
    def place(self) -> str:
        """Where the reading stands, in words."""
        if self.body is not None:
            return self.body.place
        return "in the head of the response" if self.started else "before any response"

    def facts(self) -> dict[str, Any]:
        """Return what the history tells of it."""
        if not self.status:
            return {"text": self._strange.text} if self._strange.size else {}
        facts: dict[str, Any] = {"status": self.status, "close": self.close}
        if self.body is not None:
            facts |= {"bytes": self.body.sample.size, "text": self.body.sample.text}
        return facts | {_TOLD[name]: value for name, value in self.headers.items() if name in _TOLD}

    # -- reading ---------------------------------------------------------------------------------------------

    def _await_head(self) -> None:
        self._version = b""
        self._coming_status = 0
        self._coming: dict[str, str] = {}
        self._left = MOST_HEAD

    def _read(self) -> None:
        while self.body is None:
            if not self._coming_status:
                self._check_beginning()
            line = self._line()
            if line is None:
                return
            if not self._coming_status:
                self._take_status(line)
            elif line:
                self._take_field(line)
            else:
                self._end_head()
        self.body.feed(self._buffer)

    def _line(self) -> bytes | None:
        before = len(self._buffer)
        line = take_line(self._buffer, self._left, "a head of more than 64 KiB")
        self._left -= before - len(self._buffer)
        return line

    def _check_beginning(self) -> None:
        if self._buffer[:7] != b"HTTP/1."[: len(self._buffer)]:
            raise Malformed(_NOT_HTTP)

    def _take_status(self, line: bytes) -> None:
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            self._strange.take(line + b"\n")
            raise Malformed(_NOT_HTTP)
        self._version, self._coming_status = found[1], int(found[2])

    def _take_field(self, line: bytes) -> None:
        if line[:1] in b" \t":  # the old way to go on with a value; none of those that matter here
            return
        found = _HEADER.fullmatch(line)
        if found is None:
            raise Malformed("a line in the head that is no header field")
        name, value = found[1].decode().lower(), found[2].decode("latin-1")
        before = self._coming.get(name)
        self._coming[name] = value if before is None else f"{before}, {value}"

    def _end_head(self) -> None:
        if self._coming_status in _INTERIM:
            self._await_head()
            self.started = bool(self._buffer)
            return
        self.status, self.headers = self._coming_status, self._coming
        self.body = self._announced()

    def _announced(self) -> Body:
        """Return the body that the header announces."""
        coding, lengths = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if self._bodiless or self.status in _BODILESS:
            return Body()
        if coding is not None and lengths is not None:
            raise Malformed("both Content-Length and Transfer-Encoding")
        if coding is not None:
            return Chunked() if coding.rpartition(",")[2].strip().lower() == "chunked" else UntilEnd()
        return UntilEnd() if lengths is None else Sized(lengths)


__all__ = ["Reading"]
