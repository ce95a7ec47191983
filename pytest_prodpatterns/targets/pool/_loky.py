"""loky: the executor behind joblib; broken by one dead worker, replaced by the next `get_reusable_executor`."""

from __future__ import annotations

import concurrent.futures
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


class _Reusable:
    """Ask for the reusable executor before each use, as loky's README does.

    It belongs to the thread that asks, so one thread asks for all.
    """

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "loky")
        self.ask(lambda executor: executor)

    def ask(self, use: Callable[[Any], Any]) -> Any:
        return self._thread.submit(lambda: use(self._get())).result()

    def _get(self) -> Any:
        return library("loky").get_reusable_executor(**self._arguments)


class LokyAdapter(ExecutorAdapter):
    """Adapt `loky.get_reusable_executor`."""

    name = "loky"
    distribution = "loky"
    description = (
        "get_reusable_executor(workers), asked for anew before each submit; forced end by kill_workers"
    )
    lacks = {  # noqa: RUF012
        "bounded-queue": "loky accepts any number of tasks",
        "reject-when-full": "loky accepts any number of tasks",
        "queue-timeout": "loky accepts any number of tasks",
        "task-timeout": "loky never ends a task that runs (result(timeout) only stops waiting)",
        "retry": "loky does not run a task again",
        "drain-on-sigterm": "loky does nothing about signals to the parent",
    }

    def make(self, settings: PoolSettings) -> Any:
        """Make one, with loky's own start method unless another is asked for."""
        return _Reusable(max_workers=settings.workers, context=settings.start_method, **initializer(settings))

    def submit(self, pool: Any, fn: Callable[..., Any], *args: Any) -> FutureLike:
        """Submit to the executor of the moment."""
        future: FutureLike = pool.ask(lambda executor: executor.submit(fn, *args))
        return future

    async def run_async(self, pool: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """Run in the executor of the moment."""
        executor = pool.ask(lambda executor: executor)
        return await super().run_async(executor, fn, *args)

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Shut down; kill the workers where something is to be dropped or a deadline is set."""
        force = cancel or deadline is not None
        pool.ask(lambda executor: executor.shutdown(wait=wait, kill_workers=force))
