"""Wraps a callable so that an injection stands before it, keeping its kind, signature and name.

One shell for each kind of callable.  A call that is never awaited, and a generator that is never iterated, is no
call: it counts when its body would begin.  Streams keep the whole generator protocol: what is sent or thrown in
reaches the wrapped generator, and it is closed when the consumer leaves or the fault breaks the stream.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from typing import Any

from pytest_prodpatterns.faults._injection import Injection, Shot
from pytest_prodpatterns.faults._scene import Kind

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


def kind_of(target: Callable[..., Any]) -> Kind:
    """Return how a callable runs; a callable object runs as its `__call__` does."""
    for view in (target, getattr(type(target), "__call__", None)):  # noqa: B004
        if inspect.iscoroutinefunction(view):
            return Kind.COROUTINE
        if inspect.isasyncgenfunction(view):
            return Kind.ASYNC_GENERATOR
        if inspect.isgeneratorfunction(view):
            return Kind.GENERATOR
    return Kind.FUNCTION


def name_of(target: Any) -> str:
    """Return what to call a callable in reports."""
    while isinstance(target, functools.partial):
        target = target.func
    name = getattr(target, "__name__", None)
    return name if isinstance(name, str) else type(target).__name__


def wrap(target: Callable[..., Any], injection: Injection) -> Callable[..., Any]:
    """Return `target` behind the injection, as a function of the same kind."""
    shell = _SHELLS[kind_of(target)](target, injection)
    keeps = ("__dict__",) if isinstance(target, types.FunctionType | types.MethodType) else ()
    functools.update_wrapper(shell, target, updated=keeps)
    shell.__name__ = name_of(target)
    if not isinstance(getattr(target, "__qualname__", None), str):
        shell.__qualname__ = shell.__name__
    return shell


def _function(target: Callable[..., Any], injection: Injection) -> Callable[..., Any]:
    def shell(*args: Any, **kwargs: Any) -> Any:
        shot = injection.begin()
        if shot is not None and (answer := shot.strike()) is not None:
            return answer.value
        return target(*args, **kwargs)

    return shell


def _coroutine(target: Callable[..., Any], injection: Injection) -> Callable[..., Any]:
    async def shell(*args: Any, **kwargs: Any) -> Any:
        shot = injection.begin()
        if shot is not None and (answer := await shot.strike_async()) is not None:
            return answer.value
        return await target(*args, **kwargs)

    return shell


def _generator(target: Callable[..., Any], injection: Injection) -> Callable[..., Any]:
    def shell(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        shot = injection.begin()
        stream = target(*args, **kwargs)
        return (yield from (stream if shot is None else _Struck(stream, shot)))

    return shell


def _async_generator(target: Callable[..., Any], injection: Injection) -> Callable[..., Any]:
    async def shell(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        shot = injection.begin()
        stream = target(*args, **kwargs)
        if shot is not None:
            stream = _AsyncStruck(stream, shot)
        try:
            step = stream.asend(None)
            while True:
                try:
                    item = await step
                except StopAsyncIteration:
                    return
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever the consumer threw goes to the stream
                    step = stream.athrow(error)
                else:
                    step = stream.asend(sent)
        finally:
            await stream.aclose()

    return shell


_SHELLS = {
    Kind.FUNCTION: _function,
    Kind.COROUTINE: _coroutine,
    Kind.GENERATOR: _generator,
    Kind.ASYNC_GENERATOR: _async_generator,
}


class _Struck(Generator[Any, Any, Any]):
    """A generator that the fault strikes after some items."""

    def __init__(self, stream: Generator[Any, Any, Any], shot: Shot) -> None:
        self._stream = stream
        self._shot: Shot | None = shot
        self._left = shot.after

    def __next__(self) -> Any:  # the one of `Generator` would stand in tracebacks
        return self.send(None)

    def send(self, value: Any, /) -> Any:
        if self._shot is not None and self._left <= 0:
            value = self._strike(self._shot, value)
        self._left -= 1
        return self._stream.send(value)

    def _strike(self, shot: Shot, value: Any) -> Any:
        self._shot = None
        try:
            answer = shot.strike()
        except BaseException:
            self._stream.close()
            raise
        if answer is None:
            return value
        self._stream.close()
        self._stream = _items(answer.value)
        return None

    def throw(self, *error: Any) -> Any:
        self._left -= 1  # what it yields for an error is an item, too
        return self._stream.throw(*error)

    def close(self) -> None:
        self._stream.close()


class _AsyncStruck:
    """An async generator that the fault strikes after some items."""

    def __init__(self, stream: AsyncGenerator[Any, Any], shot: Shot) -> None:
        self._stream = stream
        self._shot: Shot | None = shot
        self._left = shot.after

    async def asend(self, value: Any) -> Any:
        if self._shot is not None and self._left <= 0:
            value = await self._strike(self._shot, value)
        self._left -= 1
        return await self._stream.asend(value)

    async def _strike(self, shot: Shot, value: Any) -> Any:
        self._shot = None
        try:
            answer = await shot.strike_async()
        except BaseException:
            await self._stream.aclose()
            raise
        if answer is None:
            return value
        await self._stream.aclose()
        self._stream = _async_items(answer.value)
        return None

    async def athrow(self, error: BaseException) -> Any:
        self._left -= 1
        return await self._stream.athrow(error)

    async def aclose(self) -> None:
        await self._stream.aclose()


def _items(value: Iterable[Any]) -> Generator[Any, Any, None]:
    yield from [*value] if isinstance(value, Generator) else value


async def _async_items(value: Any) -> AsyncGenerator[Any, Any]:
    if isinstance(value, AsyncIterable):
        async for item in value:
            yield item
    else:
        for item in value:
            yield item
