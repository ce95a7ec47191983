"""Frames through a real socket pair, cut into pieces of any size, and what a large one costs."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_support import SECONDS, bounded

from pytest_prodpatterns.patterns.pool import _wire
from pytest_prodpatterns.patterns.pool._call import Message
from pytest_prodpatterns.patterns.pool._wire import HEADER, MANY_PARTS, RECEIVE, Frames, frame, send_all, sent

KINDS = [
    _wire.TASK,
    _wire.READY,
    _wire.VALUE,
    _wire.ERROR,
    _wire.LOG,
    _wire.BOOT_FAILED,
    _wire.SKIPPED,
    _wire.LEAVING,
]


@pytest.fixture
def pair():
    """Two ends; the second does not block."""
    here, there = socket.socketpair()
    there.setblocking(False)
    with here, there:
        yield here, there


def pattern(size, start=0):
    """Bytes that tell where they stand."""
    return (bytes(range(251)) * (size // 251 + 2))[start : start + size]


def told(one):
    """A frame as plain values."""
    return one.kind, one.seq, one.seconds, bytes(one.body), [*map(bytes, one.buffers)]


def message(body_parts, buffers=()):
    return Message([*body_parts, *buffers], [len(each) for each in buffers])


def expected(kind, seq, seconds, body_parts, buffers=()):
    return kind, seq, seconds, b"".join(body_parts), [*map(bytes, buffers)]


def received(there, frames=None):
    """Everything that has arrived."""
    frames, found = frames or Frames(there), []
    while not frames.ended:
        try:
            found += frames.receive()
        except BlockingIOError:
            break
    return found


# --- any frames, any pieces ------------------------------------------------------------------------------------

SIZES = st.integers(0, 300) | st.sampled_from(
    [4095, 4096, 4097, RECEIVE - HEADER.size, RECEIVE - 1, RECEIVE, RECEIVE + 1, 3 * RECEIVE]
)
PARTS = st.lists(st.builds(pattern, SIZES, st.integers(0, 250)), max_size=3)
FRAMES = st.tuples(
    st.sampled_from(KINDS),
    st.integers(0, 2**64 - 1),
    st.floats(0, 1e9),
    PARTS.map(lambda parts: parts or [b""]),
    PARTS,
)
PIECES = st.lists(
    st.sampled_from([1, 2, 7, 23, 24, 25, 31, 32, 33, 1000, 65537, 400_000]), min_size=1, max_size=20
)


@settings(max_examples=120)
@given(frames=st.lists(FRAMES, max_size=6), pieces=PIECES)
def test_the_frames_that_went_in_come_out(frames, pieces):
    data = memoryview(
        b"".join(
            bytes(part)
            for kind, seq, seconds, body, buffers in frames
            for part in frame(kind, seq, message(body, buffers), seconds)
        )
    )
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        reader, found, pieces = Frames(there), [], itertools.cycle([*pieces, 100_000])
        while data:
            data = data[here.send(data[: next(pieces)]) :]
            found += received(there, reader)
        assert [told(one) for one in found] == [expected(*one) for one in frames]
        assert not reader.ended
        here.close()
        assert received(there, reader) == []
        assert reader.ended


@given(frames=st.lists(FRAMES, min_size=1, max_size=4))
@settings(max_examples=40)
def test_a_blocking_sender_and_a_blocking_reader_understand_each_other(frames):
    here, there = socket.socketpair()
    with here, there:

        def send():
            for kind, seq, seconds, body, buffers in frames:
                send_all(here, frame(kind, seq, message(body, buffers), seconds))
            here.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        reader, found = Frames(there), []
        while not reader.ended:
            found += bounded(reader.receive)
        sender.join(SECONDS)
        assert [told(one) for one in found] == [expected(*one) for one in frames]


# --- large frames ----------------------------------------------------------------------------------------------


class Tap:
    """A socket that remembers how it was read."""

    def __init__(self, sock):
        self.sock, self.received, self.places = sock, [], []

    def recv(self, size):
        data = self.sock.recv(size)
        self.received.append(len(data))
        return data

    def recv_into(self, view):
        self.places.append(view.obj)
        return self.sock.recv_into(view)


def feed(here, parts):
    sender = threading.Thread(target=send_all, args=(here, parts), daemon=True)
    sender.start()
    return sender


def test_a_large_frame_is_received_where_its_values_are_read_from(pair):
    here, there = pair
    there.setblocking(True)
    body, buffer = pattern(5_000_000), pattern(3_000_000, 7)
    sender = feed(here, frame(_wire.VALUE, 5, message([body], [buffer]), 0.25))
    tap = Tap(there)
    reader, found = Frames(tap), []
    while not found:
        found += bounded(reader.receive)
    sender.join(SECONDS)
    assert told(found[0]) == (_wire.VALUE, 5, 0.25, body, [buffer])
    (memory,) = {id(place): place for place in tap.places}.values()
    assert found[0].body.obj is memory
    assert found[0].buffers[0].obj is memory, "buffers are not copied either"
    assert len(tap.received) <= 2, "only its beginning came another way"


@pytest.mark.parametrize("size", [3, RECEIVE, 3 * RECEIVE])
def test_buffers_can_be_written_to(pair, size):
    here, there = pair
    sender = feed(here, frame(_wire.TASK, 1, message([b"body"], [bytes(size), bytes(size)])))
    found, reader = [], Frames(there)
    while not found:
        found += received(there, reader)
    sender.join(SECONDS)
    first, second = found[0].buffers
    first[0] = 255
    assert (first[0], second[0]) == (255, 0)


def test_frames_behind_a_large_one_are_not_swallowed(pair):
    here, there = pair
    one = [
        b"".join(frame(_wire.VALUE, seq, Message([pattern(size)])))
        for seq, size in enumerate([10, RECEIVE * 2, 11, 0])
    ]
    sender = feed(here, one)
    found, reader = [], Frames(there)
    while len(found) < 4:
        found += received(there, reader)
    sender.join(SECONDS)
    assert [(each.seq, len(each.body)) for each in found] == [(0, 10), (1, RECEIVE * 2), (2, 11), (3, 0)]


# --- many parts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [MANY_PARTS, MANY_PARTS + 1, 5000])
def test_a_message_may_have_more_parts_than_a_system_call_takes(pair, count):
    here, there = pair
    assert MANY_PARTS <= os.sysconf("SC_IOV_MAX")
    parts = [b"%d," % number for number in range(count)]
    sender = feed(here, frame(_wire.TASK, 1, Message(parts)))
    reader, found = Frames(there), []
    while not found:
        found += received(there, reader)
    sender.join(SECONDS)
    assert bytes(found[0].body) == b"".join(parts)


def test_a_message_may_have_more_buffers_than_fit_two_bytes(pair):
    here, there = pair
    buffers = [b"%d" % (number % 10) for number in range(70_000)]
    sender = feed(here, frame(_wire.TASK, 1, message([b"body"], buffers)))
    reader, found = Frames(there), []
    while not found:
        found += received(there, reader)
    sender.join(SECONDS)
    assert (bytes(found[0].body), [*map(bytes, found[0].buffers)]) == (b"body", buffers)


def test_empty_parts_are_no_end(pair):
    here, there = pair
    send_all(
        here, [b"", b"", *frame(_wire.LOG, 0, Message([b"", b"a", b"", bytearray(b"b"), memoryview(b"")]))]
    )
    assert [told(one) for one in received(there)] == [(_wire.LOG, 0, 0.0, b"ab", [])]


def test_parts_may_be_views_of_wider_items(pair):
    here, there = pair
    numbers = memoryview(bytes(range(16))).cast("I")
    send_all(here, [memoryview(b"ab"), numbers])
    assert there.recv(100) == b"ab" + bytes(range(16))


@pytest.mark.parametrize(("size", "parts"), [(0, 1), (4095, 1), (4096, 2)])
def test_a_small_frame_is_one_part(size, parts):
    made = frame(_wire.VALUE, 1, Message([bytes(size)]))
    assert len(made) == parts
    assert sum(map(len, made)) == HEADER.size + size


def test_the_number_of_a_task_may_be_as_large_as_a_token():
    last = 2 ** (8 * _wire.TOKEN.size) - 1
    (made,) = frame(_wire.TASK, last, Message([b""]))
    assert HEADER.unpack(made)[1] == last


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=8), st.data())
def test_what_was_sent_is_dropped_and_nothing_else(parts, data):
    whole = b"".join(parts)
    queue = deque(map(memoryview, parts))
    while queue:
        count = data.draw(st.integers(1, len(whole)))
        sent(queue, 0)
        sent(queue, count)
        whole = whole[count:]
        assert b"".join(queue) == whole
        assert all(map(len, queue))


# --- the other side is gone --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 3 * RECEIVE])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_frame_that_was_cut_off_is_no_frame(pair, size, share):
    here, there = pair
    data = b"".join(frame(_wire.VALUE, 1, Message([bytes(size)])))
    sender = feed(here, [data[: int(len(data) * share)]])
    reader, found = Frames(there), []
    while sender.is_alive():
        found += received(there, reader)
    here.close()
    found += received(there, reader)
    assert (found, reader.ended) == ([], True)


@pytest.mark.parametrize("begun", [b"", bytes(5), HEADER.pack(3 * RECEIVE, 1, 0.0, 0, _wire.VALUE)])
def test_nothing_new_is_a_blocking_io_error(pair, begun):
    here, there = pair
    reader = Frames(there)
    if begun:
        here.sendall(begun)
        assert [*reader.receive()] == []
    with pytest.raises(BlockingIOError):
        reader.receive()
    assert not reader.ended


def test_a_sender_whose_reader_is_gone_is_told_so(pair):
    here, there = pair
    there.close()
    for parts in ([b"one"], [b"one", b"two"]):
        with pytest.raises(BrokenPipeError):
            send_all(here, parts)
