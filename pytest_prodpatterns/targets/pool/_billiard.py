"""billiard: Celery's fork of `multiprocessing.Pool`, with places, time limits and a limit on restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.pool._applied import AppliedAdapter
from pytest_prodpatterns.targets.pool._protocol import PoolSettings, initializer, library

if TYPE_CHECKING:
    from collections.abc import Callable


class BilliardAdapter(AppliedAdapter):
    """Adapt `billiard.Pool`."""

    name = "billiard"
    distribution = "billiard"
    description = (
        "Pool(workers, timeout, lost_worker_timeout=1, putlocks where bounded); forced end by terminate()"
    )
    lacks = {  # noqa: RUF012
        "reject-when-full": "billiard's submit waits for a place, and cannot be told to raise",
        "queue-timeout": "billiard's submit waits for a place for ever",
        "retry": "billiard does not run a task again",
        "async-submit": "billiard has no asyncio API, and is no Executor",
        "drain-on-sigterm": "billiard does nothing about signals to the parent",
    }

    def make(self, settings: PoolSettings) -> Any:
        """Make one; a lost worker is told after a second instead of ten."""
        places: dict[str, Any] = {}
        if settings.queue_size is not None:
            bound = settings.workers + settings.queue_size
            places = {"putlocks": True, "semaphore": library("billiard.pool").LaxBoundedSemaphore(bound)}
        return (
            library("billiard")
            .get_context(settings.start_method)
            .Pool(
                settings.workers,
                timeout=settings.task_timeout,
                lost_worker_timeout=1.0,
                **places,
                **initializer(settings),
            )
        )

    def apply(
        self,
        pool: Any,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        callback: Callable[[Any], None],
        error_callback: Callable[[BaseException], None],
    ) -> None:
        """Submit by `apply_async`, which hands its error callback an `ExceptionInfo`."""
        taken = pool.apply_async(
            fn,
            args,
            callback=callback,
            error_callback=lambda told: error_callback(_unwrapped(told.exception)),
        )
        if taken is None:
            raise RuntimeError("billiard's apply_async returned None: the pool does not run")

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Close and join; terminate where something is to be dropped or a deadline is set."""
        if cancel or deadline is not None:
            pool.terminate()
        else:
            pool.close()
        if wait:
            pool.join()


def _unwrapped(error: Any) -> BaseException:
    """Return the error itself: billiard wraps one with its traceback, and unwraps it only when it pickles it."""
    if type(error).__name__ == "ExceptionWithTraceback":
        rebuild, args = error.__reduce__()
        error = rebuild(*args)
    assert isinstance(error, BaseException)
    return error
