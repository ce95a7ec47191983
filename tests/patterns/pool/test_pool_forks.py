"""A child that is forked while another thread holds a lock never gets it, and may hang before its first line."""

from __future__ import annotations

import os
import threading
import time

import pytest
from pool_support import SECONDS, at_full_strength, bounded, echo, gone, hold, note, notes, soon

from pytest_prodpatterns.lab import ChaosLab
from pytest_prodpatterns.patterns.pool import PoolBroken, _watch


class Locked:
    """Holds a lock that chosen children of this process want as soon as they are forked."""

    def __init__(self):
        self.plan = iter(())
        self.path = ""
        self.hangs = False
        self.lock = threading.Lock()
        os.register_at_fork(before=self._before, after_in_child=self._in_child)

    def _before(self):
        self.hangs = next(self.plan, False)

    def _in_child(self):
        if self.hangs:
            note(self.path, "hangs")
            self.lock.acquire()


LOCKED = Locked()


@pytest.fixture
def forks(tmp_path):
    """Say of each fork to come whether its child hangs."""
    LOCKED.path = str(tmp_path / "forks")

    def forks(*hangs):
        LOCKED.plan = iter(hangs)

    with LOCKED.lock:
        yield forks
    LOCKED.plan = iter(())


def hung():
    """Wait for a worker that hangs, and return the pid of the first."""
    return soon(lambda: notes(LOCKED.path))[0][1]


@pytest.fixture
def soon_missed(monkeypatch):
    monkeypatch.setattr(_watch, "BIRTH", 0.1)


def test_tasks_do_not_wait_behind_a_held_one_for_a_worker_that_hangs_in_the_fork(make, gate, forks):
    forks(False, True)
    pool = make(2, start_method="fork")
    for number in range(200):
        pool.submit(echo, number).result(SECONDS)  # short tasks: several may lie with one worker
    quick = [pool.submit(echo, number) for number in range(20)]
    held = pool.submit(hold, gate)
    quick += [pool.submit(echo, number) for number in range(20, 60)]
    gate.await_entered()
    assert [future.result(SECONDS) for future in quick] == list(range(60))
    assert not held.done()


def test_the_task_that_waits_for_a_worker_that_hangs_in_the_fork_is_given_to_another(make, forks):
    forks(True, False)
    with ChaosLab(1, "forks") as lab:
        pool = make(2, start_method="fork", name="forks")
        assert pool.submit(echo, 1).result(SECONDS) == 1
        (stolen,) = lab.timeline.where("pool:forks", "stolen")
        assert (stolen.attributes["pid"], stolen.attributes["reason"]) == (hung(), "silence")
        assert not lab.timeline.where("pool:forks", "worker-hung"), "that takes longer"


def test_a_worker_that_hangs_in_the_fork_is_replaced_and_told_of(make, forks, soon_missed):
    forks(True)
    with ChaosLab(1, "forks") as lab:
        pool = make(1, start_method="fork", name="forks")
        future = pool.submit(echo, 1)
        victim = hung()
        assert future.result(SECONDS) == 1
        (event,) = lab.timeline.where("pool:forks", "worker-hung")
        assert event.attributes["pid"] == victim
    gone(victim)
    assert pool.stats().restarts == 1
    assert pool.stats().crashed == 0


def test_it_is_replaced_also_when_nobody_wants_it_yet(make, forks, monkeypatch):
    """Naps enough for the supervisor of an idle pool to sleep until it is woken."""
    monkeypatch.setattr(_watch, "NAP", _watch.SILENCE + 0.01)
    monkeypatch.setattr(_watch, "BIRTH", 1.0)
    forks(False, True)
    pool = make(2, start_method="fork").start()
    victim = hung()
    assert victim not in at_full_strength(pool)


def test_a_pool_whose_workers_all_hang_in_the_fork_gives_up_and_says_what_to_do(make, forks, soon_missed):
    forks(*[True] * 10)
    pool = make(1, start_method="fork", max_boot_failures=2)
    with pytest.raises(PoolBroken, match="2 workers in a row ended before they were ready") as caught:
        pool.submit(echo, 1).result(SECONDS)
    assert "forkserver" in str(caught.value.causes[-1])
    assert len(caught.value.causes) == 2


def test_a_pool_with_a_worker_that_hangs_in_the_fork_can_be_shut_down(make, forks):
    forks(True)
    pool = make(1, start_method="fork").start()
    victim = hung()
    bounded(pool.shutdown)
    gone(victim)


def initialize(gate):
    gate.pass_through("initializing")


def test_an_initializer_takes_its_time(make, gate, soon_missed):
    pool = make(1, start_method="fork", initializer=initialize, initargs=(gate,))
    future = pool.submit(echo, 1)
    ((_, pid),) = gate.await_entered()
    (worker,) = soon(pool.workers)
    soon(lambda: time.monotonic() - worker.started_at > 0.5, "far longer than BIRTH")
    gate.open()
    assert future.result(SECONDS) == 1
    assert pool.workers()[0].pid == pid
