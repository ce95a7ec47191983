"""The guards around functions: one shell for each kind, the same three steps in each.

Take a ticket, run the user's code, hand the ticket back.  The steps are written out in each shell, as a
helper around them would cost more than they do.
"""

from __future__ import annotations

import functools
import inspect
from types import AsyncGeneratorType, CoroutineType, GeneratorType, NoneType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from pytest_prodpatterns.patterns.breaker._core import Ticket
    from pytest_prodpatterns.patterns.breaker._engine import Engine

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

LAZY_FLAGS: Final = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
"""Set in the code of functions whose call does not run them."""
LAZY_RESULTS: Final = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})
"""What a plain function may return instead of a result, like any awaitable: the work is still to be done."""
PLAIN_RESULTS: Final = frozenset({NoneType, bool, int, float, str, bytes, list, tuple, dict, set})
"""What it mostly returns, so that there is no need to look closer."""


def shell(engine: Engine, function: Any) -> Any:
    """Return `function` guarded by `engine`, with the same name, signature and kind.

    Raises:
        TypeError: When it cannot be guarded; the text says what to do instead.
    """
    make = _maker(function)
    if engine._settings.call_timeout is not None and make is not _coroutine_function:  # noqa: SLF001
        raise TypeError(
            f"call_timeout needs an async function, and {function!r} is not one: nothing can interrupt it; "
            "use slow_call_duration to count calls that take too long"
        )
    guarded = functools.update_wrapper(make(engine, function), function)
    if not hasattr(function, "__name__"):
        plain = _without_partials(function)
        guarded.__name__ = guarded.__qualname__ = getattr(plain, "__name__", type(plain).__name__)
    return guarded


def _maker(function: Any) -> Callable[[Engine, Any], Any]:
    if isinstance(function, classmethod | staticmethod | property):
        kind = type(function).__name__
        raise TypeError(f"cannot guard a {kind} object: put the breaker's decorator below @{kind}")
    if isinstance(function, type):
        raise TypeError(f"cannot guard the class {function.__qualname__}: guard its methods one by one")
    if not callable(function):
        raise TypeError(f"cannot guard {function!r}: it is not callable")
    plain = _without_partials(function)
    if getattr(plain, "__globals__", {}).get("__name__") == "contextlib":
        raise TypeError(
            f"cannot guard {function!r}: it only makes a context manager; put the breaker's decorator below "
            "@contextmanager, or use `with breaker:`"
        )
    code = getattr(plain, "__code__", None) or getattr(_call_of(plain), "__code__", None)
    if getattr(code, "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE:
        raise TypeError(f"cannot guard {function!r}: it is made by types.coroutine; make it an `async def`")
    candidates = (plain, _call_of(plain))
    for test, make in (
        (inspect.iscoroutinefunction, _coroutine_function),
        (inspect.isasyncgenfunction, _async_generator_function),
        (inspect.isgeneratorfunction, _generator_function),
    ):
        if any(map(test, candidates)):
            return make
    return _plain_function


def _without_partials(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _call_of(instance: object) -> Any:
    return getattr(type(instance), "__call__", None)  # noqa: B004


def _plain_function(engine: Engine, function: Callable[..., Any]) -> Callable[..., Any]:
    core, admit, returned, raised = engine._core, engine._admit, engine._returned, engine._raised  # noqa: SLF001

    def guarded(*args: Any, **kwargs: Any) -> Any:
        ticket = core.healthy or core.door or admit()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            raised(ticket, error)
            raise
        kind = type(result)
        if kind not in PLAIN_RESULTS and (kind in LAZY_RESULTS or hasattr(kind, "__await__")):
            return finish(engine, ticket, result)
        if ticket != core.healthy:
            returned(ticket, result)
        return result

    return guarded


def _coroutine_function(engine: Engine, function: Callable[..., Any]) -> Callable[..., Any]:
    core, admit, returned, raised = engine._core, engine._admit, engine._returned, engine._raised  # noqa: SLF001

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        ticket = core.healthy or core.door or admit()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            raised(ticket, error)
            raise
        if ticket != core.healthy:
            returned(ticket, result)
        return result

    async def guarded_within(*args: Any, **kwargs: Any) -> Any:
        return await within(engine, function, args, kwargs)

    return guarded if engine._settings.call_timeout is None else guarded_within  # noqa: SLF001


def _generator_function(
    engine: Engine, function: Callable[..., Any], ticket: Ticket = 0
) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        own = ticket or engine._admit()  # noqa: SLF001
        try:
            result = yield from function(*args, **kwargs)
        except BaseException as error:
            engine._raised(own, error)  # noqa: SLF001
            raise
        engine._done(own, result)  # noqa: SLF001
        return result

    return guarded


def _async_generator_function(
    engine: Engine, function: Callable[..., Any], ticket: Ticket = 0
) -> Callable[..., Any]:
    async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        own = ticket or engine._admit()  # noqa: SLF001
        work = function(*args, **kwargs)
        try:
            item = await anext(work)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001
                    item = await work.athrow(error)
                else:
                    item = await work.asend(sent)
        except StopAsyncIteration:
            engine._done(own, None)  # noqa: SLF001
        except BaseException as error:
            engine._raised(own, error)  # noqa: SLF001
            raise
        finally:
            await work.aclose()

    return guarded


def finish(engine: Engine, ticket: Ticket, work: Any) -> Any:
    """Return what a plain function returned instead of a result, guarded until the work is done.

    An awaitable of whatever kind (a future, aiohttp's requests) becomes a coroutine.
    """
    if type(work) is GeneratorType:
        return _generator_function(engine, lambda: work, ticket)()
    if type(work) is AsyncGeneratorType:
        return _async_generator_function(engine, lambda: work, ticket)()
    return _run_awaitable(engine, ticket, work)


async def _run_awaitable(engine: Engine, ticket: Ticket, work: Awaitable[Any]) -> Any:
    try:
        result = await work
    except BaseException as error:
        engine._raised(ticket, error)  # noqa: SLF001
        raise
    engine._done(ticket, result)  # noqa: SLF001
    return result


async def within(engine: Engine, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Await one call under the breaker's own deadline; running over it is a failure."""
    import asyncio  # noqa: PLC0415

    ticket = engine._admit()  # noqa: SLF001
    limit = engine._settings.call_timeout  # noqa: SLF001
    scope = asyncio.timeout(limit)
    late = TimeoutError(
        f"the call took longer than call_timeout={limit!r} s of circuit breaker {engine.name!r}"
    )
    try:
        async with scope:
            result = await function(*args, **kwargs)
    except BaseException as error:
        if not scope.expired() or not isinstance(error, Exception):
            engine._raised(ticket, error)  # noqa: SLF001
            raise
        if isinstance(error, TimeoutError):
            engine._overran(ticket, late)  # noqa: SLF001
            raise late from error.__cause__
        engine._overran(ticket, error)  # noqa: SLF001  # what the function made of its cancellation
        raise
    if scope.expired():  # the function swallowed its cancellation, and answered after all
        engine._overran(ticket, late)  # noqa: SLF001
    else:
        engine._done(ticket, result)  # noqa: SLF001
    return result
