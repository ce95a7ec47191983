"""deadpool: a process that dies fails its own task alone; a thread a task, a bounded backlog."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.pool._protocol import (
    ExecutorAdapter,
    FutureLike,
    PoolSettings,
    initializer,
    library,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class _Pool:
    """A pool, and the time-out that deadpool wants at each call."""

    def __init__(self, pool: Any, timeout: float | None) -> None:
        self.pool = pool
        self.options = {} if timeout is None else {"deadpool_timeout": timeout}


class DeadpoolAdapter(ExecutorAdapter):
    """Adapt `deadpool.Deadpool`."""

    name = "deadpool"
    distribution = "deadpool-executor"
    description = "Deadpool(max_workers, max_backlog), submit(deadpool_timeout); forced end by shutdown(wait=False, cancel_futures=True)"
    lacks = {  # noqa: RUF012
        "reject-when-full": "deadpool's submit waits for a place, and cannot be told to raise",
        "queue-timeout": "deadpool's submit waits for a place for ever",
        "retry": "deadpool runs a task again only when it could not be sent",
        "drain-on-sigterm": "deadpool does nothing about signals to the parent",
    }

    def make(self, settings: PoolSettings) -> Any:
        """Make one, with deadpool's own start method unless another is asked for."""
        bound = {} if settings.queue_size is None else {"max_backlog": settings.queue_size}
        pool = library("deadpool").Deadpool(
            settings.workers, mp_context=settings.start_method, **bound, **initializer(settings)
        )
        return self.wrap(pool, settings)

    def wrap(self, pool: Any, settings: PoolSettings) -> Any:
        """Keep the time-out beside the pool."""
        return _Pool(pool, settings.task_timeout)

    def submit(self, pool: Any, fn: Callable[..., Any], *args: Any) -> FutureLike:
        """Submit, with the time-out."""
        future: FutureLike = pool.pool.submit(fn, *args, **pool.options)
        return future

    async def run_async(self, pool: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """Run by `loop.run_in_executor`."""
        return await super().run_async(pool.pool, functools.partial(fn, *args))

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Shut down; with a deadline, the way that kills what runs."""
        if deadline is not None:
            wait, cancel = False, True
        pool.pool.shutdown(wait=wait, cancel_futures=cancel)
