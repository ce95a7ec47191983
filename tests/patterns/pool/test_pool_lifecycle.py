"""Workers from their birth to their end: initializers, recycling, and what a pool refuses to be made of."""

from __future__ import annotations

import os
import time
from collections import Counter
from concurrent.futures import BrokenExecutor, wait
from pathlib import Path

import pytest
from pool_support import (
    METHODS,
    SECONDS,
    all_idle,
    at_full_strength,
    busy,
    die,
    die_while_initializing,
    double,
    echo,
    fail_to_initialize,
    fail_to_initialize_at_first,
    gone,
    initialize,
    keep,
    kill,
    notes,
    resident,
    soon,
    tell_pid,
    tell_state,
    use_pool,
    work,
)

from pytest_prodpatterns.patterns.pool import PoolBroken, PoolClosed, WorkerPool, retry

# --- initializers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_each_worker_is_initialized_once_before_its_first_task(make, tmp_path, method):
    log = str(tmp_path / "log")
    pool = make(2, start_method=method, initializer=initialize, initargs=(log, "state"))
    assert {value for value, _ in [pool.submit(tell_state).result(SECONDS) for _ in range(10)]} == {"state"}
    pids = at_full_strength(pool)
    assert {pid for _, pid in notes(log)} == set(pids)
    assert len(notes(log)) == 2


def test_a_replacement_is_initialized_too(make, tmp_path):
    log = str(tmp_path / "log")
    pool = make(1, initializer=initialize, initargs=(log, 7))
    pool.submit(die, 1).exception(SECONDS)
    value, pid = pool.submit(tell_state).result(SECONDS)
    assert value == 7
    assert notes(log)[-1][1] == pid
    assert len(notes(log)) == 2


@pytest.mark.parametrize("method", METHODS)
def test_an_initializer_that_fails_breaks_the_pool_and_says_why(make, tmp_path, method):
    log = str(tmp_path / "log")
    pool = make(2, start_method=method, initializer=fail_to_initialize, initargs=(log,), max_boot_failures=3)
    futures = [pool.submit(echo, number) for number in range(5)]
    for future in futures:
        error = future.exception(SECONDS)
        assert isinstance(error, PoolBroken)
        assert isinstance(error, BrokenExecutor)
        assert "no database today" in str(error)
        assert "in fail_to_initialize" in everything_told(error), "the initializer's own traceback"
    assert pool.broken
    with pytest.raises(PoolBroken, match="no database today"):
        pool.submit(echo)
    soon(lambda: pool.workers() == ())
    tries = len(notes(log))
    assert 3 <= tries <= 3 + 2, "no storm of new workers"
    assert pool.pending == 0


def everything_told(error):
    """All text that can be reached from an error."""
    texts, waiting, seen = [], [error], set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        texts += [str(each), str(getattr(each, "traceback", ""))]
        waiting += [each.__cause__, each.__context__, *getattr(each, "causes", ())]
    return "\n".join(texts)


def test_a_worker_that_dies_at_birth_breaks_the_pool(make, tmp_path):
    log = str(tmp_path / "log")
    pool = make(1, initializer=die_while_initializing, initargs=(log,), max_boot_failures=2)
    error = pool.submit(echo).exception(SECONDS)
    assert isinstance(error, PoolBroken)
    assert "exit code 7" in everything_told(error)
    soon(lambda: pool.workers() == ())
    assert len(notes(log)) == 2


def test_boot_failures_count_in_a_row(make, tmp_path):
    """Two failures, then a start that works: the pool goes on."""
    log = str(tmp_path / "log")
    pool = make(1, initializer=fail_to_initialize_at_first, initargs=(2, log), max_boot_failures=3)
    assert pool.submit(echo, "in the end").result(SECONDS) == "in the end"
    assert len(notes(log)) == 3
    assert not pool.broken


def test_a_pool_that_worked_can_break_later(make, gate, tmp_path):
    """The database is gone when the first worker has to be replaced."""
    pool = make(
        1,
        initializer=fail_unless,
        initargs=(str(tmp_path / "up"), str(tmp_path / "log")),
        max_boot_failures=2,
    )
    (tmp_path / "up").touch()
    (held,) = busy(pool, gate)
    waiting = pool.submit(echo, 1)
    (tmp_path / "up").unlink()
    kill(gate.entered[0][1])
    assert held.exception(SECONDS).signal == "SIGKILL"
    assert isinstance(waiting.exception(SECONDS), PoolBroken)


def fail_unless(path, log):
    if not Path(path).exists():
        fail_to_initialize(log)


def test_an_initializer_that_does_not_pickle_is_refused_at_once():
    with pytest.raises(Exception, match=r"pickle|initializer"):
        WorkerPool(1, start_method="spawn", initializer=lambda: None).start()


# --- recycling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", [1, 4])
def test_a_worker_leaves_after_so_many_tasks(make, method, limit):
    pool = make(2, start_method=method, max_tasks_per_worker=limit, max_restarts=0)
    tasks = 16 if method == "fork" else 2 * limit
    futures = [pool.submit(tell_pid) for _ in range(tasks)]
    done = Counter(future.result(2 * SECONDS) for future in futures)
    assert max(done.values()) <= limit
    assert len(done) >= tasks / limit
    pids = at_full_strength(pool)
    assert pool.stats().completed == tasks
    assert pool.stats().crashed == 0
    assert not pool.broken, "leaving is no death"
    gone(*(set(done) - set(pids)))


def test_recycling_loses_nothing_under_load(make):
    pool = make(2, 50, max_tasks_per_worker=7)
    futures = [pool.submit(echo, number) for number in range(500)]
    assert [future.result(2 * SECONDS) for future in futures] == list(range(500))
    assert list(pool.map(double, range(200), chunksize=10)) == [2 * number for number in range(200)]


def test_a_worker_that_takes_too_much_memory_leaves_after_its_task(make):
    limit = resident() + 150_000_000  # a forked worker begins with the memory of its parent
    pool = make(1, max_worker_memory=limit, max_restarts=0)
    first = pool.submit(tell_pid).result(SECONDS)
    assert [pool.submit(tell_pid).result(SECONDS) for _ in range(5)] == [first] * 5
    before, pid = pool.submit(keep, 200).result(SECONDS)
    assert pid == first, "the task that took it is done all the same"
    assert before < limit
    soon(lambda: pool.submit(tell_pid).result(SECONDS) != first, "a fresh worker should take over")
    gone(first)
    assert not pool.broken
    assert pool.stats().crashed == 0


def test_memory_is_looked_at_between_tasks_that_follow_at_once(make):
    limit = resident() + 150_000_000
    pool = make(1, max_worker_memory=limit)
    futures = [pool.submit(keep, 60) for _ in range(8)]
    found = [future.result(SECONDS) for future in futures]
    assert max(before for before, _ in found) < limit + 100_000_000
    assert len({pid for _, pid in found}) >= 2


# --- nesting and life --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_task_may_have_a_pool_of_its_own(make, method):
    outer, inner = make(1, start_method=method).submit(use_pool).result(2 * SECONDS)
    assert len({os.getpid(), outer, inner}) == 3


def test_two_pools_do_not_know_each_other(make, gate):
    one, other = make(1, name="one"), make(1, name="other")
    busy(one, gate)
    pids = at_full_strength(other.start())
    kill(gate.entered[0][1])
    soon(lambda: one.stats().crashed == 1)
    assert all_idle(other) == pids
    one.shutdown(deadline=0)
    assert other.submit(echo, 1).result(SECONDS) == 1


def test_the_death_of_one_is_seen_although_another_was_forked_later(make, gate):
    """A sibling that inherited the socket would keep it open: end of file would never come."""
    first = make(1)
    busy(first, gate)
    later = make(3)
    at_full_strength(later.start())
    begin = time.monotonic()
    kill(gate.entered[0][1])
    soon(lambda: first.stats().crashed == 1)
    assert time.monotonic() - begin < 2


def test_names_differ_by_themselves(make):
    names = [make().name for _ in range(3)]
    assert len(set(names)) == 3
    assert make(name="payments").name == "payments"


def test_a_pool_prints_itself(make):
    pool = make(2, 10, name="payments")
    assert "payments" in repr(pool)
    pool.start()
    assert "payments" in repr(pool)
    pool.shutdown()
    assert "payments" in repr(pool)


def test_the_number_of_workers_defaults_to_the_processors():
    with WorkerPool() as pool:
        assert pool.num_workers in (os.cpu_count(), len(os.sched_getaffinity(0)))
        assert (pool.max_queue_size, pool.capacity) == (1000, pool.num_workers + 1000)
        assert pool.submit(echo, 1).result(SECONDS) == 1


def test_tasks_done_are_told_by_worker(make):
    pool = make(2)
    wait([pool.submit(echo, number) for number in range(40)], SECONDS)
    soon(lambda: sum(worker.tasks_done for worker in pool.workers()) == 40)
    pool.submit(work, 0).result(SECONDS)
    assert all(worker.started_at > 0 for worker in pool.workers())
    soon(lambda: {worker.state for worker in pool.workers()} == {"idle"})


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"num_workers": 0},
        {"num_workers": -1},
        {"num_workers": 1.5},
        {"num_workers": "2"},
        {"num_workers": True},
        {"max_queue_size": 0},
        {"max_queue_size": -1},
        {"max_queue_size": 1.5},
        {"max_queue_size": "many"},
        {"name": 7},
        {"start_method": "thread"},
        {"start_method": 3},
        {"when_full": "explode"},
        {"when_full": None},
        {"queue_timeout": -0.1},
        {"queue_timeout": "soon"},
        {"queue_timeout": float("nan")},
        {"on_crash": "retry"},
        {"on_crash": None},
        {"on_crash": 3},
        {"task_timeout": 0},
        {"task_timeout": -1},
        {"task_timeout": "1s"},
        {"task_timeout": float("nan")},
        {"kill_grace": -1},
        {"kill_grace": "short"},
        {"max_tasks_per_worker": 0},
        {"max_tasks_per_worker": -1},
        {"max_tasks_per_worker": 2.5},
        {"max_worker_memory": 0},
        {"max_worker_memory": -1},
        {"max_worker_memory": "1G"},
        {"initializer": "setup"},
        {"initargs": 3},
        {"max_restarts": -1},
        {"max_restarts": 1.5},
        {"restart_period": 0},
        {"restart_period": -1},
        {"restart_period": "minute"},
        {"max_boot_failures": 0},
        {"max_boot_failures": -1},
        {"exit_deadline": -1},
        {"exit_deadline": "soon"},
    ],
    ids=lambda settings: " ".join(f"{name}={value!r}" for name, value in settings.items())[:40],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings):
    with pytest.raises((ValueError, TypeError), match=next(iter(settings))) as caught:
        WorkerPool(**settings)
    (value,) = settings.values()
    assert str(value) in str(caught.value) or repr(value) in str(caught.value) or isinstance(value, list), (
        "say what was got"
    )


@pytest.mark.parametrize("variable", ["no_colon", object(), 3], ids=["no colon", "object", "number"])
def test_context_variables_are_looked_at_when_the_pool_is_made(variable):
    with pytest.raises(
        (ValueError, TypeError, LookupError), match=r"^(a context variable|context_vars) must "
    ):
        WorkerPool(context_vars=[variable])


def test_the_sizes_of_the_guide_are_value_errors():
    for settings in ({"num_workers": 0}, {"num_workers": -1}, {"max_queue_size": 0}, {"max_queue_size": -1}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            WorkerPool(**settings)


def test_settings_have_names():
    with pytest.raises(TypeError):
        WorkerPool(1, 1, "name")
    with pytest.raises(TypeError, match="no_such_setting"):
        WorkerPool(no_such_setting=1)


@pytest.mark.parametrize("timeout", [-1, "soon", float("nan")])
def test_a_time_to_wait_for_a_result_is_checked(make, timeout):
    pool = make(1)
    with pytest.raises((ValueError, TypeError), match="timeout"):
        pool.get_result(timeout=timeout)


def test_a_pool_that_was_never_used_leaves_nothing(make):
    pool = make(2)
    assert pool.workers() == ()
    assert (pool.closed, bool(pool.broken), pool.pending) == (False, False, 0)
    pool.shutdown()
    assert pool.closed
    with pytest.raises(PoolClosed):
        pool.submit(echo)


def test_retry_prints_itself():
    assert "3" in repr(retry(3))
    assert retry(3) == retry(3)
