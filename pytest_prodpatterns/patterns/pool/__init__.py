"""The worker pool: processes that may die, and tasks that end exactly once all the same."""

from __future__ import annotations

from pytest_prodpatterns.patterns.pool._errors import (
    PoisonTask,
    PoolBroken,
    PoolClosed,
    PoolError,
    QueueFull,
    RemoteError,
    ShutdownCancelled,
    TaskTimeout,
    WorkerCrashed,
    describe_exit,
)
from pytest_prodpatterns.patterns.pool._pool import TaskResult, WorkerPool
from pytest_prodpatterns.patterns.pool._remote import RemoteTraceback
from pytest_prodpatterns.patterns.pool._state import TaskState
from pytest_prodpatterns.patterns.pool._stats import Durations, PoolStats, Worker
from pytest_prodpatterns.patterns.pool._task import Retry, TaskFuture, retry

__all__ = [
    "Durations",
    "PoisonTask",
    "PoolBroken",
    "PoolClosed",
    "PoolError",
    "PoolStats",
    "QueueFull",
    "RemoteError",
    "RemoteTraceback",
    "Retry",
    "ShutdownCancelled",
    "TaskFuture",
    "TaskResult",
    "TaskState",
    "TaskTimeout",
    "Worker",
    "WorkerCrashed",
    "WorkerPool",
    "describe_exit",
    "retry",
]
