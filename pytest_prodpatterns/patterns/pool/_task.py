"""A task: what the ledger knows of one call, and the future that its caller holds."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from concurrent.futures import Future
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypeVar

from pytest_prodpatterns.patterns.pool._state import TaskState

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.pool._call import Message
    from pytest_prodpatterns.patterns.pool._errors import WorkerCrashed

T = TypeVar("T")

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Retry:
    """Run a task again when the process that ran it died; see `retry`.

    Attributes:
        times: How often, at most, after the first attempt.
    """

    times: int


OnCrash = Literal["fail"] | Retry


def retry(times: int) -> Retry:
    """Return the policy `on_crash=retry(n)`: at least once, and at most n + 1 times.

    A task whose worker died is run again, up to `times` times; after that it fails with `PoisonTask`, which
    holds the history. Use it for tasks that may be run twice: the worker may have died behind the work.
    The default of other systems is 3 (dask's `allowed-failures`, ray's `max_retries`).

    Args:
        times: Attempts after the first one; at least 1.

    Raises:
        ValueError: When `times` is no whole number of at least 1.
    """
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        raise ValueError(f"retry(times) must be a whole number of at least 1, got {times!r}")
    return Retry(times)


class TaskFuture(Future[T]):
    """The answer to come. A `concurrent.futures.Future` that can be awaited, and whose `cancel` is heard."""

    _task: Task[T] | None = None  # gone when it is settled: a task and its future must not keep each other
    _owner: Owner | None = None
    _number = 0

    @property
    def task_id(self) -> str:
        """The task's id, unique in this process."""
        return f"task-{self._number}"

    def running(self) -> bool:
        """Tell whether a worker has it."""
        task = self._task
        return task is not None and task.state is TaskState.SENT and not self.done()

    def cancel(self) -> bool:
        """Cancel the task; one that runs is ended together with its worker, which is replaced.

        Returns:
            False when it had ended before, else True.
        """
        with self._condition:
            if self._state == FINISHED:
                return False
            if self._state in {CANCELLED, CANCELLED_AND_NOTIFIED}:
                return True
            self._state = CANCELLED
            self._condition.notify_all()
        task, self._task = self._task, None
        if task is not None and self._owner is not None:
            self._owner.cancel_task(task)
        self.set_running_or_notify_cancel()  # tells those who wait() for it
        self._invoke_callbacks()  # type: ignore[attr-defined]
        return True

    def settle(self, value: T) -> bool:
        """Set the result, unless it was cancelled meanwhile; return whether it was set."""
        with self._condition:
            if self._state in {CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED}:
                return False
            self._task = None
            self._result = value
            self._state = FINISHED
            for waiter in self._waiters:
                waiter.add_result(self)
            self._condition.notify_all()
        return self._call_back()

    def settle_error(self, error: BaseException) -> bool:
        """Set the exception, unless it was cancelled meanwhile; return whether it was set."""
        with self._condition:
            if self._state in {CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED}:
                return False
            self._task = None
            self._exception = error
            self._state = FINISHED
            for waiter in self._waiters:
                waiter.add_exception(self)
            self._condition.notify_all()
        return self._call_back()

    def _call_back(self) -> bool:
        if self._done_callbacks:  # type: ignore[attr-defined]
            self._invoke_callbacks()  # type: ignore[attr-defined]
        return True

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio  # noqa: PLC0415 - only who awaits needs it

        return asyncio.wrap_future(self).__await__()


class Owner(Protocol):
    """Who ends a task when its future is cancelled."""

    def cancel_task(self, task: Task[Any]) -> None:
        """End the task; it may have ended already."""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How one task is treated.

    Attributes:
        timeout: Seconds that it may run, or None.
        on_crash: `fail`, or how often it is retried.
    """

    timeout: float | None = None
    on_crash: OnCrash = "fail"


class Task(Generic[T]):
    """One accepted call, from `submit` to its end.

    Attributes:
        number: Its number in this process.
        name: The name of its function.
        message: The call, ready to be sent; kept until the task ends, for it may be sent again.
        future: What the caller holds.
        options: Time-out and crash policy.
        state: Where it stands; changed by `advance` alone.
        attempts: How often a worker began it and did not live to answer, plus one.
        history: The crashes so far.
    """

    __slots__ = ("attempts", "future", "history", "message", "name", "number", "options", "state")

    def __init__(
        self, name: str, message: Message, future: TaskFuture[T], options: TaskOptions, owner: Owner
    ) -> None:
        self.number = future._number = next(_numbers)  # noqa: SLF001
        future._task, future._owner = self, owner  # noqa: SLF001
        self.name = name
        self.message = message
        self.future = future
        self.options = options
        self.state = TaskState.QUEUED
        self.attempts = 1
        self.history: list[WorkerCrashed] = _NO_CRASHES

    @property
    def id(self) -> str:
        """The id that callers see."""
        return f"task-{self.number}"


_NO_CRASHES: Final[list[Any]] = []
"""Shared by all tasks that never crashed: replaced, never appended to."""
