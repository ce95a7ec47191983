"""`multiprocessing.Pool` of the standard library: a shared pipe with locks, and no word about a dead worker."""

from __future__ import annotations

import multiprocessing
from typing import Any

from pytest_prodpatterns.targets.pool._applied import AppliedAdapter
from pytest_prodpatterns.targets.pool._protocol import PoolSettings, initializer


class MultiprocessingAdapter(AppliedAdapter):
    """Adapt `multiprocessing.Pool`."""

    name = "multiprocessing-pool"
    description = "multiprocessing.Pool(workers), apply_async; forced end by terminate()"
    lacks = {  # noqa: RUF012
        "bounded-queue": "multiprocessing.Pool accepts any number of tasks",
        "reject-when-full": "multiprocessing.Pool accepts any number of tasks",
        "queue-timeout": "multiprocessing.Pool accepts any number of tasks",
        "task-timeout": "multiprocessing.Pool never ends a task that runs (get(timeout) only stops waiting)",
        "retry": "multiprocessing.Pool does not run a task again",
        "async-submit": "multiprocessing.Pool has no asyncio API, and is no Executor",
        "drain-on-sigterm": "multiprocessing.Pool does nothing about signals to the parent",
    }

    def make(self, settings: PoolSettings) -> Any:
        """Make one."""
        context = multiprocessing.get_context(settings.start_method)
        return context.Pool(settings.workers, **initializer(settings))

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Close and join; terminate where something is to be dropped or a deadline is set."""
        if cancel or deadline is not None:
            pool.terminate()
        else:
            pool.close()
        if wait:
            pool.join()
