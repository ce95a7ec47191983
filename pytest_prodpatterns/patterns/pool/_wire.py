"""Frames on the channel between the pool and one worker.

A frame is a header, the lengths of its out-of-band buffers, and its body. Both sides read with `Frames`,
which takes whatever bytes have arrived and gives back whole frames; a large frame is received straight into
the memory that its values will be read from.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import socket

    from pytest_prodpatterns.patterns.pool._call import Buffer, Message

TASK: Final = 1
READY: Final = 2
VALUE: Final = 3
ERROR: Final = 4
LOG: Final = 5
BOOT_FAILED: Final = 6
SKIPPED: Final = 7
"""A worker found that what it had received was taken back; it listens."""
LEAVING: Final = 8
"""A worker begins no further task: it has done its share, or has grown too large."""

HEADER: Final = struct.Struct("<QQdIB3x")
"""Bytes behind the header, sequence number on the desk, seconds that the task took, number of buffers, kind."""

TOKEN: Final = struct.Struct("<Q")

_LENGTH: Final = struct.Struct("<Q")
RECEIVE: Final = 1 << 17
MANY_PARTS: Final = 512
"""Parts that one vectored send may have; IOV_MAX is 1024 on Linux."""


class Frame(NamedTuple):
    """One frame, as it arrived."""

    kind: int
    seq: int
    seconds: float
    body: memoryview
    buffers: Sequence[memoryview]


def frame(kind: int, seq: int, message: Message, seconds: float = 0.0) -> list[Buffer]:
    """Return the parts of a frame around a message."""
    lengths = message.buffers
    if not lengths:
        header = HEADER.pack(message.size, seq, seconds, 0, kind)
        parts = message.parts
        if len(parts) == 1 and message.size < 4096:  # one small part: cheaper joined
            return [header + parts[0]]
        return [header, *parts]
    head = HEADER.pack(message.size + _LENGTH.size * len(lengths), seq, seconds, len(lengths), kind)
    return [head + b"".join(map(_LENGTH.pack, lengths)), *message.parts]


def send_all(sock: socket.socket, parts: Sequence[Buffer]) -> None:
    """Send parts on a blocking socket."""
    if len(parts) == 1:
        sock.sendall(parts[0])
        return
    queue = deque(memoryview(part).cast("B") for part in parts if len(part))
    while queue:
        sent(queue, sock.sendmsg([*islice(queue, MANY_PARTS)]))


def sent(queue: deque[memoryview], count: int) -> None:
    """Drop the first `count` bytes of a queue of parts."""
    while count:
        first = queue[0]
        if count < len(first):
            queue[0] = first[count:]
            return
        count -= len(first)
        queue.popleft()


class Frames:
    """Whole frames out of the bytes of one socket.

    Args:
        sock: What to receive from.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""  # the beginning of a frame, shorter than it
        self._large: bytearray | None = None  # a frame that is received in place
        self._filled = 0
        self.ended = False  # whether the other side has closed

    def receive(self) -> Iterator[Frame]:
        """Receive once, and return the frames that are whole now.

        Raises:
            BlockingIOError: When a non-blocking socket has nothing.
        """
        if self._large is not None:
            return self._receive_large()
        data = self._sock.recv(RECEIVE)
        if not data:
            self.ended = True
            return iter(())
        if self._rest:
            data = self._rest + data
        return iter(self._split(data))

    def _split(self, data: bytes) -> list[Frame]:
        frames = []
        view, offset, end = memoryview(data), 0, len(data)
        size_of_header, unpack = HEADER.size, HEADER.unpack_from
        while end - offset >= size_of_header:
            size, seq, seconds, count, kind = unpack(data, offset)
            stop = offset + size_of_header + size
            if stop > end:
                if size >= RECEIVE:
                    self._begin_large(view[offset:], size_of_header + size)
                    offset = end
                break
            body = view[offset + size_of_header : stop]
            frames.append(
                _frame(kind, seq, seconds, count, body) if count else Frame(kind, seq, seconds, body, ())
            )
            offset = stop
        self._rest = data[offset:]
        return frames

    def _begin_large(self, beginning: memoryview, size: int) -> None:
        self._large = bytearray(size)
        self._large[: len(beginning)] = beginning
        self._filled = len(beginning)

    def _receive_large(self) -> Iterator[Frame]:
        assert self._large is not None
        view = memoryview(self._large)
        count = self._sock.recv_into(view[self._filled :])
        if not count:
            self.ended = True
            return iter(())
        self._filled += count
        if self._filled < len(view):
            return iter(())
        self._large = None
        size, seq, seconds, buffers, kind = HEADER.unpack_from(view)
        return iter([_frame(kind, seq, seconds, buffers, view[HEADER.size : HEADER.size + size])])


def _frame(kind: int, seq: int, seconds: float, count: int, body: memoryview) -> Frame:
    start = count * _LENGTH.size
    lengths = [_LENGTH.unpack_from(body, index * _LENGTH.size)[0] for index in range(count)]
    stop = len(body) - sum(lengths)
    buffers = []
    for length in lengths:
        view = body[stop : stop + length]
        buffers.append(memoryview(bytearray(view)) if view.readonly else view)  # arrays must stay writable
        stop += length
    return Frame(kind, seq, seconds, body[start : len(body) - sum(lengths)], buffers)
