"""The engine of a pool as its callers see it: hand tasks in, cancel them, close it, look at it."""

from __future__ import annotations

import os
import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_prodpatterns.patterns.pool._books import Books
from pytest_prodpatterns.patterns.pool._stats import PoolStats, Worker
from pytest_prodpatterns.patterns.pool._supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pytest_prodpatterns.patterns.pool._books import State
    from pytest_prodpatterns.patterns.pool._errors import PoolBroken, PoolError
    from pytest_prodpatterns.patterns.pool._gate import Gate
    from pytest_prodpatterns.patterns.pool._link import Link
    from pytest_prodpatterns.patterns.pool._settings import Settings
    from pytest_prodpatterns.patterns.pool._task import Task


INTERRUPTED: Final = 0.2
"""Seconds without the lock, which nobody else holds for so long, that mean: it will not be free before we return."""
PROMPT: Final = 0.05


class Engine:
    """What a `WorkerPool` runs on; every method may be called by any thread.

    Attributes:
        settings: The pool's settings.
        gate: Its places.
        finished: Set when every worker is gone and every future is settled.
    """

    def __init__(self, settings: Settings, gate: Gate) -> None:
        self.settings = settings
        self.gate = gate
        self.finished = threading.Event()
        self._books = Books(settings, gate)
        self._supervisor: Supervisor | None = None

    @property
    def state(self) -> State:
        """Where the pool stands."""
        return self._books.state

    @property
    def broken(self) -> PoolBroken | None:
        """Why it gave up, or None."""
        return self._books.broken

    def refusal(self) -> PoolError:
        """Return why no task is taken."""
        return self._books.refusal()

    def start(self) -> None:
        """Start the supervisor, once; it starts the workers.

        Raises:
            PoolError: When the pool was closed.
        """
        books = self._books
        with books.lock:
            if books.state == "open":
                return
            if books.state != "new":
                raise self.refusal()
            self._supervisor = Supervisor(books, self._end)
            books.state = "open"
            books.emit("started", workers=self.settings.num_workers, method=self.settings.start_method)
            try:
                self._supervisor.start()
            except BaseException:
                books.state = "new"
                books.set_alarm(None)
                self._supervisor.disown()
                raise
            _engines.add(self)

    def accept(self, tasks: Sequence[Task[Any]]) -> None:
        """Take tasks whose places are paid for, of the same options: all, or none.

        Raises:
            PoolError: When the pool is closed or broken.
        """
        with self._books.lock:
            self._books.accept(tasks)

    def withdraw(self, task: Task[Any]) -> bool:
        """End a task whose caller will never get its future; return whether its place is his to give back."""
        with self._books.lock:
            return self._books.withdraw(task)

    def cancel_task(self, task: Task[Any]) -> None:
        """End a task whose future was cancelled; if a worker runs it, end the worker."""
        books = self._books
        if books.state == "foreign":
            return
        # Another thread gives the lock back at once; one that a finalizer interrupted does not before we return,
        # and a finalizer may cancel thousands: only the first of them waits.
        if not books.lock.acquire(timeout=0 if books.postponed else PROMPT):
            books.postpone(task)
            return
        try:
            cancelled = books.cancel(task)
        finally:
            books.lock.release()
        if cancelled:
            self.gate.give()

    def close(self, *, cancel_queued: bool, deadline: float | None) -> None:
        """Take no more tasks, finish or cancel those that were taken, and let the workers go.

        Args:
            cancel_queued: Whether tasks that no worker has begun are cancelled.
            deadline: Seconds until everything that is left is killed, or None.
        """
        books = self._books
        cancelled: list[Task[Any]] = []
        if books.state == "foreign":  # locks in a forked child may be held by threads that it does not have
            self.finished.set()
            return
        if not books.lock.acquire(
            timeout=INTERRUPTED
        ):  # we are a handler or finalizer that interrupted its holder
            later = partial(self.close, cancel_queued=cancel_queued, deadline=deadline)
            threading.Thread(target=later, name="close", daemon=True).start()
            return
        try:
            if books.state == "new":
                books.state = "ended"
                self.finished.set()
            if books.state in {"open", "draining"}:
                books.state = "draining"
                if deadline is not None:
                    at = monotonic() + deadline
                    books.deadline = at if books.deadline is None else min(at, books.deadline)
                if cancel_queued:
                    cancelled = books.cancel_queued()
                books.wake()
        finally:
            books.lock.release()
        self.gate.close(self.refusal)
        self.gate.give(len(cancelled))
        _aside(lambda: [task.future.cancel() for task in cancelled], deadline)

    def force(self) -> None:
        """Kill every worker and settle every future now, without the supervisor."""
        books = self._books
        with books.lock:
            if books.state in {"new", "foreign", "ended"}:
                return
            books.cut_off()
            for link in books.links.values():
                link.kill()
            books.wake()
        _aside(books.settle_answers, PROMPT)
        _aside(books.settle_doomed, PROMPT)

    def workers(self) -> tuple[Worker, ...]:
        """Return the workers that are alive, the oldest first."""
        if self._books.state == "foreign":
            return ()
        with self._books.lock:
            links = sorted(self._books.links.values(), key=lambda link: link.started_at)
            return tuple(map(_snapshot, links))

    def stats(self) -> PoolStats:
        """Return a snapshot."""
        workers = self.workers()
        busy = sum(worker.state == "busy" for worker in workers)
        books = self._books
        with books.lock:
            tally = books.tally
            return PoolStats(
                workers=len(workers),
                busy=busy,
                queued=max(0, self.gate.taken - busy),
                running=busy,
                unfinished=self.gate.taken,
                capacity=self.gate.capacity,
                submitted=tally.submitted,
                completed=tally.completed,
                failed=tally.failed,
                crashed=tally.crashed,
                timed_out=tally.timed_out,
                cancelled=tally.cancelled,
                retried=tally.retried,
                restarts=books.restarts.total,
                durations=tally.durations(),
            )

    def in_supervisor(self) -> bool:
        """Whether the caller is the supervisor: a callback of a future, which must not wait for itself."""
        return self._supervisor is threading.current_thread()

    def disown(self) -> None:
        """Let go of everything in a forked child."""
        self._books.disown()
        if self._supervisor is not None:
            self._supervisor.disown()

    def _end(self) -> None:
        _engines.discard(self)
        self.gate.close(self.refusal)
        self.finished.set()


def _aside(settle: Callable[[], object], seconds: float | None) -> None:
    """Settle futures for so many seconds at most: their callbacks are the user's, and may never return."""
    if seconds is None:
        settle()
        return
    thread = threading.Thread(target=settle, name="settle", daemon=True)
    thread.start()
    thread.join(min(seconds, threading.TIMEOUT_MAX))


_engines: set[Engine] = set()


def running() -> Collection[Engine]:
    """Return the engines of this process whose supervisor runs."""
    return [*_engines]


def _snapshot(link: Link) -> Worker:
    state: Literal["starting", "idle", "busy", "stopping"]
    task = link.current_task()
    if link.phase == "starting":
        state = "starting"
    elif link.phase != "ready" or link.dead:
        state = "stopping"
    else:
        state = "busy" if task else "idle"
    return Worker(link.pid, state, task.id if task else None, link.tasks_done, link.started_at)


def _disown_all() -> None:
    for engine in running():
        engine.disown()
    _engines.clear()


os.register_at_fork(after_in_child=_disown_all)
