"""hyx: asyncio only, consecutive failures, wall clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Kind, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class _Stack:
    """A breaker, and the library's `timeout` inside it where a scenario wants a deadline."""

    def __init__(self, settings: Settings) -> None:
        from hyx.circuitbreaker import consecutive_breaker  # noqa: PLC0415

        self.breaker = consecutive_breaker(
            failure_threshold=settings.failure_threshold,
            recovery_time_secs=settings.recovery_timeout,
            recovery_threshold=settings.success_threshold,
        )
        self.call_timeout = settings.call_timeout

    async def call(self, func: Callable[..., Any], *args: Any) -> Any:
        if self.call_timeout is None:
            return await self.breaker(func)(*args)
        from hyx.timeout import timeout  # noqa: PLC0415

        return await self.breaker(timeout(self.call_timeout)(func))(*args)


class HyxTarget(BreakerTarget):
    """Adapt `hyx.circuitbreaker.consecutive_breaker`."""

    name = "hyx"
    distribution = "hyx"
    description = (
        "consecutive_breaker(failure_threshold, recovery_time_secs, recovery_threshold), used as a decorator;"
        " its timeout inside for a deadline"
    )
    lacks = {  # noqa: RUF012
        "sync": "hyx guards asyncio code only",
        "threads": "hyx guards asyncio code only, and belongs to one event loop",
    }

    def make(self, settings: Settings) -> Any:
        """Make one; every exception of the dependency counts."""
        return _Stack(settings)

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Refuse: see `lacks`."""
        raise NotImplementedError

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await a function that was decorated this moment."""
        return await breaker.call(func, *args)

    def decorate(self, breaker: Any, func: Callable[..., Any], kind: Kind) -> Any:  # noqa: ARG002
        """Decorate by calling the breaker."""
        return breaker.breaker(func)

    def state(self, breaker: Any) -> str:
        """Return the name of the breaker's state."""
        return str(breaker.breaker.state.name)
