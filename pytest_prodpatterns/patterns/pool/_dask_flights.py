"""Tasks and workers, as a pool over dask knows them."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from pytest_prodpatterns.patterns.pool._stats import Worker

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.pool._dask_cluster import Seat
    from pytest_prodpatterns.patterns.pool._task import Task

Key = tuple[str, int, int]
"""What dask calls one attempt: the pool, the task's number, how often it was sent before."""


class Flight:
    """A task that was handed to dask and has not ended.

    Attributes:
        task: The task.
        key: What dask calls it at present.
        future: Dask's future of that key, or None; dask forgets the key when it is released.
        member: The worker that runs it, or None.
        timer: Of its time-out, or None; touched on the client's loop only.
    """

    __slots__ = ("future", "key", "member", "task", "timer")

    def __init__(self, task: Task[Any], pool: str) -> None:
        self.task = task
        self.key: Key = (pool, task.number, 0)
        self.future: Any = None
        self.member: Member | None = None
        self.timer: asyncio.TimerHandle | None = None

    def rename(self) -> Any:
        """Take another key, for another attempt; return dask's future of the last one."""
        future, self.future = self.future, None
        pool, number, sent = self.key
        self.key = (pool, number, sent + 1)
        self.member = None
        return future


class Member:
    """A worker of the cluster.

    Attributes:
        seat: What the scheduler says of it.
        running: Ids of the tasks of this pool that it runs, by key.
        tasks_done: How many tasks of this pool it has answered.
        ordered: Whether this pool ends it.
        started_at: When the pool heard of it, in seconds on the monotonic clock.
    """

    __slots__ = ("ordered", "running", "seat", "started_at", "tasks_done")

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.running: dict[Key, str] = {}
        self.tasks_done = 0
        self.ordered = False
        self.started_at = monotonic()

    def snapshot(self) -> Worker:
        """Return how it is at this moment."""
        task_id = next(iter(self.running.values()), None)
        state: Literal["idle", "busy", "stopping"] = "busy" if task_id else "idle"
        if self.ordered:
            state = "stopping"
        return Worker(self.seat.pid, state, task_id, self.tasks_done, self.started_at)
