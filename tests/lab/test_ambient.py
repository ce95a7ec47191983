"""The clock and the listener of the moment."""

from __future__ import annotations

import threading
import time

import pytest

from pytest_prodpatterns.lab import ambient_clock, emit, listening, now, use_clock
from pytest_prodpatterns.lab._ambient import current_sink, set_sink


class Recorder:
    def __init__(self):
        self.events = []

    def emit(self, source, kind, /, **attributes):
        self.events.append((source, kind, attributes))


@pytest.fixture
def recorder():
    recorder = Recorder()
    previous = set_sink(recorder)
    yield recorder
    set_sink(previous)


def test_the_time_is_monotonic_outside_of_everything():
    assert ambient_clock() is time.monotonic
    before, between, after = time.monotonic(), now(), time.monotonic()
    assert before <= between <= after


def test_a_clock_is_read_at_each_call_and_only_inside_the_block():
    readings = iter([1.0, 2.5])
    with use_clock(lambda: next(readings)):
        assert [now(), now()] == [1.0, 2.5]
    assert ambient_clock() is time.monotonic


def test_clocks_nest_and_an_error_puts_the_outer_one_back():
    with use_clock(lambda: 1.0):
        with pytest.raises(OSError, match=r"^boom$"), use_clock(lambda: 2.0):
            assert now() == 2.0
            raise OSError("boom")
        assert now() == 1.0


def test_threads_read_the_same_clock():
    seen = []
    with use_clock(lambda: 42.0):
        thread = threading.Thread(target=lambda: seen.append(now()))
        thread.start()
        thread.join()
    assert seen == [42.0]


def test_an_event_without_a_listener_is_lost_without_harm():
    previous = set_sink(None)
    try:
        assert not listening()
        emit("breaker:payments", "rejected")
    finally:
        set_sink(previous)


def test_an_event_goes_to_the_listener(recorder):
    assert listening()
    assert current_sink() is recorder
    emit("fault:charge", "fired", call=3)
    assert recorder.events == [("fault:charge", "fired", {"call": 3})]


def test_attributes_may_be_called_like_the_parameters(recorder):
    emit("a:b", "c", source="x", kind="y")
    assert recorder.events == [("a:b", "c", {"source": "x", "kind": "y"})]
