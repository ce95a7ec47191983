"""Where the body of a response ends, in each of the ways in which HTTP/1.1 says so: no sockets, no time.

A body takes what is its own from the front of a buffer, in any portions, and leaves what comes behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pytest_prodpatterns.targets.server._sample import Sample

MOST_HEAD: Final = 1 << 16
"""Bytes that a head may have, and what stands behind the last chunk."""
_MOST_CHUNK_LINE: Final = 4096

_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
_LENGTH: Final = re.compile(r"[0-9]{1,18}")


class Malformed(ValueError):  # noqa: N818 - it names what came
    """What came is against the protocol; the text says how."""


class Body:
    """A body that ends where it begins; the base of the others.

    Attributes:
        sample: What came of it.
        whole: Whether it is complete.
        in_chunk: Whether it stands inside a chunk.
    """

    def __init__(self) -> None:
        self.sample = Sample()
        self.whole = True
        self.in_chunk = False

    def feed(self, buffer: bytearray) -> None:
        """Take what belongs to it.

        Raises:
            Malformed: It cannot be read on.
        """

    def end(self) -> None:
        """Take note that no more will come."""

    @property
    def place(self) -> str:
        """How far it came, in words."""
        return f"behind {self.sample.size} bytes of the body"

    def _take(self, buffer: bytearray, most: int) -> int:
        part = buffer[:most]
        del buffer[:most]
        self.sample.take(part)
        return len(part)


class Sized(Body):
    """A body of so many bytes.

    Args:
        lengths: What Content-Length says.

    Raises:
        Malformed: It is no number, or more than one.
    """

    def __init__(self, lengths: str) -> None:
        super().__init__()
        different = {length.strip() for length in lengths.split(",")}
        length = different.pop()
        if different or _LENGTH.fullmatch(length) is None:
            raise Malformed(f"a bad Content-Length: {lengths[:40]}")
        self._length = int(length)
        self.whole = self._length == 0

    def feed(self, buffer: bytearray) -> None:
        """Take what belongs to it."""
        self._take(buffer, self._length - self.sample.size)
        self.whole = self.sample.size == self._length

    @property
    def place(self) -> str:
        """How far it came, in words."""
        return f"behind {self.sample.size} of {self._length} bytes of the body"


class UntilEnd(Body):
    """A body that ends with its connection."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = False

    def feed(self, buffer: bytearray) -> None:
        """Take everything."""
        self._take(buffer, len(buffer))

    def end(self) -> None:
        """Take note that no more will come: this is its end."""
        self.whole = True


class Chunked(Body):
    """A body in chunks, each behind its size; one of size 0 and trailers end it."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = False
        self._left = 0  # of the chunk, or of what trailers may have
        self._step: Callable[[bytearray], bool] = self._size

    def feed(self, buffer: bytearray) -> None:
        """Take what belongs to it.

        Raises:
            Malformed: A size is none, or a chunk is longer than its size.
        """
        self.in_chunk = True  # so it stays where it cannot be read on
        while not self.whole and self._step(buffer):
            pass
        between = self._step in {self._size, self._trailer} and not buffer
        self.in_chunk = not (self.whole or between)

    @property
    def place(self) -> str:
        """How far it came, in words."""
        return f"{'inside a chunk' if self.in_chunk else 'between chunks'}, {super().place}"

    def _size(self, buffer: bytearray) -> bool:
        line = take_line(buffer, _MOST_CHUNK_LINE, "a bad chunk size")
        if line is None:
            return False
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise Malformed("a bad chunk size")
        self._left = int(found[1], 16)
        self._step = self._data
        if self._left == 0:
            self._left, self._step = MOST_HEAD, self._trailer
        return True

    def _data(self, buffer: bytearray) -> bool:
        self._left -= self._take(buffer, self._left)
        if self._left:
            return False
        self._step = self._data_end
        return True

    def _data_end(self, buffer: bytearray) -> bool:
        if not buffer or buffer == b"\r":
            return False
        if not buffer.startswith((b"\n", b"\r\n")):
            raise Malformed("a chunk that is longer than its size")
        del buffer[: buffer.index(b"\n") + 1]
        self._step = self._size
        return True

    def _trailer(self, buffer: bytearray) -> bool:
        before = len(buffer)
        line = take_line(buffer, self._left, "trailers of more than 64 KiB")
        self._left -= before - len(buffer)
        self.whole = line == b""
        return line is not None


def take_line(buffer: bytearray, most: int, too_long: str) -> bytes | None:
    """Take a line and return it without its end; None when it is not there yet.

    Args:
        buffer: Its beginning is taken.
        most: How long the line may be.
        too_long: What to say when it is longer.

    Raises:
        Malformed: It is longer.
    """
    end = buffer.find(b"\n")
    size = len(buffer) if end < 0 else end + 1
    if size > most:
        raise Malformed(too_long)
    if end < 0:
        return None
    line = bytes(buffer[:end])
    del buffer[:size]
    return line.removesuffix(b"\r")


__all__ = ["MOST_HEAD", "Body", "Chunked", "Malformed", "Sized", "UntilEnd", "take_line"]
