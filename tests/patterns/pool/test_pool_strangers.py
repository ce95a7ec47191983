"""What a pool must not take for an answer, for silence, or for a task's own time."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from pool_support import SECONDS, chatter, echo, hand_out, hold, split, supervisor_kept, work

from pytest_prodpatterns.patterns.pool import TaskTimeout


@pytest.fixture(autouse=True)
def quiet():
    logger = logging.getLogger("chatter")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    yield
    logger.handlers.clear()
    logger.propagate = True


def test_a_task_that_logs_all_the_time_times_out_all_the_same(make):
    begin = time.monotonic()
    with pytest.raises(TaskTimeout):
        make(1, task_timeout=0.3).submit(chatter, 30).result(SECONDS)
    assert time.monotonic() - begin < 5


def test_what_waits_behind_a_task_that_logs_is_given_to_others(make):
    pool = make(2)
    for number in range(200):
        pool.submit(echo, number).result(SECONDS)  # short tasks: several may lie with one worker
    chatty = pool.submit(chatter, 8)
    others = [pool.submit(echo, number) for number in range(100)]
    assert [other.result(5) for other in others] == list(range(100))
    assert chatty.cancel()


def test_the_child_of_a_task_that_forks_gives_no_answer(make):
    pool = make(1)
    for number in range(5):
        assert pool.submit(split).result(SECONDS) > 0
        assert pool.submit(echo, number).result(SECONDS) == number
    assert pool.stats().restarts == 0


def test_a_cancelled_task_is_ended_also_when_the_answer_before_it_was_not_read_yet(make, gate, other_gate):
    pool = make(1)
    with supervisor_kept(pool, other_gate):
        pool.submit(echo)
        held = pool.submit(hold, gate)
        hand_out(pool)
        gate.await_entered()
        assert held.cancel()
    assert pool.submit(echo, 3).result(SECONDS) == 3


def test_a_task_that_ended_in_time_has_not_timed_out_because_a_callback_was_slow(make):
    pool = make(2)
    for number in range(20):
        pool.submit(echo, number).result(SECONDS)
    done = pool.options(timeout=0.6).submit(work, 0.05, "in time")
    release = threading.Event()
    pool.submit(echo).add_done_callback(lambda _: release.wait(1.0))
    assert done.result(SECONDS) == "in time"


def test_a_deadline_beyond_every_clock_is_no_error(make):
    make(1).start().shutdown(deadline=1e10)
