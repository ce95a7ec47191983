"""What goes there and back: arguments, results and exceptions that are hard to carry (invariants 17, 18, 20)."""

from __future__ import annotations

import array
import pickle
import sys
import types

import pytest
from pool_support import (
    MEGABYTE,
    METHODS,
    SECONDS,
    BadReduce,
    BadStr,
    HoldsLock,
    KeywordOnly,
    TwoArguments,
    WithLock,
    all_idle,
    at_full_strength,
    bounded,
    busy,
    double,
    echo,
    fail,
    large,
    raise_by_name,
    raise_chain,
    raise_group,
    raise_local,
    raise_noted,
    ready,
    return_bad_reduce,
    return_deep,
    return_evil,
    return_lambda,
    return_lock,
    return_that_fails_to_pickle,
    soon,
    sum_of,
)

from pytest_prodpatterns.lab import ChaosLab
from pytest_prodpatterns.patterns.pool import RemoteError

CANNOT_PICKLE = (pickle.PicklingError, TypeError, AttributeError, RecursionError, ValueError, RuntimeError)


@pytest.fixture(scope="module")
def shared():
    """One pool for all of these: none of them may harm it."""
    from pytest_prodpatterns.patterns.pool import WorkerPool

    with WorkerPool(2, 100, name="values") as pool:
        at_full_strength(pool)
        yield pool
        bounded(pool.shutdown, deadline=0)


@pytest.fixture
def unharmed(shared):
    """The same workers after the test, no place taken, no crash counted."""
    pids = sorted(all_idle(shared))
    yield shared
    soon(lambda: shared.pending == 0)
    assert [shared.submit(double, number).result(SECONDS) for number in range(6)] == [0, 2, 4, 6, 8, 10]
    assert sorted(all_idle(shared)) == pids
    assert (shared.stats().crashed, shared.stats().restarts) == (0, 0)


# --- that do not pickle ------------------------------------------------------------------------------------


def deep():
    found = []
    for _ in range(100_000):
        found = [found]
    return found


@pytest.mark.parametrize(
    "make_argument",
    [
        lambda: lambda: None,
        WithLock,
        lambda: sys.stdout,
        lambda: (n for n in "ab"),
        lambda: memoryview(b"ab"),
        deep,
        lambda: sys,
    ],
    ids=["lambda", "lock", "file", "generator", "memoryview", "deep", "module"],
)
def test_an_argument_that_does_not_pickle_is_the_callers_error(unharmed, make_argument):
    argument = make_argument()
    for submit in (unharmed.submit, unharmed.submit_task, unharmed.options(timeout=5).submit):
        with pytest.raises(CANNOT_PICKLE):
            submit(echo, argument)
    assert unharmed.pending == 0


@pytest.mark.parametrize(
    "task", [lambda: 1, lambda x: x, WithLock().lock.acquire], ids=["lambda", "lambda x", "bound"]
)
def test_a_task_that_does_not_pickle_is_the_callers_error(unharmed, task):
    with pytest.raises(CANNOT_PICKLE):
        unharmed.submit(task)
    assert unharmed.pending == 0


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no")], ids=repr)
def test_an_argument_whose_pickling_raises_raises_that(unharmed, error):
    from pool_support import FailsToPickle

    with pytest.raises((type(error), pickle.PicklingError), match="no"):
        unharmed.submit(echo, FailsToPickle(error))


def test_map_with_such_an_argument_leaves_nothing_behind(unharmed):
    with pytest.raises(CANNOT_PICKLE):
        list(unharmed.map(echo, [1, 2, lambda: 3]))
    soon(lambda: unharmed.pending == 0)


@pytest.mark.parametrize(
    ("task", "args", "word"),
    [
        (return_lock, (), "lock"),
        (return_lambda, (), "lambda"),
        (return_deep, (), "recursion"),
        (return_that_fails_to_pickle, (ValueError("not me"),), "not me"),
        (return_that_fails_to_pickle, (SystemExit("not me"),), "not me"),
        (return_bad_reduce, (), "no pickle"),
    ],
    ids=["lock", "lambda", "deep", "ValueError", "SystemExit", "BadReduce"],
)
def test_a_result_that_does_not_pickle_is_an_error_of_that_task(unharmed, task, args, word):
    error = unharmed.submit(task, *args).exception(10)
    assert isinstance(error, Exception)
    assert word in (repr(error.args) + str(error.__cause__)).lower()


@pytest.mark.parametrize(
    "error", [ValueError("evil"), SystemExit(3), KeyboardInterrupt(), RecursionError()], ids=repr
)
def test_a_result_that_cannot_be_loaded_is_an_error_of_that_task(unharmed, error):
    """The caller's side unpickles it: whatever is raised there must not end the pool's thread."""
    got = unharmed.submit(return_evil, error).exception(10)
    assert isinstance(got, Exception)


def test_a_task_that_the_worker_cannot_import_is_an_error_of_that_task(unharmed):
    """Known in this process alone, as a function typed in after the workers were forked."""
    module = types.ModuleType("only_here")
    exec("def task(): return 1", module.__dict__)  # noqa: S102
    sys.modules["only_here"] = module
    try:
        futures = [unharmed.submit(module.task) for _ in range(4)]
        for future in futures:
            error = future.exception(SECONDS)
            assert isinstance(error, Exception)
            assert "only_here" in str(error)
    finally:
        del sys.modules["only_here"]


# --- exceptions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "expected"),
    [
        ("TwoArguments", (7, "why"), {}, TwoArguments),
        ("KeywordOnly", (), {"code": 7}, KeywordOnly),
        ("HoldsLock", ("held",), {}, HoldsLock),
        ("BadStr", ("x",), {}, BadStr),
        ("BadReduce", ("x",), {}, BadReduce),
    ],
)
def test_an_exception_arrives_as_itself_however_it_is_built(unharmed, name, args, kwargs, expected):
    error = unharmed.submit(raise_by_name, name, *args, **kwargs).exception(SECONDS)
    assert type(error) is expected
    assert "raise_by_name" in str(error.__cause__)


def test_what_an_exception_carries_arrives(unharmed):
    error = unharmed.submit(raise_by_name, "TwoArguments", 7, "why").exception(SECONDS)
    assert (error.code, error.reason, str(error)) == (7, "why", "7: why")
    assert unharmed.submit(raise_by_name, "KeywordOnly", code=7).exception(SECONDS).code == 7
    assert str(unharmed.submit(raise_by_name, "HoldsLock", "held").exception(SECONDS)) == "held"


def test_an_exception_without_arguments_is_an_exception(unharmed):
    error = unharmed.submit(fail, ValueError()).exception(SECONDS)
    assert (type(error), error.args) == (ValueError, ())


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_would_end_the_caller_arrives_as_a_remote_error(unharmed, kind):
    error = unharmed.submit(fail, kind("stop")).exception(SECONDS)
    assert type(error) is RemoteError
    assert error.type_name.endswith(kind.__name__)
    assert "stop" in error.text
    assert "in fail" in error.traceback


def test_a_type_that_nobody_can_import_arrives_as_a_remote_error(unharmed):
    error = unharmed.submit(raise_local).exception(SECONDS)
    assert type(error) is RemoteError
    assert error.type_name.endswith("Local")
    assert error.text == "from a function"
    assert "in raise_local" in error.traceback


def test_the_remote_traceback_is_told_with_its_chain(unharmed):
    error = unharmed.submit(raise_chain).exception(SECONDS)
    assert type(error) is KeyError
    assert type(error.__cause__).__name__ == "RemoteTraceback"
    text = str(error.__cause__)
    for part in ("in raise_chain", "in boom", "ValueError: boom", "direct cause", "pool_support.py"):
        assert part in text


def test_groups_and_notes_arrive(unharmed):
    error = unharmed.submit(raise_group).exception(SECONDS)
    assert [type(each) for each in error.exceptions] == [ValueError, TypeError]
    assert unharmed.submit(raise_noted).exception(SECONDS).__notes__ == ["look here"]


# --- large values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 2**20 + 7, 20 * MEGABYTE])
def test_payloads_of_all_sizes_go_there_and_back(pools, method, size):
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    got = pools(method).submit(echo, data).result(SECONDS)
    assert got == data
    assert type(got) is bytes


@pytest.fixture(scope="module")
def pools():
    """A pool of each start method, made when it is first asked for."""
    from pytest_prodpatterns.patterns.pool import WorkerPool

    made = {}

    def get(method):
        if method not in made:
            made[method] = WorkerPool(1, 100, start_method=method).start()
            at_full_strength(made[method])
        return made[method]

    for method in METHODS:  # all of them before the first test counts what is open
        get(method)
    yield get
    for pool in made.values():
        bounded(pool.shutdown, deadline=0)


@pytest.mark.parametrize(
    "data",
    [
        bytearray(b"x" * 300_000),
        array.array("d", [1.5] * 50_000),
        "é" * 300_000,
        list(range(100_000)),
        {"a": bytes(10**6)},
    ],
    ids=["bytearray", "array", "str", "list", "dict"],
)
def test_large_values_keep_their_type(unharmed, data):
    got = unharmed.submit(echo, data).result(SECONDS)
    assert got == data
    assert type(got) is type(data)


def test_a_bytearray_that_came_back_can_be_changed(unharmed):
    got = unharmed.submit(echo, bytearray(300_000)).result(SECONDS)
    got[0] = 1
    got.append(2)
    assert (got[0], len(got)) == (1, 300_001)


class Buffers:
    """Hands its memory to pickle as buffers, as numpy's arrays do."""

    def __init__(self, *data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Buffers, tuple(map(pickle.PickleBuffer, self.data))

    def __eq__(self, other):
        return [bytes(each) for each in self.data] == [bytes(each) for each in other.data]

    __hash__ = None


@pytest.mark.parametrize("sizes", [(10,), (300_000,), (5 * MEGABYTE, 3, 0, 70_000)], ids=str)
def test_out_of_band_buffers_go_there_and_back(unharmed, sizes):
    sent = Buffers(*(bytearray(index % 251 for index in range(size)) for size in sizes))
    assert unharmed.submit(echo, sent).result(SECONDS) == sent


def test_memory_that_was_writable_is_writable_there(unharmed):
    assert unharmed.submit(write_into, Buffers(bytearray(300_000))).result(SECONDS) == 7


def write_into(buffers):
    view = memoryview(buffers.data[0])
    view[0] = 7
    return view[0]


@pytest.mark.parametrize("wrap", [lambda data: data, Buffers], ids=["bytearray", "buffers"])
def test_what_is_changed_after_submit_is_not_changed_in_the_task(make, gate, wrap):
    """The task gets what stood there when submit was called."""
    pool = make(1)
    busy(pool, gate)
    data = bytearray(b"a" * 2_000_000)
    future = pool.submit(first_byte, wrap(data))
    data[:] = b"b" * 2_000_000
    gate.open()
    assert future.result(SECONDS) == ord("a")


def first_byte(data):
    return memoryview(getattr(data, "data", [data])[0])[0]


def test_many_large_values_at_once(unharmed):
    futures = [unharmed.submit(sum_of, bytes([number]) * MEGABYTE) for number in range(30)]
    assert [future.result(SECONDS) for future in futures] == [
        (MEGABYTE, 1000 * n, "bytes") for n in range(30)
    ]
    futures = [unharmed.submit(large, MEGABYTE) for _ in range(30)]
    assert {len(future.result(SECONDS)) for future in futures} == {MEGABYTE}


def test_a_worker_that_reads_a_large_value_is_not_silent(make):
    """Taken back for silence, sent again, and taken back again, a larger one would never arrive."""
    pool = make(2)
    all_idle(pool.start())
    size = 100 * MEGABYTE
    with ChaosLab(1, "large") as lab:
        future = pool.submit(len, bytes(size))
        assert future.result(SECONDS) == size
        assert len(lab.timeline.where(kind="stolen", task=future.task_id)) <= 1, "once, on a busy machine"


def test_a_large_value_on_its_way_does_not_hold_up_the_other_worker(make, gate):
    """The supervisor never waits for one socket."""
    from pool_support import kill, stop

    pool = make(2)
    pool.start()
    pid = all_idle(pool)[0]
    busy_futures = busy(pool, gate, 1)
    other = next(worker.pid for worker in pool.workers() if worker.state == "idle")
    stop(other)
    try:
        big = pool.submit(sum_of, bytes(20 * MEGABYTE))
        gate.open()
        assert busy_futures[0].result(SECONDS) == "held 0"
        assert [pool.submit(double, number).result(SECONDS) for number in range(10)] == [
            2 * n for n in range(10)
        ]
    finally:
        kill(other, 18)
    assert big.result(SECONDS)[0] == 20 * MEGABYTE
    assert pid


# --- the streams of the process ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_what_a_task_prints_does_not_get_into_the_results(script, method):
    program = script(
        """
        with WorkerPool(1, start_method=arguments[0]) as pool:
            say(pool.submit(write_stdout, "hello").result(10))
        """,
        method,
    )
    assert sorted(program.line() for _ in range(3)) == ["hello", "hello", "written"]
    assert program.wait() == 0


def test_a_task_that_closes_its_descriptors_harms_only_itself(make):
    pool = make(1)
    future = pool.submit(close_all)
    assert future.exception(SECONDS) is not None
    assert pool.submit(double, 4).result(SECONDS) == 8
    assert len(ready(pool)) == 1


def close_all():
    import os

    os.closerange(3, 256)
