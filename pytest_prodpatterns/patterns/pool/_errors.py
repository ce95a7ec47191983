"""The errors of a pool: what happened, to which task, in which process.

They travel: each pickles with its attributes, so that a pool may run inside another pool's worker.
"""

from __future__ import annotations

import pickle
import queue
import signal
from concurrent.futures import BrokenExecutor
from copyreg import __newobj__  # type: ignore[attr-defined]
from typing import Any, Final, Self

_DOOR: Final = "pytest_prodpatterns.patterns.pool"  # where reports, pickle and users find the errors


def describe_exit(exitcode: int | None) -> str:
    """Return how a process ended, in words: "SIGKILL", "exit code 3" or "unknown exit code".

    Args:
        exitcode: As `multiprocessing.Process.exitcode`: negative for signals; None when nobody knows.
    """
    if exitcode is None:
        return "unknown exit code"
    return f"exit code {exitcode}" if exitcode >= 0 else _signal_name(-exitcode)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names between the first and the last
        return f"signal {number}"


class PoolError(RuntimeError):
    """What all errors of a pool have in common."""

    __module__ = _DOOR

    def __reduce__(self) -> tuple[Any, ...]:
        # Not through the constructor: its arguments are keywords, and a subclass may want others.
        return __newobj__, (type(self),), {**self.__dict__, "args": self.args}


class QueueFull(PoolError, queue.Full):  # noqa: N818
    """Raised by a submit that found no free place, or waited in vain for one.

    Attributes:
        capacity: How many unfinished tasks the pool takes.
        waited: Seconds the submit waited; None when it did not wait.
        name: The pool's name.
    """

    __module__ = _DOOR

    def __init__(self, *, capacity: int, waited: float | None = None, name: str | None = None) -> None:
        self.capacity = capacity
        self.waited = waited
        self.name = name
        wait = "" if waited is None else f"; no place became free within {waited:.3g} s"
        super().__init__(f"{_pool(name)} is full: {capacity} of {capacity} places are taken{wait}")


class PoolClosed(PoolError):  # noqa: N818
    """Raised by a submit after `shutdown()` was called.

    Attributes:
        name: The pool's name.
    """

    __module__ = _DOOR

    def __init__(self, *, name: str | None = None) -> None:
        self.name = name
        super().__init__(f"{_pool(name)} is shut down and takes no more tasks")


class PoolBroken(PoolError, BrokenExecutor):  # noqa: N818
    """The pool gave up: its workers ended too often, or could not be started.

    The last cause is the `__cause__` too, so that a traceback shows it.

    Attributes:
        name: The pool's name.
        causes: What ended the workers, oldest first.
        reason: Which limit was exceeded.
    """

    __module__ = _DOOR

    def __init__(
        self,
        *,
        name: str | None = None,
        causes: tuple[BaseException, ...] = (),
        reason: str = "its workers keep ending",
    ) -> None:
        self.name = name
        self.causes = tuple(causes)
        self.reason = reason
        last = f"; the last cause: {_line(self.causes[-1])}" if self.causes else ""
        super().__init__(f"{_pool(name)} is broken: {reason}{last}")
        self._show_cause()

    def _show_cause(self) -> None:
        if self.causes:
            self.__cause__ = self.causes[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        make, arguments, state = super().__reduce__()
        return make, arguments, {**state, "causes": tuple(map(_able_to_travel, self.causes))}

    def __setstate__(self, state: dict[str, Any] | None, /) -> None:
        super().__setstate__(state)
        self._show_cause()


class WorkerCrashed(PoolError, BrokenExecutor):  # noqa: N818
    """The worker that ran a task ended before the task did: killed, crashed or exited.

    The task may have had effects. The pool goes on with a new worker.

    Attributes:
        task_id: The task's id; None for a worker that had no task.
        task: The name of the task's function.
        pid: The worker's process id.
        exitcode: As `multiprocessing.Process.exitcode`: negative for signals; None when nobody knows.
        attempt: How many times the task had been started, this time included.
    """

    __module__ = _DOOR

    def __init__(
        self,
        *,
        task_id: str | None = None,
        task: str | None = None,
        pid: int | None = None,
        exitcode: int | None = None,
        attempt: int = 1,
    ) -> None:
        self.task_id = task_id
        self.task = task
        self.pid = pid
        self.exitcode = exitcode
        self.attempt = attempt
        super().__init__(self._text())

    def _text(self) -> str:
        busy = "a worker without a task" if self.task_id is None else f"the worker of {_task(self)}"
        again = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"{busy} died (pid {self.pid}{again}): {_ending(self.exitcode)}"

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended the worker, such as "SIGKILL"; None when it was none."""
        return _signal_name(-self.exitcode) if self.exitcode is not None and self.exitcode < 0 else None


class PoisonTask(WorkerCrashed):
    """A task killed its worker each time it was tried, and is not tried again.

    The other attributes are those of the last crash.

    Attributes:
        history: One `WorkerCrashed` for each attempt, oldest first.
    """

    __module__ = _DOOR

    def __init__(
        self,
        *,
        task_id: str | None = None,
        task: str | None = None,
        history: tuple[WorkerCrashed, ...] = (),
    ) -> None:
        self.history = tuple(history)
        last = self.history[-1] if self.history else None
        super().__init__(
            task_id=task_id,
            task=task,
            pid=last.pid if last else None,
            exitcode=last.exitcode if last else None,
            attempt=len(self.history),
        )

    def _text(self) -> str:
        deaths = ", ".join(describe_exit(crash.exitcode) for crash in self.history[-10:])
        times = "once" if len(self.history) == 1 else f"{len(self.history)} times"
        return f"{_task(self)} killed its worker {times} and is not tried again: {deaths}"


class TaskTimeout(PoolError, TimeoutError):  # noqa: N818
    """A task ran longer than its time-out; its worker was killed.

    Attributes:
        task_id: The task's id.
        task: The name of the task's function.
        timeout: Seconds it was allowed to run.
        pid: The process id of the worker that was killed.
    """

    __module__ = _DOOR

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        return TimeoutError.__new__(cls)  # CPython wants the one of the widest base, and PoolError's is first

    def __init__(
        self,
        *,
        task_id: str | None = None,
        task: str | None = None,
        timeout: float | None = None,
        pid: int | None = None,
    ) -> None:
        self.task_id = task_id
        self.task = task
        self.timeout = timeout
        self.pid = pid
        allowed = "it was allowed" if timeout is None else f"{timeout:g} s"
        super().__init__(f"{_task(self)} ran longer than {allowed}; its worker (pid {pid}) was killed")


class ShutdownCancelled(PoolError):  # noqa: N818
    """A task that the pool's shutdown cut off: it was not run, or not to its end.

    Attributes:
        task_id: The task's id.
        task: The name of the task's function.
        name: The pool's name.
    """

    __module__ = _DOOR

    def __init__(
        self, *, task_id: str | None = None, task: str | None = None, name: str | None = None
    ) -> None:
        self.task_id = task_id
        self.task = task
        self.name = name
        super().__init__(f"{_pool(name)} shut down before {_task(self)} was done")


class RemoteError(PoolError):
    """An exception of a task that could not arrive as itself.

    Its type cannot be imported here, or it is no `Exception` (as SystemExit and KeyboardInterrupt) and
    would end the caller.

    Attributes:
        type_name: The name of the exception's type, with its module unless that is `builtins`.
        text: What `str()` of the exception said in the worker.
        traceback: The traceback as the worker formatted it; "" when there is none.
    """

    __module__ = _DOOR

    def __init__(self, *, type_name: str, text: str = "", traceback: str = "") -> None:
        self.type_name = type_name
        self.text = text
        self.traceback = traceback
        super().__init__(f"{type_name}: {text}" if text else type_name)


def _pool(name: str | None) -> str:
    return "the pool" if name is None else f"pool {name!r}"


def _task(error: WorkerCrashed | TaskTimeout | ShutdownCancelled) -> str:
    name = "" if error.task is None else f" ({error.task})"
    return f"task {error.task_id}{name}"


def _ending(exitcode: int | None) -> str:
    # The kernel kills without a word when memory is short: whoever sees a SIGKILL should think of it.
    hint = " (perhaps out of memory?)" if exitcode == -signal.SIGKILL else ""
    return describe_exit(exitcode) + hint


def _line(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  # an error text must not fail because of another
        return type(error).__name__


def _able_to_travel(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    except Exception:  # noqa: BLE001
        name, _, text = _line(error).partition(": ")
        return RemoteError(type_name=name, text=text)
    return error
