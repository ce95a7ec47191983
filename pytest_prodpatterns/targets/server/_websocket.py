"""As much of the websocket protocol (RFC 6455) as a client needs that only listens: no sockets, no time."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Final

from pytest_prodpatterns.targets.server._sample import Sample

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE, _PING = 0x8, 0x9
_MOST_CONTROL: Final = 125
NO_CODE: Final = 1005
"""The code that stands for a close frame without one."""


def new_key() -> str:
    """Return a key for the handshake."""
    return base64.b64encode(os.urandom(16)).decode()


def accepting(key: str) -> str:
    """Return what a server must answer to a key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()  # noqa: S324 - as RFC 6455 says


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a short frame of a client, masked as it must be."""
    mask = os.urandom(4)
    hidden = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + hidden


class Frames:
    """The frames of a server, as far as they were read.

    Attributes:
        sample: What came in data frames.
        closed: The code of the close frame that came, or None.
        reason: What the close frame said.
        broken: What is wrong, or None.
    """

    def __init__(self) -> None:
        self.sample = Sample()
        self.closed: int | None = None
        self.reason = ""
        self.broken: str | None = None
        self._buffer = bytearray()
        self._left = 0  # bytes of the payload of a data frame that are still to come
        self._replies = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, and return what is to be answered."""
        self._buffer += data
        while self.closed is None and self.broken is None and self._step():
            pass
        replies = bytes(self._replies)
        self._replies.clear()
        return replies

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._left or self._buffer)

    def _step(self) -> bool:
        if self._left:
            return self._take_payload()
        if len(self._buffer) < 2:
            return False
        opcode, length = self._buffer[0] & 0x0F, self._buffer[1]
        if length & 0x80:
            self.broken = "a masked frame from a server"
            return False
        if opcode >= _CLOSE:
            return self._control(opcode, length)
        return self._data(length)

    def _take_payload(self) -> bool:
        part = self._buffer[: self._left]
        del self._buffer[: self._left]
        self._left -= len(part)
        self.sample.take(part)
        return bool(part)

    def _data(self, length: int) -> bool:
        more = {126: 2, 127: 8}.get(length, 0)
        if len(self._buffer) < 2 + more:
            return False
        self._left = int.from_bytes(self._buffer[2 : 2 + more], "big") if more else length
        del self._buffer[: 2 + more]
        return True

    def _control(self, opcode: int, length: int) -> bool:
        if length > _MOST_CONTROL or not self._buffer[0] & 0x80:
            self.broken = "a control frame that is too long or in pieces"
            return False
        if len(self._buffer) < 2 + length:
            return False
        payload = bytes(self._buffer[2 : 2 + length])
        del self._buffer[: 2 + length]
        if opcode == _PING:
            self._replies += frame(0xA, payload)
        elif opcode == _CLOSE:
            self.closed = int.from_bytes(payload[:2], "big") if len(payload) > 1 else NO_CODE
            self.reason = payload[2:].decode(errors="replace")
            self._replies += frame(_CLOSE, payload[:2])
        return True


__all__ = ["NO_CODE", "Frames", "accepting", "frame", "new_key"]
