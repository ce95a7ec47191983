"""The engine of a pool over `dask.distributed`: dask decides where and when, the pool what becomes of a task.

Theory of operation.  A task is handed to dask at once: dask's scheduler is the queue, and the gate bounds it.
A plugin of the scheduler (`_dask_cluster`) sends news about the tasks and the workers to the client; it arrives
on the client's own event loop and is booked there (`_dask_tower`). So no thread is needed: the client's loop is
the supervisor.

Each attempt has a key of its own and runs at most once, because the plugin grants one leave for each key. When
a worker dies with a task, the task's policy decides whether another key is sent. Dask's own count of deaths
(`allowed-failures`) blames tasks that only waited at a worker, too; a task that dask gives up for that reason
without having begun is sent again, and nothing is counted.
"""

from __future__ import annotations

import os
import threading
import uuid
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.patterns.pool._dask_books import Books
from pytest_prodpatterns.patterns.pool._dask_link import FAREWELL
from pytest_prodpatterns.patterns.pool._dask_tower import Tower
from pytest_prodpatterns.patterns.pool._errors import PoolError, ShutdownCancelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_prodpatterns.patterns.pool._books import State
    from pytest_prodpatterns.patterns.pool._errors import PoolBroken
    from pytest_prodpatterns.patterns.pool._gate import Gate
    from pytest_prodpatterns.patterns.pool._settings import Settings
    from pytest_prodpatterns.patterns.pool._stats import PoolStats, Worker
    from pytest_prodpatterns.patterns.pool._task import Task


class DaskEngine:
    """What `WorkerPool.over(client)` runs on; every method may be called by any thread. See `Engine`.

    Attributes:
        settings: The pool's settings; `num_workers` is the number of the cluster's threads when it was made.
        gate: Its places.
        finished: Set when every future is settled and the pool has left the cluster.
    """

    def __init__(self, client: Any, settings: Settings, gate: Gate) -> None:
        pool = f"{settings.name}-{uuid.uuid4().hex}"
        self.settings = settings
        self.gate = gate
        self.finished = threading.Event()
        self._books = Books(settings.name, pool)
        self._tower = Tower(client, pool, settings, gate=gate, books=self._books, ended=self._end)
        self._starting = threading.Lock()
        self._owner = os.getpid()

    @property
    def state(self) -> State:
        """Where the pool stands."""
        return self._books.state if os.getpid() == self._owner else "foreign"

    @property
    def broken(self) -> PoolBroken | None:
        """Why it gave up, or None."""
        return self._books.broken

    def refusal(self) -> PoolError:
        """Return why no task is taken."""
        if self.state == "foreign":
            return PoolError(
                f"pool {self.settings.name!r} belongs to process {self._owner}; a forked child needs a client and"
                " a pool of its own"
            )
        return self._tower.refusal()

    def start(self) -> None:
        """Introduce the pool to the cluster, once.

        Raises:
            PoolError: When that fails.
        """
        with self._starting:
            if self.state != "new":
                return
            if self.in_supervisor():
                raise PoolError(
                    f"pool {self.settings.name!r} cannot start on dask's own loop: start() it before"
                )
            self._books.emit("started", workers=self.settings.num_workers, method=self.settings.start_method)
            try:
                self._tower.link.join()
            except Exception as error:
                raise PoolError(
                    f"pool {self.settings.name!r} could not introduce itself to the cluster, whose scheduler and"
                    f" workers need pytest-prodpatterns as well: {error!r}"
                ) from error
            self._books.state = "open"
            _engines.add(self)

    def accept(self, tasks: Sequence[Task[Any]]) -> None:
        """Take tasks whose places are paid for, all or none, and hand them to dask.

        Raises:
            PoolError: When the pool is closed or broken.
        """
        if not self._tower.link.connected:
            self._tower.break_down("its client was closed")
        with self._books.lock:
            if self._books.state != "open":
                raise self.refusal()
            flights = [self._books.accept(task) for task in tasks]
        for flight in flights:
            self._tower.send(flight)

    def withdraw(self, task: Task[Any]) -> bool:  # noqa: ARG002 - the face of every engine
        """Return whether the place of a task that was not accepted is its caller's to give back: always."""
        return True

    def cancel_task(self, task: Task[Any]) -> None:
        """End a task whose future was cancelled; a worker that runs it is ended by its nanny."""
        with self._books.lock:
            flight = self._books.flights.get(task.number)
            if flight is None:
                return
            self._books.cancel(flight)
        self.gate.give()
        self._tower.let_go([flight])

    def close(self, *, cancel_queued: bool, deadline: float | None) -> None:
        """Take no more tasks, finish or cancel those that were taken, and leave the cluster.

        Args:
            cancel_queued: Whether tasks that no worker has begun are cancelled.
            deadline: Seconds until what is left fails and its workers are ended, or None.
        """
        books, link = self._books, self._tower.link
        if self.state == "foreign":
            self.finished.set()
            return
        with books.lock:
            if books.state == "new":
                books.state = "ended"
                self.finished.set()
            if books.state == "open":
                books.state = "draining"
            draining = books.state == "draining"
            queued = books.queued() if cancel_queued and draining else []
        self.gate.close(self.refusal)
        for flight in queued:
            flight.task.future.cancel()
        if not draining:
            return
        if not link.connected:
            self._tower.break_down("its client was closed")
        if deadline is not None:
            link.post(link.call_later, deadline, self.force)
        link.post(self._tower.leave_if_done)

    def force(self) -> None:
        """Fail every task that is left, and have the workers ended that run one."""
        books = self._books
        with books.lock:
            if books.state in {"new", "ended"}:
                return
            books.state = "killing"
            doomed = books.fail_all()
        self._tower.settle((flight, self._cut_off(flight.task)) for flight in doomed)

    def workers(self) -> tuple[Worker, ...]:
        """Return the cluster's workers, the oldest first."""
        with self._books.lock:
            return tuple(member.snapshot() for member in self._books.crew.values())

    def stats(self) -> PoolStats:
        """Return a snapshot."""
        with self._books.lock:
            return self._books.stats(self.gate)

    def in_supervisor(self) -> bool:
        """Whether the caller is on the client's loop: a callback of a future, which must not wait for itself."""
        return self._tower.link.on_loop

    def _cut_off(self, task: Task[Any]) -> ShutdownCancelled:
        return ShutdownCancelled(task_id=task.id, task=task.name, name=self.settings.name)

    def _end(self) -> None:
        _engines.discard(self)
        self.gate.close(self.refusal)
        self.finished.set()


_engines: set[DaskEngine] = set()
"""Those that have introduced themselves to a cluster and have not left it."""


def _close_forgotten() -> None:
    for engine in [*_engines]:
        engine.close(cancel_queued=False, deadline=engine.settings.exit_deadline)
    for engine in [*_engines]:
        engine.finished.wait(engine.settings.exit_deadline + 2 * FAREWELL)


# Not `atexit`: a scheduler in this process needs threads of concurrent.futures, and those are gone by then. They
# are ended in this way, too, and the last that was registered comes first.
threading._register_atexit(_close_forgotten)  # type: ignore[attr-defined] # noqa: SLF001
