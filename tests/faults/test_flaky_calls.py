"""`flaky` and the faults: each fault on each kind of callable, counting, naming, undoing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from pytest_prodpatterns import faults
from pytest_prodpatterns.faults import flaky, plan
from pytest_prodpatterns.faults._scene import Release
from pytest_prodpatterns.lab import ChaosLab


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a loop of its own; `asyncio.run` would take away the loop that pytest-asyncio set."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(main)


def add(a: int, b: int = 2) -> list[int]:
    return [a, b, 3]


async def add_async(a: int, b: int = 2) -> list[int]:
    return [a, b, 3]


def count(a: int, b: int = 2) -> Iterator[int]:
    yield a
    yield b
    yield 3


async def count_async(a: int, b: int = 2) -> AsyncIterator[int]:
    yield a
    yield b
    yield 3


class Service:
    def __call__(self, a: int, b: int = 2) -> list[int]:
        return [a, b, 3]

    def add(self, a: int, b: int = 2) -> list[int]:
        return [a, b, 3]

    async def add_async(self, a: int, b: int = 2) -> list[int]:
        return [a, b, 3]


class AsyncService:
    async def __call__(self, a: int, b: int = 2) -> list[int]:
        return [a, b, 3]


class StreamService:
    async def __call__(self, a: int, b: int = 2) -> AsyncIterator[int]:
        yield a
        yield b
        yield 3


CALLABLES: dict[str, Callable[..., Any]] = {
    "function": add,
    "coroutine function": add_async,
    "generator function": count,
    "async generator function": count_async,
    "bound method": Service().add,
    "bound coroutine method": Service().add_async,
    "partial": functools.partial(add, b=2),
    "partial of a coroutine function": functools.partial(add_async, b=2),
    "partial of a generator": functools.partial(count, b=2),
    "object": Service(),
    "async object": AsyncService(),
    "async generator object": StreamService(),
    "lambda": lambda a, b=2: [a, b, 3],
    "mock": Mock(return_value=[1, 2, 3]),
    "async mock": AsyncMock(return_value=[1, 2, 3]),
    "cached": functools.lru_cache(add),
}
each_callable = pytest.mark.parametrize("target", CALLABLES.values(), ids=CALLABLES)
each_kind = pytest.mark.parametrize("target", [add, add_async, count, count_async])


async def collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def result_of(call: Callable[..., Any], *args: Any) -> Any:
    """Make the call in the way of its kind and return everything it gives."""
    result = call(*args)
    if inspect.isasyncgen(result):
        return run(collect(result))
    if inspect.iscoroutine(result):
        return run(result)
    return list(result)


@each_callable
def test_a_call_that_is_not_struck_goes_through(target: Callable[..., Any]) -> None:
    call = flaky(target, fault=faults.raises(OSError), when=plan.never())
    assert result_of(call, 1) == [1, 2, 3]
    assert (call.calls, call.fault.fired) == (1, 0)


@each_callable
def test_raises_strikes_every_kind(target: Callable[..., Any]) -> None:
    call = flaky(target, fault=faults.raises(ConnectionError, "gone"), when=plan.calls(2))
    result_of(call, 1)
    with pytest.raises(ConnectionError, match=r"^gone$"):
        result_of(call, 1)
    assert result_of(call, 1) == [1, 2, 3]
    assert (call.calls, call.fault.fired) == (3, 1)


@each_callable
def test_returns_answers_for_every_kind(target: Callable[..., Any]) -> None:
    assert result_of(flaky(target, fault=faults.returns([7, 8])), 1) == [7, 8]


@each_callable
def test_runs_acts_first_and_lets_the_call_go_on(target: Callable[..., Any]) -> None:
    done: list[str] = []
    assert result_of(flaky(target, fault=faults.runs(lambda: done.append("ran"))), 1) == [1, 2, 3]
    assert done == ["ran"]


@each_callable
def test_cancels_strikes_every_kind(target: Callable[..., Any]) -> None:
    call = flaky(target, fault=faults.cancels())
    is_async = inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)
    kind = asyncio.CancelledError if is_async else concurrent.futures.CancelledError
    with pytest.raises(kind):
        result_of(call, 1)


@each_callable
def test_a_flaky_callable_keeps_its_kind(target: Callable[..., Any]) -> None:
    call = flaky(target, fault=faults.raises(OSError))
    view = target if not isinstance(target, Service | AsyncService | StreamService) else type(target).__call__
    for is_kind in [inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction]:
        assert is_kind(call) == is_kind(view)


@each_callable
def test_a_flaky_callable_keeps_its_signature(target: Callable[..., Any]) -> None:
    assert inspect.signature(flaky(target, fault=faults.raises(OSError))) == inspect.signature(target)


def test_a_flaky_callable_keeps_name_doc_and_attributes() -> None:
    def charge() -> None:
        """Take money."""

    charge.retries = 3  # type: ignore[attr-defined]
    call = flaky(charge, fault=faults.raises(OSError))
    assert (call.__name__, call.__doc__, call.retries) == ("charge", "Take money.", 3)  # type: ignore[attr-defined]
    assert call.__qualname__ == charge.__qualname__  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (add, "add"),
        (functools.partial(functools.partial(add, 1), 2), "add"),
        (Service(), "Service"),
        (Service().add, "add"),
        (len, "len"),
        (None, "service"),
        (Mock(), "Mock"),
    ],
)
def test_the_name_of_an_injection_is_the_targets(target: Any, name: str) -> None:
    call = flaky(target, fault=faults.raises(OSError))
    assert call.fault.name == name == call.__name__


def test_builtins_work() -> None:
    call = flaky(len, fault=faults.returns(99), when=plan.first(1))
    assert [call("ab"), call("ab")] == [99, 2]


def test_without_a_target_it_is_an_async_service() -> None:
    service = flaky(fault=faults.raises(ConnectionError), when=plan.first(1))
    with pytest.raises(ConnectionError):
        run(service())
    assert run(service("anything", key=1)) == "ok"


def test_each_exception_is_fresh() -> None:
    original = KeyError("x")
    original.add_note("why")
    original.__cause__ = OSError("deep")
    for fault in [
        faults.raises(original),
        faults.raises(KeyError, "x"),
        faults.raises(lambda: KeyError("x")),
    ]:
        call, caught = flaky(add, fault=fault), []
        for _ in range(2):
            with pytest.raises(KeyError, match=r"^'x'(\nwhy)?$") as info:
                call(1)
            caught.append(info.value)
        assert caught[0] is not caught[1]
        assert caught[0] is not original
    assert original.__traceback__ is None
    call = flaky(add, fault=faults.raises(original))
    with pytest.raises(KeyError) as info:
        call(1)
    info.value.add_note("of the copy")
    assert info.value.__cause__ is original.__cause__
    assert original.__notes__ == ["why"]


def test_a_factory_that_makes_no_exception_is_told() -> None:
    def make() -> int:
        return 3

    call = flaky(add, fault=faults.raises(make))  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"^raises\(make\) on 'add': the factory returned 3, which is no exception$"
    ):
        call(1)


def test_an_async_action_is_awaited() -> None:
    done: list[str] = []

    async def restart() -> None:
        await asyncio.sleep(0)
        done.append("restarted")

    assert result_of(flaky(add_async, fault=faults.runs(restart)), 1) == [1, 2, 3]
    assert done == ["restarted"]


def test_nested_faults_strike_from_the_outside_in() -> None:
    with ChaosLab(1) as lab:
        inner = flaky(add, fault=faults.raises(KeyError), when=plan.first(2))
        both = flaky(inner, fault=faults.raises(OSError), when=plan.first(1))
        assert (inner.fault.name, both.fault.name) == ("add", "add#2")
        for kind in (OSError, KeyError, KeyError):
            with pytest.raises(kind):
                both(1)
        assert both(1) == [1, 2, 3]
        assert (both.calls, inner.calls) == (4, 3)
        assert [(event.source, event.attributes) for event in lab.timeline.where(kind="fired")] == [
            ("fault:add#2", {"call": 1}),
            ("fault:add", {"call": 1}),
            ("fault:add", {"call": 2}),
        ]


def test_nested_faults_have_names_of_their_own_without_a_lab() -> None:
    inner = flaky(add, fault=faults.raises(KeyError))
    assert flaky(flaky(inner, fault=faults.cancels()), fault=faults.cancels()).fault.name == "add#3"


def test_the_timeline_tells_what_is_armed_fired_and_undone() -> None:
    with ChaosLab(1) as lab:
        call = flaky(add, fault=faults.returns([]), when="calls(2, 3)", name="charge")
        for _ in range(3):
            call(1)
    told = [(event.source, event.kind, event.attributes) for event in lab.timeline]
    assert told == [
        ("fault:charge", "armed", {"description": "returns([]) when calls(2, 3)"}),
        ("fault:charge", "fired", {"call": 2}),
        ("fault:charge", "fired", {"call": 3}),
        ("lab", "undone", {"name": "charge: returns([]) when calls(2, 3)"}),
    ]
    assert call(1) == [1, 2, 3]
    assert call.calls == 3


@each_kind
def test_an_undone_fault_strikes_no_more(target: Callable[..., Any]) -> None:
    call = flaky(target, fault=faults.raises(OSError))
    call.undo()
    call.undo()
    assert result_of(call, 1) == [1, 2, 3]


def test_between_counts_from_the_arming_on_the_labs_clock() -> None:
    from pytest_prodpatterns.lab import use_clock

    moment = [100.0]
    with use_clock(lambda: moment[0]):
        call = flaky(add, fault=faults.returns([]), when=plan.between(5, 10))
        answers = []
        for moment[0] in (104.9, 105.0, 109.9, 110.0):
            answers.append(call(1))
    assert answers == [[1, 2, 3], [], [], [1, 2, 3]]


def test_a_call_that_is_not_awaited_or_iterated_is_no_call() -> None:
    coroutine, stream = flaky(add_async, fault=faults.cancels()), flaky(count, fault=faults.cancels())
    coroutine(1).close()
    stream(1).close()
    assert coroutine.calls == stream.calls == 0


def test_concurrent_calls_get_numbers_without_gap_or_double() -> None:
    with ChaosLab(1) as lab:
        call = flaky(add, fault=faults.returns([]), when=plan.every(2))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(call, range(400)))
        fired = [event.attributes["call"] for event in lab.timeline.where("fault:add", "fired")]
    assert fired == list(range(2, 401, 2))
    assert (call.calls, call.fault.fired) == (400, 200)


def test_a_synchronous_delay_really_waits() -> None:
    call = flaky(add, fault=faults.delays(0.05))
    begin = time.monotonic()
    assert call(1) == [1, 2, 3]
    assert time.monotonic() - begin >= 0.05


def test_undoing_ends_a_synchronous_delay() -> None:
    call = flaky(add, fault=faults.delays(60))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(call, 1)
        wait_until(lambda: call.fault.fired == 1)
        call.undo()
        assert answer.result(10) == [1, 2, 3]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_hung_thread_goes_on_when_the_lab_undoes() -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with ChaosLab(1):
            call = flaky(add, fault=faults.hangs())
            flaky_stream = flaky(count, fault=faults.hangs())
            answers = [pool.submit(call, 1), pool.submit(lambda: list(flaky_stream(1)))]
            wait_until(lambda: call.fault.fired == flaky_stream.fault.fired == 1)
            assert not answers[0].done()
        assert [answer.result(10) for answer in answers] == [[1, 2, 3], [1, 2, 3]]


def test_a_hung_thread_gets_away_at_the_limit() -> None:
    call = flaky(add, fault=faults.hangs(limit=0.01))
    with pytest.raises(
        TimeoutError,
        match=r"^call 1 of 'add' hung for 0\.01 s, the limit of hangs\(limit=0\.01\): nobody undid .*$",
    ):
        call(1)


@pytest.mark.parametrize("target", [add_async, count_async])
def test_a_hung_task_goes_on_when_undone_from_another_thread(target: Callable[..., Any]) -> None:
    call = flaky(target, fault=faults.hangs())

    async def main() -> list[int]:
        result = call(1)
        task = asyncio.ensure_future(collect(result) if inspect.isasyncgen(result) else result)
        while not call.fault.fired:
            await asyncio.sleep(0)
        thread = threading.Thread(target=call.undo)
        thread.start()
        answer = await asyncio.wait_for(task, 10)
        thread.join(10)
        return answer

    assert run(main()) == [1, 2, 3]


def test_a_hung_task_can_be_cancelled_and_timed_out() -> None:
    call = flaky(add_async, fault=faults.hangs())

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call(1), 0.01)
        task = asyncio.create_task(call(1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    call.undo()  # the loop is closed by now


def test_an_undo_after_the_loop_was_closed_is_harmless() -> None:
    call = flaky(add_async, fault=faults.hangs())
    loop = asyncio.new_event_loop()
    task = loop.create_task(call(1))
    loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False
    loop.close()
    call.undo()
    task.get_coro().close()


def test_a_call_that_hangs_only_after_the_undo_goes_on_at_once() -> None:
    call = flaky(add_async, fault=faults.hangs())
    chained = flaky(call, fault=faults.runs(call.undo))
    assert result_of(chained, 1) == [1, 2, 3]
    release = Release()
    release.open()
    run(release.wait_async())


def test_a_hung_task_may_be_cancelled_just_as_it_is_released() -> None:
    call = flaky(add_async, fault=faults.hangs())

    async def main() -> None:
        task = asyncio.create_task(call(1))
        await asyncio.sleep(0)
        call.undo()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_cancels_does_not_cancel_the_task_itself() -> None:
    async def main() -> tuple[str, int]:
        try:
            await flaky(add_async, fault=faults.cancels())(1)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            assert task
            return str(error), task.cancelling()
        raise AssertionError

    assert run(main()) == ("call 1 of 'add_async' was cancelled by a fault", 0)


# streams


@pytest.mark.parametrize("target", [count, count_async])
@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (faults.after_items(2, faults.raises(OSError)), [1, 2, "OSError"]),
        (faults.after_items(2, faults.returns([])), [1, 2]),
        (faults.after_items(1, faults.returns([9, 9])), [1, 9, 9]),
        (faults.after_items(2, faults.runs(lambda: None)), [1, 2, 3]),
        (faults.after_items(3, faults.raises(OSError)), [1, 2, 3, "OSError"]),
        (faults.after_items(4, faults.raises(OSError)), [1, 2, 3]),
        (faults.after_items(1, faults.delays(0)), [1, 2, 3]),
        (faults.returns([8, 9]), [8, 9]),
    ],
    ids=str,
)
def test_a_stream_breaks_after_some_items(
    target: Callable[..., Any], fault: faults.Fault, seen: list[Any]
) -> None:
    call = flaky(target, fault=fault)

    async def main() -> list[Any]:
        items: list[Any] = []
        try:
            if target is count:
                for item in call(1):
                    items.append(item)
            else:
                async for item in call(1):
                    items.append(item)
        except OSError:
            items.append("OSError")
        return items

    assert run(main()) == seen
    assert call.fault.fired == (fault.after < 4)


def test_an_async_stream_can_answer_with_another_async_stream() -> None:
    call = flaky(count_async, fault=faults.returns(count_async(7)))
    assert result_of(call, 1) == [7, 2, 3]


@pytest.mark.parametrize("after", [None, 0, 1, 5])
def test_a_generator_keeps_send_throw_close_and_its_result(after: int | None) -> None:
    log: list[str] = []

    def talk() -> Any:
        try:
            got = yield "first"
            log.append(f"got {got}")
            try:
                yield "second"
            except KeyError:
                log.append("KeyError")
            yield "third"
        finally:
            log.append("closed")
        return "result"

    act = faults.runs(lambda: None)
    fault = faults.after_items(after, act) if after else act
    call = flaky(talk, fault=fault, when="never()" if after is None else "always()")
    stream = call()
    assert [next(stream), stream.send("hello"), stream.throw(KeyError())] == ["first", "second", "third"]
    with pytest.raises(StopIteration) as stop:
        next(stream)
    assert stop.value.value == "result"
    assert log == ["got hello", "KeyError", "closed"]
    stream = call()
    next(stream)
    stream.close()
    assert log[3:] == ["closed"]


@pytest.mark.parametrize("after", [None, 0, 1, 5])
def test_an_async_generator_keeps_asend_athrow_and_aclose(after: int | None) -> None:
    log: list[str] = []

    async def talk() -> Any:
        try:
            got = yield "first"
            log.append(f"got {got}")
            try:
                yield "second"
            except KeyError:
                log.append("KeyError")
            yield "third"
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    act = faults.runs(lambda: None)
    fault = faults.after_items(after, act) if after else act
    call = flaky(talk, fault=fault, when="never()" if after is None else "always()")

    async def main() -> None:
        stream = call()
        assert await anext(stream) == "first"
        assert await stream.asend("hello") == "second"
        assert await stream.athrow(KeyError()) == "third"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert log == ["got hello", "KeyError", "closed"]
        stream = call()
        await anext(stream)
        await stream.aclose()
        assert log[3:] == ["closed"]
        stream = call()
        await anext(stream)
        with pytest.raises(OSError, match=r"^unhandled$"):
            await stream.athrow(OSError("unhandled"))
        assert log[4:] == ["closed"]

    run(main())


@pytest.mark.parametrize("fault", [faults.raises(OSError), faults.returns([])], ids=str)
def test_a_broken_stream_is_closed(fault: faults.Fault) -> None:
    closed: list[str] = []

    def lines() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("sync")

    async def lines_async() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("async")

    for target in (lines, lines_async):
        call = flaky(target, fault=faults.after_items(1, fault))
        try:
            assert result_of(call) == [1]
        except OSError:
            closed.append("raised")
    raised = ["raised"] if "raises" in str(fault) else []
    assert closed == ["sync", *raised, "async", *raised]


def test_an_undone_fault_does_not_strike_a_stream_that_is_under_way() -> None:
    call = flaky(count, fault=faults.after_items(1, faults.raises(OSError)))
    stream = call(1)
    first = next(stream)
    call.undo()
    assert [first, *stream] == [1, 2, 3]
    assert call.fault.fired == 0


# what a fault prints, and what is refused


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (faults.raises(ConnectionError), "raises(ConnectionError)"),
        (faults.raises(ConnectionError, "x", 3), "raises(ConnectionError, 'x', 3)"),
        (faults.raises(OSError(5, "io")), "raises(OSError(5, 'io'))"),
        (faults.delays(2), "delays(2)"),
        (faults.delays(0.25), "delays(0.25)"),
        (faults.returns({"a": 1}), "returns({'a': 1})"),
        (faults.runs(add), "runs(add)"),
        (faults.hangs(), "hangs()"),
        (faults.hangs(limit=5), "hangs(limit=5)"),
        (faults.cancels(), "cancels()"),
        (faults.after_items(3, faults.raises(OSError)), "after_items(3, raises(OSError))"),
    ],
)
def test_a_fault_prints_itself(fault: faults.Fault, text: str) -> None:
    assert str(fault) == repr(fault) == text


def test_faults_are_values() -> None:
    assert faults.raises(OSError, "x") == faults.raises(OSError, "x") != faults.raises(OSError, "y")
    assert (
        len({faults.delays(1), faults.delays(1.0), faults.hangs(), faults.cancels(), faults.cancels()}) == 3
    )


class Picky(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: faults.raises(int), TypeError, r"^raises\(\): error must be an exception class, .*int.*$"),
        (
            lambda: faults.raises("x"),
            TypeError,
            r"^raises\(\): error must be an exception class, .* not 'x'$",
        ),
        (
            lambda: faults.raises(OSError("x"), 1),
            TypeError,
            r"^raises\(\): arguments go with a class or a factory, .*$",
        ),
        (
            lambda: faults.raises(Picky),
            TypeError,
            r"^raises\(\): Picky cannot be made from \(\) \(TypeError: .*\)$",
        ),
        (
            lambda: faults.raises(Picky(1, "x")),
            TypeError,
            r"^raises\(\): Picky\(.*\) cannot be copied; give a factory .*$",
        ),
        (lambda: faults.delays(-1), ValueError, r"^delays\(\): seconds must be seconds from 0, not -1$"),
        (lambda: faults.delays(float("nan")), ValueError, r"^delays\(\): seconds must be .* not nan$"),
        (lambda: faults.delays(float("inf")), ValueError, r"^delays\(\): seconds must be .* not inf$"),
        (
            lambda: faults.delays("1"),
            TypeError,
            r"^delays\(\): seconds must be a number of seconds, not '1'$",
        ),
        (
            lambda: faults.delays(True),
            TypeError,
            r"^delays\(\): seconds must be a number of seconds, not True$",
        ),
        (lambda: faults.hangs(limit=0), ValueError, r"^hangs\(\): limit must be seconds above 0, not 0$"),
        (lambda: faults.hangs(limit=-1), ValueError, r"^hangs\(\): limit must be .* not -1$"),
        (
            lambda: faults.runs(3),
            TypeError,
            r"^runs\(\): action must be a callable without arguments, not 3$",
        ),
        (
            lambda: faults.after_items(0, faults.cancels()),
            ValueError,
            r"^after_items\(\): n must be .* from 1, not 0$",
        ),
        (
            lambda: faults.after_items(True, faults.cancels()),
            TypeError,
            r"^after_items\(\): n must be .* not True$",
        ),
        (
            lambda: faults.after_items(1, OSError),
            TypeError,
            r"^after_items\(\): fault must be a fault such as .*$",
        ),
        (
            lambda: faults.after_items(1, faults.after_items(1, faults.cancels())),
            ValueError,
            r"^after_items\(\): fault must not be an after_items itself: .*$",
        ),
        (lambda: flaky(add, fault=OSError), TypeError, r"^flaky\(add\): fault must be a fault such as .*$"),
        (
            lambda: flaky(add, fault=faults.cancels(), when=3),
            TypeError,
            r"^flaky\(add\): when must be a plan such as plan\.first\(3\), or its text, not 3$",
        ),
        (
            lambda: flaky(add, fault=faults.cancels(), when="frist(3)"),
            ValueError,
            r"^'frist\(3\)' is no plan: .* did you mean 'first'\?$",
        ),
        (lambda: flaky(3, fault=faults.cancels()), TypeError, r"^flaky\(\): target must be callable, not 3$"),
        (
            lambda: flaky(Service, fault=faults.cancels()),
            TypeError,
            r"^flaky\(\): target must be a function .* not the class Service; .*:Service\.METHOD', …\)$",
        ),
        (
            lambda: flaky(staticmethod(add), fault=faults.cancels()),
            TypeError,
            r"^flaky\(\): target must be the function inside the staticmethod, not the descriptor$",
        ),
        (
            lambda: flaky(add, fault=faults.after_items(1, faults.cancels())),
            TypeError,
            r"^flaky\(add\): after_items\(1, cancels\(\)\) cannot strike a function: it breaks a stream .*$",
        ),
        (
            lambda: flaky(count, fault=faults.after_items(1, faults.returns(5))),
            TypeError,
            r"^flaky\(count\): after_items\(1, returns\(5\)\) cannot strike a generator function: its value .*$",
        ),
        (
            lambda: flaky(add, fault=faults.runs(add_async)),
            TypeError,
            r"^flaky\(add\): runs\(add_async\) cannot strike a function: a synchronous call cannot await .*$",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_the_door(make, kind: type[Exception], message: str) -> None:
    with ChaosLab(1) as lab:
        with pytest.raises(kind, match=message):
            make()
        assert lab.faults == []


def test_importing_faults_loads_nothing_heavy() -> None:
    code = "import sys, pytest_prodpatterns.faults; print(sorted({'hypothesis','time_machine','pytest'} & {*sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_item_that_answers_a_thrown_error_is_an_item() -> None:
    def stream() -> Iterator[int]:
        for number in range(5):
            try:
                yield number
            except KeyError:
                continue

    broken = flaky(stream, fault=faults.after_items(3, faults.raises(ConnectionError)))()
    assert [next(broken), broken.throw(KeyError()), next(broken)] == [0, 1, 2]  # type: ignore[attr-defined]
    with pytest.raises(ConnectionError):
        next(broken)


def test_an_item_that_answers_an_error_thrown_into_an_async_stream_is_an_item() -> None:
    async def stream() -> AsyncIterator[int]:
        for number in range(5):
            try:
                yield number
            except KeyError:
                continue

    async def main() -> None:
        broken: Any = flaky(stream, fault=faults.after_items(3, faults.raises(ConnectionError)))()
        seen = [await anext(broken), await broken.athrow(KeyError()), await anext(broken)]
        assert seen == [0, 1, 2]
        with pytest.raises(ConnectionError):
            await anext(broken)

    run(main())


@pytest.mark.parametrize("fault", [faults.delays(1e300), faults.hangs(limit=1e300)])
def test_a_thread_may_wait_longer_than_the_platform_can_count(fault: faults.Fault) -> None:
    call = flaky(add, fault=fault)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call(1)))
    thread.start()
    wait_until(lambda: call.calls == 1)
    call.undo()
    thread.join(10)
    assert answers == [[1, 2, 3]]


def test_an_action_that_turns_out_async_is_refused_in_a_synchronous_call() -> None:
    async def restart() -> None:
        raise AssertionError("never awaited")

    call = flaky(add, fault=faults.runs(lambda: restart()))
    with pytest.raises(
        TypeError, match=r"^runs\(<lambda>\) on 'add': a synchronous call cannot await its action"
    ):
        call(1)
