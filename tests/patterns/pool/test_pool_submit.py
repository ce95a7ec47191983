"""The executor's face, and the guide's names beside it."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import os
import threading
import time

import pytest
from pool_support import (
    METHODS,
    SECONDS,
    Accumulator,
    TwoArguments,
    alive,
    all_idle,
    at_full_strength,
    boom,
    bounded,
    busy,
    die,
    double,
    echo,
    everything,
    fail,
    gone,
    hold,
    note,
    notes,
    raise_by_name,
    ready,
    soon,
    tell_main_thread,
    tell_pid,
    use_process,
    work,
)

from pytest_prodpatterns.lab import use_clock
from pytest_prodpatterns.patterns.pool import PoolError, QueueFull, RemoteError, TaskTimeout, WorkerPool


@pytest.mark.parametrize("method", METHODS)
def test_a_task_runs_in_a_worker_of_each_start_method(make, method):
    pool = make(2, start_method=method)
    assert pool.submit(tell_pid).result(SECONDS) in [worker.pid for worker in pool.workers()]
    assert pool.submit(tell_pid).result(SECONDS) != os.getpid()
    assert pool.submit(tell_main_thread).result(SECONDS) is True, "signal handlers need the main thread"
    assert sorted(pool.map(double, range(20))) == [2 * number for number in range(20)]


@pytest.mark.parametrize("method", METHODS)
def test_a_task_may_run_programs_of_its_own(make, method):
    assert make(1, start_method=method).submit(use_process).result(SECONDS) == "42\n"


def test_arguments_arrive_whatever_they_are_called(make):
    names = {"fn": 1, "self": 2, "timeout": 3, "task_id": 4, "args": 5, "kwargs": 6, "pool": 7}
    assert make().submit(everything, 1, "b", **names).result(SECONDS) == ((1, "b"), names)


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        (functools.partial(double, 4), (), 8),
        (len, ([1, 2, 3],), 3),
        (str.upper, ("a",), "A"),
        ("-".join, (["a", "b"],), "a-b"),
        (Accumulator, (3,), None),
        (Accumulator(3), (4,), 7),
        (Accumulator(3).add, (5,), 8),
        (int, (), 0),
        (os.path.join, ("a", "b"), "a/b"),
    ],
    ids=["partial", "builtin", "unbound", "bound builtin", "class", "object", "method", "type", "function"],
)
def test_anything_callable_that_pickles_is_a_task(make, function, args, expected):
    value = make(1).submit(function, *args).result(SECONDS)
    assert value == expected or isinstance(value, Accumulator)


@pytest.mark.parametrize("thing", [None, 3, "echo", ["echo"]])
def test_what_is_not_callable_is_refused(make, thing):
    pool = make()
    with pytest.raises(TypeError, match="callable"):
        pool.submit(thing)
    with pytest.raises(TypeError, match="callable"):
        pool.submit_task(thing)
    with pytest.raises(TypeError, match="callable"):
        pool.options(timeout=1).submit(thing)
    with pytest.raises(TypeError, match="callable"):
        list(pool.map(thing, [1]))
    assert pool.pending == 0


def test_the_standard_library_can_work_with_it(make):
    pool = make()
    assert isinstance(pool, concurrent.futures.Executor)
    futures = {pool.submit(double, number): number for number in range(50)}
    assert all(isinstance(future, concurrent.futures.Future) for future in futures)
    for future in concurrent.futures.as_completed(futures, SECONDS):
        assert future.result() == 2 * futures[future]
    done, pending = concurrent.futures.wait([pool.submit(boom), pool.submit(echo)], SECONDS)
    assert (len(done), len(pending)) == (2, 0)
    failed = next(iter(done & {future for future in done if future.exception()}))
    assert isinstance(failed.exception(), ValueError)


def test_first_completed_and_running_are_told(make, gate):
    pool = make(1)
    (held,) = busy(pool, gate)
    waiting = pool.submit(echo, "later")
    soon(held.running, "a task in a worker should be running")
    assert not waiting.done()
    done, pending = concurrent.futures.wait([held, waiting], 0)
    assert (done, pending) == (set(), {held, waiting})
    with pytest.raises(TimeoutError):
        held.result(0)
    gate.open()
    assert (held.result(SECONDS), waiting.result(SECONDS)) == ("held 0", "later")
    assert held.done()
    assert not held.running()


def test_nothing_is_a_value_too(make):
    pool = make(1)
    future = pool.submit(echo, None)
    assert (future.result(SECONDS), future.exception()) == (None, None)
    assert [pool.submit(echo, value).result(SECONDS) for value in (False, 0, "", [], {})] == [
        False,
        0,
        "",
        [],
        {},
    ]


def test_an_error_is_not_a_value(make):
    pool = make(1)
    assert isinstance(pool.submit(fail, ValueError()).exception(SECONDS), ValueError)
    assert pool.submit(echo, ValueError("returned")).result(SECONDS).args == ("returned",)
    with pytest.raises(ValueError, match=r"^boom$"):
        pool.submit(boom).result(SECONDS)


def test_ids_differ_even_when_all_clocks_stand_still(make, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1.0)
    with use_clock(lambda: 1.0):
        pool, other = make(), make()
        futures = [each.submit(echo, number) for number in range(50) for each in (pool, other)]
        ids = [future.task_id for future in futures] + [pool.submit_task(echo) for _ in range(50)]
        assert all(isinstance(task_id, str) and task_id for task_id in ids)
        assert len(set(ids[:100:2]) | set(ids[100:])) == 100
        assert [future.result(SECONDS) for future in futures] == [n for n in range(50) for _ in "ab"]


def test_each_caller_gets_its_own_results(make):
    pool, wrong, barrier = make(2, 50), [], threading.Barrier(4)

    def caller(name):
        barrier.wait()
        futures = [(number, pool.submit(echo, (name, number))) for number in range(200)]
        wrong.extend(future for number, future in futures if future.result(SECONDS) != (name, number))

    threads = [threading.Thread(target=caller, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * SECONDS)
        assert not thread.is_alive()
    assert wrong == []
    soon(lambda: pool.stats().completed == 800)
    assert pool.pending == 0


def test_two_callers_of_the_guides_names_get_their_own_by_id(make):
    pool, wrong = make(2, 20), []

    def caller(name):
        ids = {pool.submit_task(echo, (name, number)): number for number in range(200)}
        wrong.extend(i for i, number in ids.items() if pool.get_result(i, timeout=SECONDS) != (name, number))

    threads = [threading.Thread(target=caller, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * SECONDS)
        assert not thread.is_alive()
    assert wrong == []


# --- the guide's names -------------------------------------------------------------------------------------


def test_the_guides_example_works_as_printed():
    pool = WorkerPool(num_workers=4)
    pool.start()
    try:
        task_ids = [pool.submit_task(double, number) for number in range(10)]
        results = {}
        for _ in range(10):
            result = pool.get_result(timeout=30)
            if result:
                task_id, value, error = result
                results[task_id] = (value, error)
        assert [results[task_id] for task_id in task_ids] == [(2 * number, None) for number in range(10)]
    finally:
        pool.shutdown()


def test_results_are_collected_in_the_order_in_which_they_end(make, gate):
    pool = make(2)
    first = pool.submit_task(hold, gate, "first")
    gate.await_entered(1)
    second = pool.submit_task(echo, "second")
    assert pool.get_result(timeout=SECONDS) == (second, "second", None)
    gate.open()
    assert pool.get_result(timeout=SECONDS) == (first, "first", None)


def test_a_failure_is_collected_with_its_error(make):
    pool = make(1)
    task_id = pool.submit_task(boom)
    got, value, error = pool.get_result(timeout=SECONDS)
    assert (got, value, type(error), str(error)) == (task_id, None, ValueError, "boom")
    task_id = pool.submit_task(fail, ValueError())
    assert isinstance(pool.get_result(timeout=SECONDS)[2], ValueError)
    task_id = pool.submit_task(die, 3)
    got, value, error = pool.get_result(timeout=SECONDS)
    assert (got, value, error.exitcode, error.task_id) == (task_id, None, 3, task_id)
    task_id = pool.submit_task(boom)
    with pytest.raises(ValueError, match=r"^boom$"):
        pool.get_result(task_id, timeout=SECONDS)


def test_no_result_in_time_is_an_error_and_takes_no_longer(make, gate):
    pool = make(1)
    task_id = pool.submit_task(hold, gate)
    gate.await_entered()
    for identity in (None, task_id):
        for timeout in (0, 0.05):
            begin = time.monotonic()
            with pytest.raises(TimeoutError):
                pool.get_result(identity, timeout=timeout)
            assert time.monotonic() - begin < timeout + 0.2
    gate.open()
    assert pool.get_result(task_id, timeout=SECONDS) == "held"


def test_a_result_is_collected_once(make):
    pool = make(1)
    first, second = pool.submit_task(echo, 1), pool.submit_task(echo, 2)
    assert pool.get_result(first, timeout=SECONDS) == 1
    assert pool.get_result(timeout=SECONDS) == (second, 2, None)
    with pytest.raises((TimeoutError, LookupError)):
        pool.get_result(timeout=0.01)
    with pytest.raises(LookupError, match=first):
        pool.get_result(first, timeout=0.01)


def test_an_unknown_id_is_told_apart_from_one_that_is_not_done(make):
    pool = make(1)
    with pytest.raises(LookupError, match="no-such-task"):
        pool.get_result("no-such-task", timeout=0.01)


def test_futures_do_not_pile_up_for_get_result(make):
    pool = make(1)
    assert pool.submit(echo, "mine").result(SECONDS) == "mine"
    with pytest.raises((TimeoutError, LookupError)):
        pool.get_result(timeout=0.01)


def test_a_waiting_collector_wakes_up(make, gate):
    pool = make(1)
    task_id = pool.submit_task(hold, gate, "woken")
    gate.await_entered()
    got = []
    thread = threading.Thread(target=lambda: got.append(pool.get_result(timeout=SECONDS)))
    thread.start()
    gate.open()
    thread.join(SECONDS)
    assert got == [(task_id, "woken", None)]


def test_collectors_in_threads_share_the_results(make):
    pool, got = make(2), []

    def collect():
        got.extend(pool.get_result(timeout=SECONDS) for _ in range(50))

    threads = [threading.Thread(target=collect) for _ in range(4)]
    for thread in threads:
        thread.start()
    ids = {pool.submit_task(echo, number): number for number in range(200)}
    for thread in threads:
        thread.join(2 * SECONDS)
    assert {task_id: value for task_id, value, _ in got} == ids
    assert len(got) == 200


# --- map ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 7])
def test_map_keeps_the_order(make, chunksize, buffersize):
    pool = make(2, 5)
    mapped = pool.map(double, range(100), chunksize=chunksize, buffersize=buffersize)
    assert list(mapped) == [2 * number for number in range(100)]
    assert pool.pending == 0


def test_map_takes_several_iterables_and_stops_at_the_shortest(make):
    pool = make(2)
    expected = [((1, "a"), {}), ((2, "b"), {})]
    assert list(pool.map(everything, [1, 2, 3], "ab")) == expected
    assert list(pool.map(everything, [1, 2, 3], "ab", chunksize=2)) == expected
    assert list(pool.map(echo, [])) == []


def test_map_of_more_than_the_queue_holds_does_not_jam(make):
    assert list(make(2, 1).map(double, range(300))) == [2 * number for number in range(300)]


def test_map_starts_before_anybody_asks(make, gate, tmp_path):
    pool = make(2)
    mapped = pool.map(note, itertools.repeat(str(tmp_path / "log"), 3), ["a", "b", "c"])
    soon(lambda: len(notes(tmp_path / "log")) == 3, "map should start at once")
    assert list(mapped) == [None] * 3


def test_a_map_does_not_wait_for_more_items_before_it_starts(make, tmp_path):
    def words():
        yield "a"
        soon(lambda: notes(tmp_path / "log"), "the first should start before the second is there")
        yield "b"

    log = str(tmp_path / "log")
    assert [*make(2).map(note, [log, log], words())] == [None] * 2


class Written:
    """An argument that counts how often one like it was pickled."""

    times = 0

    def __init__(self, size):
        self.data = bytes(size)

    def __reduce__(self):
        Written.times += 1
        return len, (self.data,)


@pytest.mark.parametrize(("size", "written"), [(100_000, 3), (10, 30)], ids=["large", "small"])
def test_a_map_writes_one_large_call_at_most_that_finds_no_place(make, gate, monkeypatch, size, written):
    monkeypatch.setattr(Written, "times", 0)
    pool = make(1, 2, when_full="reject")
    busy(pool, gate)
    with pytest.raises(QueueFull):
        pool.map(echo, [Written(size) for _ in range(30)])
    assert Written.times == written


@pytest.mark.parametrize("chunksize", [1, 4])
def test_map_with_a_buffer_reads_its_input_as_it_is_used(make, chunksize):
    read = []
    source = (read.append(number) or number for number in itertools.count())
    mapped = make(2).map(double, source, buffersize=8, chunksize=chunksize)
    for taken in range(50):
        assert next(mapped) == 2 * taken
        assert len(read) <= (taken // chunksize + 1 + 8) * chunksize, (
            "as in the library: the buffer counts chunks"
        )
    mapped.close()


def test_map_raises_where_the_failure_is(make):
    mapped = make(2).map(raise_or_echo, [1, 2, "TwoArguments", 4])
    assert [next(mapped), next(mapped)] == [1, 2]
    with pytest.raises(TwoArguments):
        next(mapped)


def raise_or_echo(value):
    if isinstance(value, str):
        raise_by_name(value, 1, "two")
    return value


def test_a_worker_lost_in_map_is_an_error_there(make):
    pool = make(2)
    mapped = pool.map(die_at, [1, 2, 3, 4])
    assert [next(mapped), next(mapped)] == [1, 2]
    with pytest.raises(PoolError) as caught:
        next(mapped)
    assert caught.value.exitcode == 5
    at_full_strength(pool)


def die_at(number):
    if number == 3:
        os._exit(5)
    return number


def test_map_has_a_time_limit(make, gate):
    pool = make(2)
    at_full_strength(pool.start())
    begin = time.monotonic()
    mapped = pool.map(wait_or_echo, [None, gate], timeout=1.0)
    assert next(mapped) is None
    with pytest.raises(TimeoutError):
        next(mapped)
    assert time.monotonic() - begin < 6


def wait_or_echo(gate):
    return gate if gate is None else hold(gate)


def test_a_map_that_is_given_up_cancels_what_has_not_begun(make, gate, tmp_path):
    pool = make(1)
    log = str(tmp_path / "log")
    mapped = pool.map(note_or_hold, [log, gate, *itertools.repeat(log, 5)])
    assert next(mapped) == log
    gate.await_entered()
    mapped.close()
    gate.open()
    soon(lambda: pool.pending == 0)
    assert len(notes(log)) == 1


def note_or_hold(thing):
    return note(thing, "ran", thing) if isinstance(thing, str) else hold(thing)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": -1}, ValueError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": -1}, ValueError),
        ({"buffersize": 1.5}, TypeError),
    ],
    ids=str,
)
def test_map_refuses_what_makes_no_sense(make, options, error):
    pool = make()
    with pytest.raises(error, match=next(iter(options))):
        list(pool.map(echo, [1], **options))
    assert pool.pending == 0


# --- options -----------------------------------------------------------------------------------------------


def test_options_hold_for_the_submits_of_that_view_alone(make, gate):
    pool = make(2)
    hurried = pool.options(timeout=0.1)
    assert isinstance(hurried, concurrent.futures.Executor)
    late, patient = hurried.submit(hold, gate, "late"), pool.submit(hold, gate, "patient")
    with pytest.raises(TaskTimeout):
        late.result(SECONDS)
    gate.await_entered(2)
    gate.open()
    assert patient.result(SECONDS) == "patient"
    assert list(hurried.map(double, range(5))) == [0, 2, 4, 6, 8]


def test_options_can_be_combined_and_left_out(make, gate):
    pool = make(1, 1, when_full="reject", task_timeout=30)
    view = pool.options(when_full="block").options(queue_timeout=0.05)
    busy(pool, gate)
    pool.submit(echo)
    begin = time.monotonic()
    with pytest.raises(QueueFull):
        view.submit(echo)
    assert 0.04 < time.monotonic() - begin < 5
    with pytest.raises(QueueFull):
        pool.submit(echo)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": "1"},
        {"on_crash": "explode"},
        {"on_crash": 3},
        {"when_full": "wait"},
        {"queue_timeout": -1},
        {"queue_timeout": "soon"},
        {"no_such_option": 1},
    ],
    ids=str,
)
def test_options_are_checked_at_the_door(make, options):
    with pytest.raises((ValueError, TypeError), match=next(iter(options))):
        make().options(**options)


# --- callbacks and cancelling ------------------------------------------------------------------------------


def test_callbacks_run_and_may_fail(make, caplog):
    pool, seen = make(1), []
    future = pool.submit(echo, 1)
    future.add_done_callback(lambda _: boom())
    future.add_done_callback(seen.append)
    soon(lambda: seen == [future])
    future.add_done_callback(seen.append)
    soon(lambda: seen == [future, future])
    assert pool.submit(echo, 2).result(SECONDS) == 2


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_callback_cannot_end_the_pool(make, gate, error, caplog):
    pool = make(1)
    (held,) = busy(pool, gate)
    behind = [pool.submit(echo, number) for number in range(5)]

    def leave(future):
        raise error("from a callback")

    held.add_done_callback(leave)
    gate.open()
    assert [future.result(SECONDS) for future in behind] == list(range(5))
    assert pool.submit(echo, "still here").result(SECONDS) == "still here"
    assert not pool.broken


def test_a_callback_may_submit_even_when_others_wait_for_a_place(make, gate):
    pool, chained, errors = make(1, 1), [], []

    def follow(future):
        try:
            chained.append(pool.submit(echo, "chained"))
        except QueueFull as error:
            errors.append(error)

    (held,) = busy(pool, gate)
    held.add_done_callback(follow)
    waiting = pool.submit(echo, "waiting")
    waiting.add_done_callback(follow)
    blocked = []
    threads = [
        threading.Thread(target=lambda: blocked.append(pool.submit(echo, "blocked"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    soon(lambda: pool.pending == pool.capacity)
    gate.open()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "a submit from a callback jammed the pool"
    soon(lambda: len(chained) + len(errors) == 2)
    assert all(future.result(SECONDS) for future in blocked + chained + [waiting])


def test_a_queued_task_that_is_cancelled_never_runs(make, gate, tmp_path):
    pool = make(1, 3)
    busy(pool, gate)
    futures = [pool.submit(note, str(tmp_path / "log"), str(number)) for number in range(3)]
    assert pool.pending == pool.capacity
    assert futures[1].cancel()
    soon(lambda: pool.pending == 3, "a cancelled task should give its place back")
    assert futures[1].cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        futures[1].result(SECONDS)
    gate.open()
    concurrent.futures.wait([futures[0], futures[2]], SECONDS)
    assert pool.submit(echo, 1).result(SECONDS) == 1
    assert [word for word, _ in notes(tmp_path / "log")] == ["0", "2"]
    assert pool.stats().cancelled == 1


def test_many_queued_tasks_can_be_cancelled(make, gate, tmp_path):
    pool = make(2)
    held = busy(pool, gate)
    futures = [pool.submit(note, str(tmp_path / "log"), str(number)) for number in range(100)]
    assert all(future.cancel() for future in futures[::2])
    gate.open()
    concurrent.futures.wait(futures + held, SECONDS)
    assert sorted(int(word) for word, _ in notes(tmp_path / "log")) == list(range(1, 100, 2))
    soon(lambda: pool.pending == 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_running_task_that_is_cancelled_ends(make, gate, method):
    pool = make(2, start_method=method)
    victim, neighbour = busy(pool, gate)
    queued = [pool.submit(echo, number) for number in range(10)]
    pid = gate.pid_of("held 0")
    assert victim.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        victim.result(SECONDS)
    assert victim.cancelled()
    gone(pid)
    assert pid not in at_full_strength(pool)
    assert [future.result(SECONDS) for future in queued] == list(range(10))
    gate.open()
    assert neighbour.result(SECONDS) == "held 1"
    assert pool.stats().cancelled == 1
    assert pool.stats().crashed == 0


def test_a_running_task_that_ignores_sigterm_can_be_cancelled(make, gate):
    pool = make(1, kill_grace=0.05)
    future = pool.submit(hold, gate, immune=True)
    ((_, pid),) = gate.await_entered()
    assert future.cancel()
    gone(pid)
    assert pool.submit(echo, 1).result(SECONDS) == 1


def test_what_is_over_cannot_be_cancelled(make):
    pool = make(1)
    future = pool.submit(echo, 1)
    future.result(SECONDS)
    assert not future.cancel()
    assert not future.cancelled()


def test_cancelling_twice_is_cancelling_once(make, gate):
    pool = make(1, 1)
    (held,) = busy(pool, gate)
    assert held.cancel()
    assert held.cancel()
    soon(lambda: pool.pending == 0)
    assert pool.stats().cancelled == 1


def test_cancel_against_finish_ends_each_task_once(make):
    pool, ended = make(2, 100, max_restarts=10_000), []
    for turn in range(30):
        future = pool.submit(work, 0.001 * (turn % 4), turn)
        future.add_done_callback(ended.append)
        while not (future.running() or future.done()):
            time.sleep(0)
        cancelled = future.cancel()
        concurrent.futures.wait([future], SECONDS)
        assert future.cancelled() or future.result(0) == turn
        assert cancelled == future.cancelled()
    soon(lambda: pool.pending == 0)
    assert len(ended) == len(set(map(id, ended))) == 30
    at_full_strength(pool)
    assert [pool.submit(echo, number).result(SECONDS) for number in range(6)] == list(range(6))


# --- fairness ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [0, 1000])
def test_quick_tasks_do_not_wait_behind_a_held_one(make, gate, tmp_path, warm):
    pool, log = make(2), str(tmp_path / "log")
    for future in [pool.submit(echo, number) for number in range(warm)]:
        future.result(SECONDS)
    quick = [pool.submit(note, log, str(number), number) for number in range(20)]
    held = pool.submit(hold, gate)
    quick += [pool.submit(note, log, str(number), number) for number in range(20, 60)]
    gate.await_entered()
    assert [future.result(SECONDS) for future in quick] == list(range(60))
    assert not held.done()
    gate.open()
    assert held.result(SECONDS) == "held"
    assert sorted(int(word) for word, _ in notes(log)) == list(range(60)), "each ran once"


def test_all_workers_are_used(make, gate):
    pool = make(3)
    assert len(all_idle_after_start(pool)) == 3
    busy(pool, gate)
    assert len({pid for _, pid in gate.entered}) == 3


def all_idle_after_start(pool):
    pool.start()
    return all_idle(pool)


def test_tasks_begin_in_the_order_in_which_they_were_given(make, gate, tmp_path):
    pool = make(1)
    busy(pool, gate)
    futures = [pool.submit(note, str(tmp_path / "log"), str(number)) for number in range(50)]
    gate.open()
    concurrent.futures.wait(futures, SECONDS)
    assert [int(word) for word, _ in notes(tmp_path / "log")] == list(range(50))


# --- counting ----------------------------------------------------------------------------------------------


def test_stats_count_what_happened(make, gate):
    """`crashed` and `timed_out` are kinds of `failed`; only deaths that nobody ordered are restarts."""
    pool = make(2, 10, task_timeout=30)
    assert (pool.capacity, pool.pending, pool.num_workers, pool.max_queue_size) == (12, 0, 2, 10)
    held = busy(pool, gate)
    queued = [pool.submit(echo, number) for number in range(3)]
    stats = soon(lambda: pool.stats().running == 2 and pool.stats())
    assert (stats.queued, stats.running, stats.unfinished, stats.capacity) == (3, 2, 5, 12)
    assert (stats.workers, stats.busy, pool.pending) == (2, 2, 5)
    gate.open()
    for future in held + queued:
        future.result(SECONDS)
    outcomes = [pool.submit(boom), pool.submit(die), pool.options(timeout=0.1).submit(work, 30)]
    for future in outcomes:
        assert future.exception(SECONDS) is not None
    at_full_strength(pool)
    stats = soon(lambda: pool.stats().unfinished == 0 and pool.stats())
    assert (stats.submitted, stats.completed, stats.failed, stats.crashed, stats.timed_out) == (8, 5, 3, 1, 1)
    assert (stats.cancelled, stats.retried, stats.restarts) == (0, 0, 1)
    assert stats.durations.count >= 5
    assert 0 <= stats.durations.mean <= stats.durations.max <= stats.durations.total


def test_workers_are_told(make, gate):
    pool = make(2)
    pool.start()
    all_idle(pool)
    assert [worker.task_id for worker in pool.workers()] == [None, None]
    (held,) = busy(pool, gate, 1)
    by_state = soon(
        lambda: (found := {w.state: w for w in pool.workers()}).keys() == {"busy", "idle"} and found,
        "one worker should be busy, one idle",
    )
    assert by_state["busy"].task_id == held.task_id
    assert by_state["busy"].pid == gate.entered[0][1]
    assert all(alive(worker.pid) for worker in pool.workers())
    gate.open()
    held.result(SECONDS)
    soon(lambda: sum(worker.tasks_done for worker in pool.workers()) == 1)


def test_remote_errors_name_what_ended_the_task(make):
    error = make(1).submit(raise_exit).exception(SECONDS)
    assert isinstance(error, RemoteError)
    assert error.type_name.endswith("SystemExit")


def raise_exit():
    raise SystemExit(3)


def test_it_starts_by_itself_and_only_once(make):
    pool = make(2)
    assert pool.workers() == ()
    assert pool.submit(echo, 1).result(SECONDS) == 1
    pids = sorted(at_full_strength(pool))
    assert pool.start() is pool
    assert sorted(ready(pool)) == pids


def test_threads_that_start_it_at_once_start_it_once(make):
    pool, barrier = make(2), threading.Barrier(8)

    def start():
        barrier.wait()
        return pool.submit(tell_pid)

    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        futures = list(executor.map(lambda _: start(), range(8)))
    assert {future.result(SECONDS) for future in futures} <= set(at_full_strength(pool))
    assert len(pool.workers()) == 2


def test_the_door_of_a_block_waits_for_what_was_given(tmp_path):
    with WorkerPool(2, name="block") as pool:
        futures = [pool.submit(note, str(tmp_path / "log"), str(number)) for number in range(20)]
        assert pool.name == "block"
    assert all(future.done() for future in futures)
    assert len(notes(tmp_path / "log")) == 20
    assert pool.closed
    assert bounded(pool.shutdown) is None
