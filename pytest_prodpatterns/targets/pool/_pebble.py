"""pebble: time-outs that end a task, crashes told to the task that had them; one pipe and two locks for all."""

from __future__ import annotations

import asyncio
import multiprocessing
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.pool._protocol import (
    FutureLike,
    PoolAdapter,
    PoolSettings,
    initializer,
    library,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class _Pool:
    """A pool, and the time-out that pebble wants at each call."""

    def __init__(self, pool: Any, timeout: float | None) -> None:
        self.pool = pool
        self.timeout = timeout


class PebbleAdapter(PoolAdapter):
    """Adapt `pebble.ProcessPool`."""

    name = "pebble"
    distribution = "pebble"
    description = "ProcessPool(max_workers), schedule(timeout); end by close(), join(deadline), then stop()"
    lacks = {  # noqa: RUF012
        "bounded-queue": "pebble accepts any number of tasks",
        "reject-when-full": "pebble accepts any number of tasks",
        "queue-timeout": "pebble accepts any number of tasks",
        "retry": "pebble does not run a task again",
        "drain-on-sigterm": "pebble does nothing about signals to the parent",
    }

    def make(self, settings: PoolSettings) -> Any:
        """Make one."""
        context = multiprocessing.get_context(settings.start_method)
        pool = library("pebble").ProcessPool(settings.workers, context=context, **initializer(settings))
        return self.wrap(pool, settings)

    def wrap(self, pool: Any, settings: PoolSettings) -> Any:
        """Keep the time-out beside the pool."""
        return _Pool(pool, settings.task_timeout)

    def submit(self, pool: Any, fn: Callable[..., Any], *args: Any) -> FutureLike:
        """Submit by `schedule`."""
        future: FutureLike = pool.pool.schedule(fn, args=args, timeout=pool.timeout)
        return future

    async def run_async(self, pool: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """Run by `loop.run_in_executor`, with the time-out first, as pebble documents."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool.pool, fn, pool.timeout, *args)

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Close and join, until the deadline; stop where it has passed or something is to be dropped."""
        if cancel:
            pool.pool.stop()
        else:
            pool.pool.close()
        if not wait:
            return
        try:
            pool.pool.join(deadline)
        except TimeoutError:
            pool.pool.stop()
            pool.pool.join()
