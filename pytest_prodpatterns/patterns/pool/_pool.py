"""`WorkerPool`: the class that users meet."""

from __future__ import annotations

import atexit
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from threading import TIMEOUT_MAX
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, ParamSpec, Self

from pytest_prodpatterns.patterns._checks import seconds_or_none
from pytest_prodpatterns.patterns.pool import _engine
from pytest_prodpatterns.patterns.pool._engine import Engine
from pytest_prodpatterns.patterns.pool._executor import PoolOptions, TaskExecutor
from pytest_prodpatterns.patterns.pool._gate import Gate
from pytest_prodpatterns.patterns.pool._settings import checked, checked_deadline

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pytest_prodpatterns.patterns.pool._errors import PoolBroken
    from pytest_prodpatterns.patterns.pool._settings import Settings
    from pytest_prodpatterns.patterns.pool._stats import PoolStats, Worker
    from pytest_prodpatterns.patterns.pool._task import OnCrash, TaskFuture

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

P = ParamSpec("P")

PATIENCE = 0.4
"""Seconds beyond its deadline that a shutdown waits before it does without the supervisor."""


class TaskResult(NamedTuple):
    """What `get_result()` returns without an id: the guide's triple, with the error itself.

    Attributes:
        task_id: The task.
        value: What it returned, or None.
        error: What it raised, or None.
    """

    task_id: str
    value: Any
    error: BaseException | None


class WorkerPool(TaskExecutor):
    """Run functions in worker processes that may die, and end each task exactly once all the same.

    A `concurrent.futures.Executor`: `submit`, `map`, `shutdown`, `as_completed` and `wait` work as usual. What
    kills a worker fails (or retries) the task that it ran and no other, and the worker is replaced.  The names
    `start`, `submit_task` and `get_result` are those of the guide "Production Patterns".

    Args:
        num_workers: Processes; by default one for each CPU that this process may use.
        max_queue_size: Tasks that may wait besides those that run; None for any number.
        name: What events, logs and errors call it; by default `pool-1`, `pool-2`, …
        start_method: `fork`, `spawn` or `forkserver`; by default multiprocessing's own. With fork, workers
            inherit everything, a lock that another thread holds at that moment as well.
        when_full: What a submit does when no place is free: `block` or `reject`.
        queue_timeout: Seconds that a blocking submit waits before it raises `QueueFull`; None for ever.
        on_crash: What becomes of a task whose worker died: `"fail"` (at most once), or `retry(n)` (at least
            once, and at most n + 1 times).
        task_timeout: Seconds that a task may run; then it fails with `TaskTimeout`, and its worker ends.
        kill_grace: Seconds between SIGTERM and SIGKILL for a worker that must end.
        max_tasks_per_worker: Tasks after which a worker is replaced.
        max_worker_memory: Bytes of resident memory from which on a worker is replaced, looked at after
            each task.
        initializer: Called in each worker before its first task.
        initargs: Its arguments.
        max_restarts: Deaths within `restart_period` that are replaced; one more breaks the pool. By default
            100 for each worker. (OTP's restart intensity.)
        restart_period: Seconds.
        max_boot_failures: Workers that may end in a row before one was ready; that many break the pool.
        context_vars: Context variables that travel with each task: `ContextVar` objects that a module holds,
            or "module:attribute".
        forward_logs: Whether log records of workers are handled in this process.
        exit_deadline: Seconds that a pool which was not shut down gets at the interpreter's end.

    Raises:
        TypeError: When a parameter is of the wrong type.
        ValueError: When one is out of range.
    """

    def __init__(
        self,
        num_workers: int | None = None,
        max_queue_size: int | None = 1000,
        *,
        name: str | None = None,
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        when_full: Literal["block", "reject"] = "block",
        queue_timeout: float | None = None,
        on_crash: OnCrash = "fail",
        task_timeout: float | None = None,
        kill_grace: float = 0.2,
        max_tasks_per_worker: int | None = None,
        max_worker_memory: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
        max_restarts: int | None = None,
        restart_period: float = 10.0,
        max_boot_failures: int = 3,
        context_vars: Iterable[ContextVar[Any] | str] = (),
        forward_logs: bool = True,
        exit_deadline: float = 3.0,
    ) -> None:
        parameters = {key: value for key, value in locals().items() if key not in {"self", "__class__"}}
        self._begin(checked(**parameters), Engine)

    @classmethod
    def over(cls, client: Any, **parameters: Any) -> Self:
        """Return a pool whose tasks run on a `dask.distributed` cluster.

        Needs the extra `dask`, and this package on the cluster's scheduler and workers. The cluster stays
        yours: the pool neither starts nor closes it, and its capacity is that of the moment when it was made.

        Args:
            client: A connected `distributed.Client`, made without `asynchronous=True`.
            parameters: Those of the constructor that a cluster does not decide itself: `max_queue_size`,
                `name`, `when_full`, `queue_timeout`, `on_crash`, `task_timeout`, `kill_grace`,
                `context_vars` and `exit_deadline`.

        Raises:
            ImportError: When `distributed` is not installed.
            TypeError: When it is no such client; when a parameter is dask's own, unknown or of the wrong type.
            ValueError: When the client is closed, or a parameter is out of range.
        """
        from pytest_prodpatterns.patterns.pool._dask_settings import settings_over  # noqa: PLC0415 - an extra

        settings = settings_over(client, cls.__init__, parameters)
        from pytest_prodpatterns.patterns.pool._dask import DaskEngine  # noqa: PLC0415 - imports distributed

        pool = cls.__new__(cls)
        pool._begin(settings, partial(DaskEngine, client))  # noqa: SLF001 - of this very class
        return pool

    def _begin(self, settings: Settings, make_engine: Callable[[Settings, Gate], Any]) -> None:
        self._terms = settings.terms
        self._gate = Gate(settings.capacity, settings.name)
        self._engine = make_engine(settings, self._gate)
        self._collected = threading.Condition()
        self._waiting: dict[str, TaskFuture[Any]] = {}  # of submit_task, by id, until they are fetched
        self._finished: deque[str] = deque()  # those of them that have ended, in this order

    # -- the guide's names --------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the workers, if they are not yet; a submit does so too."""
        self._engine.start()
        return self

    def submit_task(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Accept a task and return its id; `get_result` fetches the result, which is kept until then.

        Raises:
            Exception: As `submit`.
        """
        future = self.submit(fn, *args, **kwargs)
        with self._collected:
            self._waiting[future.task_id] = future
        future.add_done_callback(self._note_finished)
        return future.task_id

    def get_result(self, task_id: str | None = None, timeout: float | None = None) -> Any:
        """Fetch the result of a task that `submit_task` accepted.

        Args:
            task_id: Which; by default the next that ends.
            timeout: Seconds to wait, or None.

        Returns:
            With an id, what the task returned; without one, a triple (task id, value, error).

        Raises:
            TimeoutError: When there is no result in time.
            LookupError: When there is no such task, or its result was fetched before; without an id and a
                time-out, when no task is left that could end.
            ValueError: When the time-out is negative or no number.
            Exception: With an id, whatever the task raised.
        """
        timeout = seconds_or_none("timeout", timeout, zero=True)
        if task_id is not None:
            return self._result_of(task_id, timeout)
        with self._collected:
            if not self._collected.wait_for(
                lambda: self._finished or self._nothing_to_come(timeout), timeout
            ):
                raise TimeoutError(f"no task ended within {timeout:g} s")
            if not self._finished:
                raise LookupError("there is no task whose result could be fetched: submit_task() one first")
            task_id = self._finished.popleft()
            future = self._waiting.pop(task_id)
            self._collected.notify_all()
        if future.cancelled():
            from concurrent.futures import CancelledError  # noqa: PLC0415

            return TaskResult(task_id, None, CancelledError())
        error = future.exception()
        return TaskResult(task_id, None if error else future.result(), error)

    def _nothing_to_come(self, timeout: float | None) -> bool:
        """Whether who waits for the next result would wait for ever; others may submit until a time-out."""
        return not self._waiting and (timeout is None or self.closed)

    def _result_of(self, task_id: str, timeout: float | None) -> Any:
        with self._collected:
            future = self._waiting.get(task_id)
        if future is None:
            raise LookupError(f"there is no result to fetch for {task_id!r}: unknown, or fetched before")
        try:
            return future.result(timeout)
        finally:
            if future.done():
                with self._collected:
                    self._waiting.pop(task_id, None)
                    if task_id in self._finished:
                        self._finished.remove(task_id)

    def _note_finished(self, future: Any) -> None:
        with self._collected:
            if future.task_id in self._waiting:  # who waits for it by its id may be quicker
                self._finished.append(future.task_id)
            self._collected.notify_all()

    # -- management ---------------------------------------------------------------------------------------------

    def options(self, **changes: Any) -> PoolOptions:
        """Return a view of this pool whose submits go by other options.

        Args:
            changes: `timeout` (seconds that a task may run), `on_crash`, `when_full`, `queue_timeout`.

        Raises:
            TypeError: When there is no such option.
            ValueError: When one is out of range.
        """
        return PoolOptions(self._engine, self._gate, self._terms.but(**changes))

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, deadline: float | None = None
    ) -> None:
        """Take no more tasks, let those that were accepted end, and let the workers go.

        Args:
            wait: Whether to return only when every worker is gone.
            cancel_futures: Whether tasks that no worker has begun are cancelled.
            deadline: Seconds after which what is left fails with `ShutdownCancelled` and every worker is
                killed; the call returns within half a second more, in every state of the pool. None: never.

        Raises:
            TypeError: When the deadline is no number.
            ValueError: When it is negative.
        """
        deadline = checked_deadline(deadline)
        self._engine.close(cancel_queued=cancel_futures, deadline=deadline)
        if not wait or self._engine.in_supervisor():
            return
        if not self._engine.finished.wait(
            None if deadline is None else min(deadline + PATIENCE, TIMEOUT_MAX)
        ):
            self._engine.force()

    async def shutdown_async(self, *, cancel_futures: bool = False, deadline: float | None = None) -> None:
        """Shut down as `shutdown` does, without blocking the loop."""
        import asyncio  # noqa: PLC0415 - only who awaits needs it

        deadline = checked_deadline(deadline)
        self._engine.close(cancel_queued=cancel_futures, deadline=deadline)  # now, not when a thread is free
        await asyncio.to_thread(self.shutdown, cancel_futures=cancel_futures, deadline=deadline)

    def drain_on_sigterm(self, deadline: float = 30.0) -> AbstractContextManager[None]:
        """Let SIGTERM drain this pool inside the block, before it ends the process as it would have.

        The first SIGTERM stops the intake; what was accepted may end within the deadline, the rest fails
        with `ShutdownCancelled`. Then the handler that was there before is called; where there was none, the
        main thread gets `SystemExit(143)`. A second SIGTERM ends the drain at once.

        Args:
            deadline: Seconds.

        Raises:
            ValueError: Outside the main thread, where no handler can be set.
        """
        from pytest_prodpatterns.patterns.pool._drain import draining_on_sigterm  # noqa: PLC0415

        return draining_on_sigterm(self._engine, checked_deadline(deadline))

    def workers(self) -> tuple[Worker, ...]:
        """Return the workers that are alive, the oldest first."""
        return self._engine.workers()

    def stats(self) -> PoolStats:
        """Return a snapshot of queue, workers and totals."""
        return self._engine.stats()

    @property
    def pending(self) -> int:
        """How many tasks were accepted and have not ended."""
        return self._gate.taken

    @property
    def capacity(self) -> int | None:
        """How many unfinished tasks it takes: `num_workers + max_queue_size`; None for any number."""
        return self._gate.capacity

    @property
    def num_workers(self) -> int:
        """How many processes it keeps."""
        return self._engine.settings.num_workers

    @property
    def max_queue_size(self) -> int | None:
        """How many tasks may wait besides those that run."""
        return self._engine.settings.max_queue_size

    @property
    def name(self) -> str:
        """What events, logs and errors call it."""
        return self._engine.settings.name

    @property
    def closed(self) -> bool:
        """Whether it takes no more tasks."""
        return self._engine.state not in {"new", "open"}

    @property
    def broken(self) -> PoolBroken | None:
        """Why it gave up, or None."""
        return self._engine.broken

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(cancel_futures=kind is not None)

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown_async(cancel_futures=kind is not None)

    def __repr__(self) -> str:
        state = "broken" if self.broken else self._engine.state
        return f"<WorkerPool {self.name!r} {state}: {self.num_workers} workers, {self.pending} of {self.capacity} places>"

    def __del__(self) -> None:
        engine = getattr(self, "_engine", None)
        if engine is not None and engine.state == "open":
            warnings.warn(
                f"pool {engine.settings.name!r} was never shut down", ResourceWarning, 2, source=self
            )
            engine.close(cancel_queued=False, deadline=None)


def _close_forgotten() -> None:
    """End the pools that nobody shut down; the interpreter must not wait for them for ever."""
    engines = [*_engine.running()]
    for engine in engines:
        engine.close(cancel_queued=False, deadline=engine.settings.exit_deadline)
    begin = monotonic()
    for engine in engines:
        end = begin + engine.settings.exit_deadline + PATIENCE
        if not engine.finished.wait(max(0.0, end - monotonic())):
            engine.force()


atexit.register(_close_forgotten)
