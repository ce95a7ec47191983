"""What is kept of bytes that may have no end."""

from __future__ import annotations

from typing import Final

KEPT_CHARACTERS: Final = 300
_KEPT_BYTES: Final = KEPT_CHARACTERS * 4  # no character of UTF-8 is longer
_KEPT_END: Final = 4


class Sample:
    """The number of the bytes, their beginning as text, and the last few of them.

    Attributes:
        size: How many came.
        end: The last four of them.
    """

    def __init__(self) -> None:
        self.size = 0
        self.end = b""
        self._beginning = bytearray()

    def take(self, part: bytes | bytearray) -> None:
        """Take the next bytes."""
        self.size += len(part)
        self.end = (self.end + part[-_KEPT_END:])[-_KEPT_END:]
        self._beginning += part[: _KEPT_BYTES - len(self._beginning)]

    @property
    def text(self) -> str:
        """The first characters; what is no UTF-8 is replaced."""
        return self._beginning.decode(errors="replace")[:KEPT_CHARACTERS]


__all__ = ["KEPT_CHARACTERS", "Sample"]
