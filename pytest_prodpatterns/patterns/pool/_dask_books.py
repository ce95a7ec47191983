"""The books of a pool over dask: which task runs where, what a death means to it, and the totals; no I/O.

A local pool's books also hold a queue and desks (see `_books`, `_ledger`); both are dask's here.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.lab import emit, listening
from pytest_prodpatterns.patterns.pool._dask_flights import Flight, Key, Member
from pytest_prodpatterns.patterns.pool._errors import PoisonTask, TaskTimeout, WorkerCrashed
from pytest_prodpatterns.patterns.pool._state import TaskEvent, TaskState, advance
from pytest_prodpatterns.patterns.pool._stats import PoolStats, Tally
from pytest_prodpatterns.patterns.pool._task import Retry

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.pool._books import State
    from pytest_prodpatterns.patterns.pool._dask_cluster import Seat
    from pytest_prodpatterns.patterns.pool._errors import PoolBroken
    from pytest_prodpatterns.patterns.pool._gate import Gate
    from pytest_prodpatterns.patterns.pool._task import Task


class Books:
    """The shared state of a pool.

    Args:
        name: What events call the pool.
        pool: What the cluster calls it.

    Attributes:
        lock: Held by who calls a method here, or touches an attribute.
        state: Where the pool stands.
        broken: Why it gave up.
        flights: Unfinished tasks, by their numbers.
        crew: Workers that are there, by address.
        tally: Totals.
        restarts: Deaths of workers that nobody ordered.
    """

    def __init__(self, name: str, pool: str) -> None:
        self.lock = threading.Lock()
        self.state: State = "new"
        self.broken: PoolBroken | None = None
        self.flights: dict[int, Flight] = {}
        self.crew: dict[str, Member] = {}
        self.tally = Tally()
        self.restarts = 0
        self._source = f"pool:{name}"
        self._pool = pool
        self._gone: dict[str, Member] = {}  # whose exit code is not known yet, by address

    def emit(self, kind: str, **attributes: Any) -> None:
        """Tell the timeline, if there is one."""
        emit(self._source, kind, **attributes)

    # -- tasks --------------------------------------------------------------------------------------------------

    def accept(self, task: Task[Any]) -> Flight:
        """Take a new task."""
        self.tally.submitted += 1
        if listening():
            self.emit("submitted", task=task.id, name=task.name)
        flight = self.flights[task.number] = Flight(task, self._pool)
        return flight

    def find(self, key: Key) -> Flight | None:
        """Return the task of a key; None when it has ended, or goes by another key now."""
        flight = self.flights.get(key[1])
        return flight if flight is not None and flight.key == key else None

    def begun(self, key: Key, worker: str) -> Flight | None:
        """Note that a worker has begun a task; return it, or None when nobody wants it any more."""
        member = self.crew.get(worker)
        if member is not None:
            member.running[key] = f"task-{key[1]}"
        flight = self.find(key)
        if flight is None:
            return None
        task = flight.task
        task.state = advance(task.state, TaskEvent.SEND)
        flight.member = member
        if listening():
            self.emit("sent", task=task.id, pid=member and member.seat.pid, attempt=task.attempts)
        return flight

    def answered(self, key: Key, worker: str, seconds: float, *, ok: bool) -> Flight | None:
        """Note an answer; return the task, or None when nobody waits for it."""
        member = self.crew.get(worker)
        if member is not None:
            member.running.pop(key, None)
            member.tasks_done += 1
        flight = self.find(key)
        if flight is None:
            return None
        task = flight.task
        self._end(flight, TaskEvent.RETURN if ok else TaskEvent.RAISE)
        self.tally.ended(seconds, ok=ok)
        if listening():
            pid = member and member.seat.pid
            self.emit("finished" if ok else "failed", task=task.id, pid=pid, seconds=seconds)
        return flight

    def crashed(self, flight: Flight, pid: int, exitcode: int | None) -> WorkerCrashed | None:
        """Note that a task's worker died; return the error that it fails with, or None if it is tried again."""
        task = flight.task
        error = WorkerCrashed(
            task_id=task.id, task=task.name, pid=pid, exitcode=exitcode, attempt=task.attempts
        )
        task.history = [*task.history, error]
        task.state = advance(task.state, TaskEvent.CRASH)
        policy = task.options.on_crash
        if isinstance(policy, Retry) and len(task.history) <= policy.times:
            task.attempts += 1
            task.state = advance(task.state, TaskEvent.RETRY)
            self.tally.retried += 1
            self.emit("retried", task=task.id, pid=pid, exitcode=exitcode, attempt=task.attempts)
            return None
        self.tally.crashed += 1
        if isinstance(policy, Retry):
            error = PoisonTask(task_id=task.id, task=task.name, history=tuple(task.history))
            self.emit("poisoned", task=task.id, pid=pid, crashes=len(task.history))
        self.fail(flight, pid=pid, exitcode=exitcode)
        return error

    def timed_out(self, flight: Flight) -> TaskTimeout:
        """Note that a task's time is up; return the error that it fails with."""
        task = flight.task
        pid = flight.member.seat.pid if flight.member else None
        self.tally.timed_out += 1
        self.emit("timed-out", task=task.id, pid=pid, timeout=task.options.timeout)
        self.fail(flight, pid=pid)
        error = TaskTimeout(task_id=task.id, task=task.name, timeout=task.options.timeout, pid=pid)
        if flight.member is None or not flight.member.seat.can_be_ended:
            error.add_note(
                "its worker was not killed: it has no nanny, or several threads. The task may run on"
            )
        return error

    def fail(self, flight: Flight, **why: Any) -> None:
        """Note that a task ends with an error that it did not raise."""
        self._end(flight, TaskEvent.GIVE_UP)
        self.tally.failed += 1
        self.emit("failed", task=flight.task.id, **why)

    def fail_all(self) -> list[Flight]:
        """Note that every task fails, and return them."""
        doomed = [*self.flights.values()]
        for flight in doomed:
            self.fail(flight, reason="given up")
        return doomed

    def cancel(self, flight: Flight) -> None:
        """Note that a task was cancelled."""
        self._end(flight, TaskEvent.CANCEL)
        self.tally.cancelled += 1
        self.emit("cancelled", task=flight.task.id)

    def queued(self) -> list[Flight]:
        """Return the tasks that no worker has begun."""
        return [flight for flight in self.flights.values() if flight.task.state is TaskState.QUEUED]

    def _end(self, flight: Flight, event: TaskEvent) -> None:
        flight.task.state = advance(flight.task.state, event)
        del self.flights[flight.task.number]

    # -- workers ------------------------------------------------------------------------------------------------

    def joined(self, seat: Seat) -> None:
        """Note a new worker."""
        self.crew[seat.address] = Member(seat)
        self.emit("worker-ready", pid=seat.pid)

    def left(self, worker: str) -> None:
        """Note that a worker is gone; how it ended follows."""
        if worker in self.crew:
            self._gone[worker] = self.crew.pop(worker)

    def died(self, worker: str, pid: int, exitcode: int | None) -> None:
        """Note how a worker ended."""
        member = self._gone.pop(worker, None)
        ordered = member is not None and member.ordered
        self.restarts += not ordered
        self.emit("worker-died", pid=pid, exitcode=exitcode, ordered=ordered)

    def stats(self, gate: Gate) -> PoolStats:
        """Return a snapshot."""
        tally = self.tally
        queued = len(self.queued())
        return PoolStats(
            workers=len(self.crew),
            busy=sum(bool(member.running) for member in self.crew.values()),
            queued=queued,
            running=len(self.flights) - queued,
            unfinished=gate.taken,
            capacity=gate.capacity,
            submitted=tally.submitted,
            completed=tally.completed,
            failed=tally.failed,
            crashed=tally.crashed,
            timed_out=tally.timed_out,
            cancelled=tally.cancelled,
            retried=tally.retried,
            restarts=self.restarts,
            durations=tally.durations(),
        )
