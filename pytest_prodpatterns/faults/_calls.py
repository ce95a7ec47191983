"""The faults that decide a call: `raises`, `returns`, `runs`, `cancels`, and `after_items` for streams.

The four verbs fault, outcome, latency and behaviour, and that the latter two let the call go on, are Polly
Simmy's (its chaos strategies); `hangs`, `cancels` and `after_items` are ours.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, cast

from pytest_prodpatterns.faults._scene import Answer, Fault, Kind, Scene

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


@dataclass(frozen=True, slots=True, repr=False)
class _Raises(Fault):
    error: BaseException | Callable[..., BaseException]
    arguments: tuple[Any, ...]

    def make(self) -> BaseException:
        if isinstance(self.error, BaseException):
            return _copied(self.error)
        return self.error(*self.arguments)

    def strike(self, scene: Scene) -> Answer | None:
        error = self.make()
        if not isinstance(error, BaseException):
            raise TypeError(
                f"{self} on {scene.name!r}: the factory returned {error!r}, which is no exception"
            )
        raise error

    def __str__(self) -> str:
        head = repr(self.error) if isinstance(self.error, BaseException) else _called(self.error)
        return f"raises({', '.join([head, *map(repr, self.arguments)])})"


@dataclass(frozen=True, slots=True, repr=False)
class _Returns(Fault):
    value: Any

    def strike(self, scene: Scene) -> Answer | None:  # noqa: ARG002
        return Answer(self.value)

    def check(self, kind: Kind) -> str | None:
        if kind.streams and not isinstance(self.value, _iterables(kind)):
            return "its value stands for all items of the stream, so it must be iterable, for example returns([])"
        return None

    def __str__(self) -> str:
        return f"returns({self.value!r})"


@dataclass(frozen=True, slots=True, repr=False)
class _Runs(Fault):
    action: Callable[[], Any]

    def strike(self, scene: Scene) -> Answer | None:
        result = self.action()
        if isinstance(result, Coroutine):
            result.close()
            raise TypeError(
                f"{self} on {scene.name!r}: a synchronous call cannot await its action; give a plain function"
            )
        return None

    async def strike_async(self, scene: Scene) -> Answer | None:  # noqa: ARG002
        result = self.action()
        if isinstance(result, Awaitable):
            await result
        return None

    def check(self, kind: Kind) -> str | None:
        if not kind.is_async and inspect.iscoroutinefunction(self.action):
            return "a synchronous call cannot await its action; give a plain function"
        return None

    def __str__(self) -> str:
        return f"runs({_called(self.action)})"


@dataclass(frozen=True, slots=True, repr=False)
class _Cancels(Fault):
    def strike(self, scene: Scene) -> Answer | None:
        raise concurrent.futures.CancelledError(
            f"call {scene.call} of {scene.name!r} was cancelled by a fault"
        )

    async def strike_async(self, scene: Scene) -> Answer | None:
        raise asyncio.CancelledError(f"call {scene.call} of {scene.name!r} was cancelled by a fault")

    def __str__(self) -> str:
        return "cancels()"


@dataclass(frozen=True, slots=True, repr=False)
class _AfterItems(Fault):
    fault: Fault
    after: int = 1

    def strike(self, scene: Scene) -> Answer | None:
        return self.fault.strike(scene)

    async def strike_async(self, scene: Scene) -> Answer | None:
        return await self.fault.strike_async(scene)

    def check(self, kind: Kind) -> str | None:
        if not kind.streams:
            return "it breaks a stream between two items, so it needs a generator or an async generator"
        return self.fault.check(kind)

    def __str__(self) -> str:
        return f"after_items({self.after}, {self.fault})"


def raises(error: type[BaseException] | BaseException | Callable[..., BaseException], *args: Any) -> Fault:
    """Fail the call with a fresh exception each time; the call is not made (Polly Simmy's fault).

    Args:
        error: An exception class, an instance (each call gets a copy, without its traceback), or a factory.
        args: What the class or the factory is called with.

    Raises:
        TypeError: When `error` is none of these, or cannot be made so.
    """
    fault = _Raises(error, args)
    if isinstance(error, BaseException):
        if args:
            raise TypeError(
                f"raises(): arguments go with a class or a factory, not with the instance {error!r}"
            )
        _try_once(fault, f"{error!r} cannot be copied; give a factory instead")
    elif isinstance(error, type) and issubclass(error, BaseException):
        _try_once(fault, f"{error.__name__} cannot be made from {args!r}")
    elif isinstance(error, type) or not callable(error):
        raise TypeError(
            f"raises(): error must be an exception class, an instance or a factory, not {error!r}"
        )
    return fault


def returns(value: Any) -> Fault:
    """Answer in place of the call, which is not made (Polly Simmy's outcome).

    Args:
        value: What the caller gets, the same object each time. For a generator, the items it yields instead.
    """
    return _Returns(value)


def runs(action: Callable[[], Any]) -> Fault:
    """Do something first, then let the call go on (Polly Simmy's behaviour).

    What the action raises reaches the caller.

    Args:
        action: A callable without arguments, for example one that restarts the dependency. A coroutine function
            is awaited, where the call is awaited too.

    Raises:
        TypeError: When `action` cannot be called.
    """
    if not callable(action):
        raise TypeError(f"runs(): action must be a callable without arguments, not {action!r}")
    return _Runs(action)


def cancels() -> Fault:
    """Cancel the call from within: the await raises `asyncio.CancelledError`; the call is not made.

    The task itself is not cancelled (`Task.cancelling()` stays 0), as when a future that it awaits was. A
    synchronous call raises `concurrent.futures.CancelledError`, as waiting for a cancelled future does.
    """
    return _Cancels()


def after_items(n: int, fault: Fault) -> Fault:
    """Break a stream: let a generator yield `n` items, then strike.

    `after_items(2, returns([]))` truncates it. A stream that ends earlier is not struck.

    Args:
        n: How many items pass, from 1.
        fault: What happens then.

    Raises:
        ValueError: When `n` is less than 1, or `fault` is an `after_items` itself.
        TypeError: When `n` is no whole number, or `fault` is no fault.
    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"after_items(): n must be a whole number from 1, not {n!r}")
    if n < 1:
        raise ValueError(f"after_items(): n must be a whole number from 1, not {n!r}")
    if not isinstance(fault, Fault):
        raise TypeError(
            f"after_items(): fault must be a fault such as raises(ConnectionError), not {fault!r}"
        )
    if fault.after:
        raise ValueError(f"after_items(): fault must not be an after_items itself: {fault}")
    return _AfterItems(fault, n)


def _copied(error: BaseException) -> BaseException:
    # Not by copy.copy(): it goes by copyreg, where tblib (which dask brings along) has reducers of its own.
    make, arguments, *state = cast("tuple[Any, ...]", error.__reduce_ex__(2))
    fresh: BaseException = make(*arguments)
    if state and state[0]:
        fresh.__setstate__(state[0])
    fresh.__cause__ = error.__cause__
    fresh.__suppress_context__ = error.__suppress_context__
    if hasattr(error, "__notes__"):
        fresh.__notes__ = list(error.__notes__)
    return fresh


def _try_once(fault: _Raises, problem: str) -> None:
    try:
        fault.make()
    except Exception as error:
        raise TypeError(f"raises(): {problem} ({type(error).__name__}: {error})") from error


def _iterables(kind: Kind) -> tuple[type, ...]:
    return (Iterable, AsyncIterable) if kind is Kind.ASYNC_GENERATOR else (Iterable,)


def _called(thing: Any) -> str:
    return getattr(thing, "__name__", None) or repr(thing)
