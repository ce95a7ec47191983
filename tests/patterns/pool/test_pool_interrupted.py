"""Finalizers, signal handlers and other people's mistakes come at any moment, also while the pool's lock is held."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest
from pool_support import SECONDS, bounded, echo, hand_out, hold, soon, supervisor_kept

from pytest_prodpatterns.patterns.pool import PoolClosed, ShutdownCancelled


@pytest.fixture
def lock_of():
    return lambda pool: pool._engine._books.lock


def test_a_finalizer_that_cancels_while_its_thread_holds_the_lock_does_not_wait_for_itself(
    make, gate, lock_of
):
    pool = make(1)
    future = pool.submit(hold, gate)
    gate.await_entered()
    with lock_of(pool):
        assert bounded(future.cancel)
    assert pool.submit(echo, 1).result(SECONDS) == 1
    soon(lambda: pool.pending == 0)
    assert pool.stats().cancelled == 1


def test_a_place_is_free_as_soon_as_cancel_returns_although_another_thread_held_the_lock(make, gate, lock_of):
    pool = make(1, 1, when_full="reject")
    pool.submit(hold, gate)
    gate.await_entered()
    waiting, lock, held = pool.submit(echo, 1), lock_of(pool), threading.Event()

    def look_at_the_clock():
        with lock:
            held.set()
            time.sleep(0.01)

    thread = threading.Thread(target=look_at_the_clock)
    thread.start()
    assert held.wait(SECONDS)
    assert waiting.cancel()
    assert pool.pending == 1
    thread.join()
    gate.open()


def test_a_finalizer_that_cancels_thousands_waits_for_the_lock_once(make, gate, lock_of):
    pool = make(1, 3000)
    pool.submit(hold, gate)
    gate.await_entered()
    futures = [pool.submit(echo, number) for number in range(2000)]
    with lock_of(pool):
        assert bounded(lambda: all(future.cancel() for future in futures))
    gate.open()
    soon(lambda: pool.pending == 0)
    assert pool.stats().cancelled == 2000


def test_a_signal_handler_may_shut_down_while_its_thread_holds_the_lock(make, lock_of):
    pool = make(1)
    pool.submit(echo, 1).result(SECONDS)
    with lock_of(pool):
        bounded(pool.shutdown, wait=False)
    soon(lambda: pool.closed)
    with pytest.raises(PoolClosed):
        pool.submit(echo, 1)


def test_cancelling_what_was_answered_already_spares_the_task_behind_it(make, gate, other_gate):
    pool = make(1)
    with supervisor_kept(pool, other_gate):
        answered, innocent = pool.submit(echo, 1), pool.submit(hold, gate, "innocent")
        hand_out(pool)
        gate.await_entered()  # so the one before it has been answered, and nobody has read that
        assert answered.cancel()
    gate.open()
    assert innocent.result(SECONDS) == "innocent"
    assert pool.stats().restarts == 0


def test_a_log_handler_that_raises_ends_neither_supervisor_nor_shutdown(make):
    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("the disk is full")

    logger, broken = logging.getLogger("pytest_prodpatterns.pool"), Broken()
    logger.addHandler(broken)
    try:
        pool = make(1)
        future = pool.submit(echo, 1)
        future.add_done_callback(lambda _: os.environ["there is no such variable"])
        quitter = pool.submit(echo, 2)
        quitter.add_done_callback(lambda _: exit(3))
        assert [future.result(SECONDS), quitter.result(SECONDS)] == [1, 2]
        assert pool.submit(echo, 3).result(SECONDS) == 3
        bounded(pool.shutdown)
    finally:
        logger.removeHandler(broken)


def test_a_pool_that_could_not_start_can_be_started_later(make, monkeypatch):
    def no_descriptor(*_):
        raise OSError(24, "Too many open files")

    pool = make(1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "eventfd", no_descriptor)
        with pytest.raises(OSError, match="Too many open files"):
            pool.submit(echo, 1)
    assert pool.submit(echo, 2).result(SECONDS) == 2
    assert pool.pending == 0 or soon(lambda: pool.pending == 0)


def test_a_callback_that_never_returns_delays_no_shutdown_with_a_deadline(make):
    pool, release = make(1), threading.Event()
    first, second = pool.submit(echo, 1), pool.submit(echo, 2)
    first.add_done_callback(lambda _: release.wait(SECONDS))
    try:
        bounded(pool.shutdown, deadline=0.2, seconds=3)
        assert isinstance(second.exception(3), ShutdownCancelled | None)
    finally:
        release.set()


def test_a_callback_that_never_returns_keeps_no_error_from_the_others_at_the_deadline(make, gate):
    pool, release = make(1), threading.Event()
    first = pool.submit(hold, gate)
    others = [pool.submit(echo, number) for number in range(3)]
    first.add_done_callback(lambda _: release.wait(SECONDS))
    gate.await_entered()
    try:
        bounded(pool.shutdown, deadline=0.2, seconds=3)
        for future in [first, *others]:
            assert isinstance(future.exception(3), ShutdownCancelled)
    finally:
        release.set()


def test_a_forked_child_sees_no_workers_and_touches_no_descriptor(make):
    pool = make(1)
    pool.submit(echo, 1).result(SECONDS)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        seen = b"wrong"
        try:
            seen = repr((pool.workers(), pool.stats().workers)).encode()
        finally:
            os.write(writing, seen)
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as answer:
        assert answer.read() == b"((), 0)"
    assert pool.submit(echo, 2).result(SECONDS) == 2


def test_a_child_that_is_forked_when_a_pool_has_just_ended_closes_nothing_of_others(make):
    """Forked by another thread after the pool closed its descriptors, and before it is off the list."""
    pool = make(1).start()
    engine = pool._engine
    alarm = engine._supervisor._alarm
    pool.shutdown()
    os.dup2(2, alarm)
    try:
        engine.disown()  # as in the child
        os.fstat(alarm)
    finally:
        os.close(alarm)
