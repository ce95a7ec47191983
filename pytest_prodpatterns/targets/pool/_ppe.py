"""`concurrent.futures.ProcessPoolExecutor` of the standard library, by each of its start methods."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import sys
from typing import Any, Final

from pytest_prodpatterns.targets.pool._protocol import ExecutorAdapter, PoolSettings, initializer

_LACKS: Final = {
    "bounded-queue": "ProcessPoolExecutor accepts any number of tasks",
    "reject-when-full": "ProcessPoolExecutor accepts any number of tasks",
    "queue-timeout": "ProcessPoolExecutor accepts any number of tasks",
    "task-timeout": "ProcessPoolExecutor never ends a task that runs (result(timeout) only stops waiting)",
    "retry": "ProcessPoolExecutor does not run a task again",
    "drain-on-sigterm": "ProcessPoolExecutor does nothing about signals to the parent",
}
_NO_FORCE: Final = (
    "ProcessPoolExecutor.shutdown has neither a deadline nor force (kill_workers comes with 3.14)"
)
_FORCE: Final = sys.version_info >= (3, 14)


class _Adapter(ExecutorAdapter):
    """Adapt `ProcessPoolExecutor`."""

    lacks = _LACKS if _FORCE else _LACKS | {"shutdown-deadline": _NO_FORCE}
    method = ""

    def make(self, settings: PoolSettings) -> Any:
        """Make one."""
        context = multiprocessing.get_context(settings.start_method or self.method)
        return concurrent.futures.ProcessPoolExecutor(
            settings.workers, mp_context=context, **initializer(settings)
        )

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Shut down; by force where there is a deadline and the version knows force."""
        if deadline is not None and _FORCE:
            pool.kill_workers()
        else:
            super().shutdown(pool, wait=wait, cancel=cancel, deadline=deadline)


class ForkAdapter(_Adapter):
    """With forked workers."""

    name = "ppe-fork"
    method = "fork"
    description = "ProcessPoolExecutor(workers, mp_context=fork)"


class ForkserverAdapter(_Adapter):
    """With workers of a fork server."""

    name = "ppe-forkserver"
    method = "forkserver"
    description = "ProcessPoolExecutor(workers, mp_context=forkserver)"


class SpawnAdapter(_Adapter):
    """With workers that are started anew."""

    name = "ppe-spawn"
    method = "spawn"
    description = "ProcessPoolExecutor(workers, mp_context=spawn)"
