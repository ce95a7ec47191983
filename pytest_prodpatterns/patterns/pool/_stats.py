"""What a pool has done so far, and a snapshot of it; the place where metrics read from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker at one moment.

    Attributes:
        pid: Its process id.
        state: `starting`, `idle`, `busy` or `stopping`.
        task_id: The task that it runs, or None.
        tasks_done: How many tasks it has answered.
        started_at: When it was started, in seconds on the monotonic clock.
    """

    pid: int
    state: Literal["starting", "idle", "busy", "stopping"]
    task_id: str | None
    tasks_done: int
    started_at: float


@dataclass(frozen=True, slots=True)
class Durations:
    """How long tasks ran in their workers, in seconds.

    Attributes:
        count: Tasks that were answered.
        total: Sum over them.
        max: The longest.
    """

    count: int = 0
    total: float = 0.0
    max: float = 0.0

    @property
    def mean(self) -> float:
        """The average; 0 while there is none."""
        return self.total / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """A snapshot of a pool.  After a drain, `submitted == completed + failed + cancelled`.

    Attributes:
        workers: Workers that are alive.
        busy: Workers that run a task.
        queued: Tasks that no worker has begun.
        running: Tasks that workers run.
        unfinished: Tasks that were accepted and have not ended: queued, sent and running.
        capacity: How many unfinished tasks it takes, or None for any number.
        submitted: Tasks that were accepted since the start.
        completed: Tasks that returned a value.
        failed: Tasks that ended with an error, of whatever kind.
        crashed: Those of them that failed because their worker died.
        timed_out: Those of them that ran too long.
        cancelled: Tasks that were cancelled.
        retried: Attempts after a crash.
        restarts: Deaths of workers that nobody ordered.
        durations: How long tasks ran.
    """

    workers: int
    busy: int
    queued: int
    running: int
    unfinished: int
    capacity: int | None
    submitted: int
    completed: int
    failed: int
    crashed: int
    timed_out: int
    cancelled: int
    retried: int
    restarts: int
    durations: Durations = field(default_factory=Durations)


class Tally:
    """Running totals; see `PoolStats` for the names."""

    __slots__ = (
        "cancelled",
        "completed",
        "crashed",
        "failed",
        "longest",
        "measured",
        "retried",
        "seconds",
        "submitted",
        "timed_out",
    )

    def __init__(self) -> None:
        self.submitted = self.completed = self.failed = self.crashed = 0
        self.timed_out = self.cancelled = self.retried = self.measured = 0
        self.seconds = self.longest = 0.0

    def ended(self, seconds: float, *, ok: bool) -> None:
        """Count a task that was answered."""
        if ok:
            self.completed += 1
        else:
            self.failed += 1
        self.measured += 1
        self.seconds += seconds
        self.longest = max(self.longest, seconds)

    def durations(self) -> Durations:
        """Return how long tasks ran."""
        return Durations(self.measured, self.seconds, self.longest)
