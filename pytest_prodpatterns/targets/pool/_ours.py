"""Our own pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pytest_prodpatterns.targets.pool._protocol import ExecutorAdapter, PoolSettings, initializer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class OurAdapter(ExecutorAdapter):
    """Adapt `pytest_prodpatterns.patterns.pool.WorkerPool`."""

    name = "ours"
    distribution = "pytest-prodpatterns"
    description = (
        "WorkerPool(workers, max_queue_size, when_full, queue_timeout, on_crash, task_timeout, start_method)"
    )

    def full_errors(self) -> tuple[type[BaseException], ...]:
        """Return `QueueFull`."""
        from pytest_prodpatterns.patterns.pool import QueueFull  # noqa: PLC0415

        return (QueueFull,)

    def make(self, settings: PoolSettings) -> Any:
        """Make one, and start it."""
        from pytest_prodpatterns.patterns.pool import WorkerPool, retry  # noqa: PLC0415

        bound: dict[str, Any] = {} if settings.queue_size is None else {"max_queue_size": settings.queue_size}
        pool = WorkerPool(
            settings.workers,
            **bound,
            name="jobs",
            start_method=cast("Any", settings.start_method),
            when_full=settings.when_full,
            queue_timeout=settings.queue_timeout,
            on_crash=retry(settings.retries) if settings.retries else "fail",
            task_timeout=settings.task_timeout,
            **initializer(settings),
        )
        return self.wrap(pool, settings)

    def wrap(self, pool: Any, settings: PoolSettings) -> Any:  # noqa: ARG002
        """Start it."""
        return pool.start()

    async def run_async(self, pool: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """Submit by `submit_async`, which waits for a place without blocking the loop."""
        return await (await pool.submit_async(fn, *args))

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Shut down, by the deadline if there is one."""
        pool.shutdown(wait=wait, cancel_futures=cancel, deadline=deadline)

    def drain(self, pool: Any, deadline: float) -> AbstractContextManager[Any]:
        """Drain by `drain_on_sigterm`."""
        context: AbstractContextManager[Any] = pool.drain_on_sigterm(deadline=deadline)
        return context
