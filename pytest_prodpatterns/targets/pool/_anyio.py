"""anyio: `to_process.run_sync`, a process for each call at a time, on an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.pool._protocol import FutureLike, PoolAdapter, PoolSettings

if TYPE_CHECKING:
    from collections.abc import Callable


class _Pool:
    """An event loop in a thread, and a limiter: what an application has that uses `to_process`."""

    def __init__(self, workers: int, timeout: float | None) -> None:
        self.workers = workers
        self.timeout = timeout
        self.loop: asyncio.AbstractEventLoop
        self._limiters: dict[asyncio.AbstractEventLoop, Any] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._stop: asyncio.Event
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main(ready)), name="anyio", daemon=True
        )
        self._thread.start()
        ready.wait(10.0)

    def start(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> FutureLike:
        """Start a task on the loop."""
        return asyncio.run_coroutine_threadsafe(self.tracked(fn, args), self.loop)

    async def tracked(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await self.run(fn, args)
        finally:
            self._running.discard(task)

    async def run(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run a function in a process; cancelling kills the process, as anyio offers."""
        import anyio  # noqa: PLC0415
        import anyio.to_process  # noqa: PLC0415

        limiter = self._limiters.setdefault(asyncio.get_running_loop(), anyio.CapacityLimiter(self.workers))
        with contextlib.nullcontext() if self.timeout is None else anyio.fail_after(self.timeout):
            return await anyio.to_process.run_sync(fn, *args, cancellable=True, limiter=limiter)

    def end(self, *, wait: bool, drop: bool, deadline: float | None) -> None:
        """Let the loop end: when all calls have, or at once."""
        asyncio.run_coroutine_threadsafe(self._end(drop, deadline), self.loop)
        if wait:
            self._thread.join()

    async def _main(self, ready: threading.Event) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._stop.wait()

    async def _end(self, drop: bool, deadline: float | None) -> None:
        if self._running and not drop:
            await asyncio.wait(self._running, timeout=deadline)
        self._stop.set()  # the loop cancels what is left, and kills the processes


class AnyioAdapter(PoolAdapter):
    """Adapt `anyio.to_process.run_sync`."""

    name = "anyio"
    distribution = "anyio"
    description = (
        "to_process.run_sync(cancellable=True, limiter) in fail_after(task_timeout); ended by cancelling"
    )
    lacks = {  # noqa: RUF012
        "reject-when-full": "anyio's callers wait for a place, and there is no queue to be full",
        "bounded-queue": "anyio lets any number of callers wait for a process",
        "queue-timeout": "anyio lets any number of callers wait for a process",
        "retry": "anyio does not run a task again",
        "initializer": "anyio's worker processes take no initializer",
        "drain-on-sigterm": "anyio does nothing about signals to the parent",
    }

    def make(self, settings: PoolSettings) -> Any:
        """Start a loop."""
        return _Pool(settings.workers, settings.task_timeout)

    def submit(self, pool: Any, fn: Callable[..., Any], *args: Any) -> FutureLike:
        """Start a task on the loop that awaits it."""
        future: FutureLike = pool.start(fn, args)
        return future

    async def run_async(self, pool: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """Await it on this loop."""
        return await pool.run(fn, args)

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """End the loop; what is cancelled is killed."""
        pool.end(wait=wait, drop=cancel, deadline=deadline)
