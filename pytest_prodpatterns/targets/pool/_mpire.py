"""mpire: a queue a worker, quick maps, time-outs by signal; one dead worker fails everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.pool import _tasks
from pytest_prodpatterns.targets.pool._applied import AppliedAdapter
from pytest_prodpatterns.targets.pool._protocol import PoolSettings, library

if TYPE_CHECKING:
    from collections.abc import Callable


class _Pool:
    """A pool, and what mpire wants at each call."""

    def __init__(self, pool: Any, **options: Any) -> None:
        self.pool = pool
        self.options = options


class MpireAdapter(AppliedAdapter):
    """Adapt `mpire.WorkerPool`."""

    name = "mpire"
    distribution = "mpire"
    description = "WorkerPool(n_jobs), apply_async(task_timeout, worker_init); forced end by terminate()"
    lacks = {  # noqa: RUF012
        "bounded-queue": "mpire accepts any number of tasks",
        "reject-when-full": "mpire accepts any number of tasks",
        "queue-timeout": "mpire accepts any number of tasks",
        "retry": "mpire does not run a task again",
        "async-submit": "mpire has no asyncio API, and is no Executor",
        "drain-on-sigterm": "mpire does nothing about signals to the parent",
    }

    def make(self, settings: PoolSettings) -> Any:
        """Make one."""
        method = {} if settings.start_method is None else {"start_method": settings.start_method}
        return self.wrap(library("mpire").WorkerPool(settings.workers, **method), settings)

    def wrap(self, pool: Any, settings: PoolSettings) -> Any:
        """Keep the time-out and the initializer beside the pool."""
        options: dict[str, Any] = {"task_timeout": settings.task_timeout}
        if settings.initializer is not None:
            options["worker_init"] = _INITIALIZERS[settings.initializer]
        return _Pool(pool, **options)

    def apply(
        self,
        pool: Any,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        callback: Callable[[Any], None],
        error_callback: Callable[[BaseException], None],
    ) -> None:
        """Submit by `apply_async`."""
        pool.pool.apply_async(fn, args, callback=callback, error_callback=error_callback, **pool.options)

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Stop and join; terminate where something is to be dropped or nobody waits for it."""
        if cancel or deadline is not None or not wait:
            pool.pool.terminate()
        else:
            pool.pool.stop_and_join()


def _notes() -> None:
    _tasks.initialize("notes")


def _fails() -> None:
    _tasks.initialize("fails")


def _slow() -> None:
    _tasks.initialize("slow")


_INITIALIZERS = {"notes": _notes, "fails": _fails, "slow": _slow}
"""mpire hands its initializer no arguments."""
