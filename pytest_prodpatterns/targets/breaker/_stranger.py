"""A breaker of no known library: how to call through it is read off what it has, or told by the user."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets._base import TargetError
from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class Stranger(BreakerTarget):
    """A breaker that nobody wrote an adapter for: what the user says, or its methods, or its decorator.

    Whether it knows coroutine functions is read off what stands there, never guessed from a call: a breaker
    that is called in a way that it does not know would be blamed for it.
    """

    def __init__(
        self, sample: Any, call: Callable[..., Any] | None, call_async: Callable[..., Any] | None
    ) -> None:
        guess = call is None and call_async is None
        self._call = call or (_found_call(sample) if guess else None)
        self._call_async = call_async or (_found_call_async(sample) if guess else None)
        kind = type(sample).__name__
        if self._call is None and self._call_async is None:
            raise TargetError(
                f"cannot call through a {kind}: it has neither .call(func) nor a decorator;"
                " return another object, or override call() and call_async() in a CircuitBreakerContract"
            )
        lacks = {}
        if self._call is None:
            lacks = dict.fromkeys(
                ("sync", "threads"), f"{kind} has no call for plain functions that is known"
            )
        if self._call_async is None:
            lacks["async"] = (
                f"{kind} has no call for coroutine functions that is known;"
                " if it has one, override call_async() in a CircuitBreakerContract"
            )
        if not callable(sample):
            lacks["decorator"] = f"a {kind} is no decorator"
        self.lacks = lacks

    def make(self, settings: Settings) -> Any:
        """Refuse: the factory makes them."""
        raise NotImplementedError

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call by what was found."""
        assert self._call is not None
        return self._call(breaker, func, *args)

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await what was found."""
        assert self._call_async is not None
        return await self._call_async(breaker, func, *args)


def _found_call(sample: Any) -> Callable[..., Any] | None:
    method = getattr(sample, "call", None)
    if callable(method) and not inspect.iscoroutinefunction(method):
        return _by_method("call")
    if method is None and callable(sample) and not inspect.iscoroutinefunction(_decorated(sample, _plain)):
        return _by_decorator
    return None


def _found_call_async(sample: Any) -> Callable[..., Any] | None:
    for name in ("call", "call_async", "async_call", "acall"):
        if inspect.iscoroutinefunction(getattr(sample, name, None)):
            return _by_method(name)
    if callable(sample) and inspect.iscoroutinefunction(_decorated(sample, _coroutine)):
        return _by_decorator
    return None


def _by_method(name: str) -> Callable[..., Any]:
    return lambda breaker, func, *args: getattr(breaker, name)(func, *args)


def _by_decorator(breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
    return breaker(func)(*args)


def _decorated(sample: Any, func: Callable[..., Any]) -> Any:
    try:
        return sample(func)
    except Exception:  # noqa: BLE001 - a refusal may have any type
        return None


def _plain() -> None:
    """Be decorated, to see what becomes of a plain function."""


async def _coroutine() -> None:
    """Be decorated, to see what becomes of a coroutine function."""
