"""The dependency as a function of each kind, for breakers to decorate, and how to call what comes of it.

Generators yield an item before they answer or fail: streams fail in the middle.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pytest_prodpatterns.targets.breaker._calls import Call
    from pytest_prodpatterns.targets.breaker._protocol import Kind


def _charge(call: Call) -> int:
    return call.charge()


async def _charge_async(call: Call) -> int:
    return await call.charge_async()


def _stream(call: Call) -> Iterator[int]:
    yield 0
    yield call.charge()


async def _stream_async(call: Call) -> AsyncIterator[int]:
    yield 0
    yield await call.charge_async()


DEPENDENCIES: dict[Kind, Any] = {
    "sync": _charge,
    "async": _charge_async,
    "generator": _stream,
    "async generator": _stream_async,
}


def drain(guarded: Callable[[Call], Any], call: Call) -> Any:
    """Call it in this thread, to the end of what it yields; the last item is its answer."""
    result = guarded(call)
    if inspect.isgenerator(result):
        *_, result = result
    return result


async def drain_async(guarded: Callable[[Call], Any], call: Call) -> Any:
    """Await it, to the end of what it yields; the last item is its answer."""
    result = guarded(call)
    if inspect.isasyncgen(result):
        return [item async for item in result][-1]
    return await result
