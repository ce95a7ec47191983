"""Pools of the family of `multiprocessing.Pool`: `apply_async` with two callbacks instead of futures."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.pool._protocol import FutureLike, PoolAdapter

if TYPE_CHECKING:
    from collections.abc import Callable


class AppliedAdapter(PoolAdapter):
    """Submit by `apply_async(fn, args, callback=…, error_callback=…)`."""

    def submit(self, pool: Any, fn: Callable[..., Any], *args: Any) -> FutureLike:
        """Submit, and let the library's callbacks fill a future."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()  # these libraries cannot take back a task
        self.apply(pool, fn, args, future.set_result, future.set_exception)
        return future

    def apply(
        self,
        pool: Any,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        callback: Callable[[Any], None],
        error_callback: Callable[[BaseException], None],
    ) -> None:
        """Call `apply_async` with what the library wants besides."""
        pool.apply_async(fn, args, callback=callback, error_callback=error_callback)
