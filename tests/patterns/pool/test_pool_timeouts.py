"""Time limits of tasks: kept whatever the task does, and counted from its beginning."""

from __future__ import annotations

import time
from concurrent.futures import wait

import pytest
from pool_support import (
    METHODS,
    SECONDS,
    Lazy,
    at_full_strength,
    busy,
    echo,
    gone,
    hold,
    kill,
    load_behind,
    note,
    notes,
    return_slow,
    soon,
    spin,
    start_process,
    stop,
    work,
)

from pytest_prodpatterns.patterns.pool import PoolError, TaskTimeout, retry


@pytest.mark.parametrize("method", METHODS)
def test_a_task_that_takes_too_long_is_ended(make, gate, method):
    pool = make(2, start_method=method, task_timeout=0.5)
    at_full_strength(pool.start())
    begin = time.monotonic()
    future = pool.submit(hold, gate)
    ((_, pid),) = gate.await_entered()
    others = [pool.submit(echo, number) for number in range(10)]
    error = future.exception(SECONDS)
    elapsed = time.monotonic() - begin
    assert type(error) is TaskTimeout
    assert isinstance(error, TimeoutError)
    assert isinstance(error, PoolError)
    assert (error.task_id, error.timeout, error.pid) == (future.task_id, 0.5, pid)
    assert error.task.endswith("hold")
    assert "0.5" in str(error)
    assert 0.49 < elapsed < 2.5
    gone(pid)
    assert pid not in at_full_strength(pool)
    assert [each.result(SECONDS) for each in others] == list(range(10))
    stats = pool.stats()
    assert (stats.timed_out, stats.crashed, stats.completed) == (1, 0, 10)


@pytest.mark.parametrize("task", [spin, hold])
def test_a_task_that_ignores_sigterm_is_killed_after_the_grace(make, gate, task):
    pool = make(1, task_timeout=0.2, kill_grace=0.1)
    future = pool.submit(task, gate, **({"immune": True} if task is hold else {}))
    ((_, pid),) = gate.await_entered()
    assert type(future.exception(SECONDS)) is TaskTimeout
    gone(pid)
    assert pool.submit(echo, "next").result(SECONDS) == "next"


def test_a_stopped_worker_has_its_time_limit_too(make, gate):
    pool = make(1, task_timeout=0.2, kill_grace=0.05)
    future = pool.submit(hold, gate)
    ((_, pid),) = gate.await_entered()
    stop(pid)
    assert type(future.exception(SECONDS)) is TaskTimeout
    gone(pid)
    assert pool.submit(echo, "next").result(SECONDS) == "next"


def test_time_in_the_queue_does_not_count(make):
    pool = make(1, task_timeout=1.0)
    futures = [pool.submit(work, 0.1, number) for number in range(15)]
    assert [future.result(SECONDS) for future in futures] == list(range(15))


def test_time_to_start_a_worker_does_not_count(make, gate):
    pool = make(1, task_timeout=0.2, initializer=gate.pass_through, initargs=("initializing",))
    future = pool.submit(echo, "in time")
    gate.await_entered()
    time.sleep(0.4)
    assert not future.done()
    gate.open()
    assert future.result(SECONDS) == "in time"


def test_those_behind_a_late_task_are_not_late(make, gate, tmp_path):
    pool, log = make(1, task_timeout=0.3, kill_grace=0.05), str(tmp_path / "log")
    late = pool.submit(hold, gate)
    behind = [pool.submit(note, log, str(number), number) for number in range(20)]
    assert type(late.exception(SECONDS)) is TaskTimeout
    assert [future.result(SECONDS) for future in behind] == list(range(20))
    assert [int(word) for word, _ in notes(log)] == list(range(20))


def test_each_task_may_have_its_own(make, gate):
    pool = make(3, task_timeout=30)
    futures = [pool.options(timeout=0.2).submit(hold, gate, "short"), pool.submit(hold, gate, "long")]
    futures.append(pool.options(timeout=None).submit(hold, gate, "endless"))
    gate.await_entered(3)
    assert futures[0].exception(SECONDS).timeout == 0.2
    assert not futures[1].done()
    assert not futures[2].done()
    gate.open()
    assert [future.result(SECONDS) for future in futures[1:]] == ["long", "endless"]


def test_none_of_its_own_means_no_limit(make, gate):
    pool = make(2, task_timeout=0.2)
    free, late = pool.options(timeout=None).submit(hold, gate), pool.submit(hold, gate, "late")
    assert type(late.exception(SECONDS)) is TaskTimeout
    assert not free.done()
    gate.open()
    assert free.result(SECONDS) == "held"


@pytest.mark.parametrize("phase", ["loading", "pickling"])
def test_the_limit_holds_for_arguments_and_results_too(make, gate, phase):
    pool = make(1, task_timeout=0.3)
    task = {
        "loading": (echo, Lazy(load_behind, gate, "loading")),
        "pickling": (return_slow, gate, "pickling"),
    }
    future = pool.submit(*task[phase])
    ((_, pid),) = gate.await_entered()
    assert type(future.exception(SECONDS)) is TaskTimeout
    gone(pid)
    assert pool.submit(echo, 1).result(SECONDS) == 1


def test_a_result_just_in_time_is_a_result_or_a_time_out_never_both(make):
    pool, ended = make(2, task_timeout=0.05, kill_grace=0.05, max_restarts=10**6), []
    futures = [pool.submit(work, 0.04 + 0.001 * number, number) for number in range(20)]
    for future in futures:
        future.add_done_callback(ended.append)
    wait(futures, SECONDS)
    for number, future in enumerate(futures):
        assert type(future.exception()) is TaskTimeout or future.result() == number
    soon(lambda: len(ended) == 20)
    stats = soon(lambda: pool.stats().unfinished == 0 and pool.stats())
    assert stats.timed_out + stats.completed == 20
    assert stats.crashed == 0


def test_a_retry_policy_does_not_repeat_what_was_late(make, gate):
    pool = make(1, task_timeout=0.2, on_crash=retry(3))
    future = pool.submit(hold, gate)
    assert type(future.exception(SECONDS)) is TaskTimeout
    assert pool.submit(echo, 1).result(SECONDS) == 1
    assert len(gate.entered) == 1
    assert pool.stats().retried == 0


def test_killed_before_its_limit_is_a_crash(make, gate):
    pool = make(1, task_timeout=30)
    (future,) = busy(pool, gate)
    kill(gate.entered[0][1])
    assert future.exception(SECONDS).signal == "SIGKILL"
    assert pool.stats().timed_out == 0


def test_processes_of_a_late_task_end_with_it(make, gate):
    pool = make(1, task_timeout=0.3, kill_grace=0.05)
    future = pool.submit(start_process, gate)
    gate.await_entered()
    ((grandchild, _),) = notes(gate.folder + "/grandchild")
    try:
        assert type(future.exception(SECONDS)) is TaskTimeout
        gone(int(grandchild), seconds=3)
    finally:
        try:
            kill(int(grandchild))
        except ProcessLookupError:
            pass


@pytest.mark.parametrize("steps", [300])
def test_limits_cost_quick_tasks_nothing(make, steps):
    pool = make(2, task_timeout=5)
    assert [future.result(SECONDS) for future in [pool.submit(echo, n) for n in range(steps)]] == list(
        range(steps)
    )
    assert pool.stats().timed_out == 0
