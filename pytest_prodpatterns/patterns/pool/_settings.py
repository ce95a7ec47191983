"""The parameters of a pool, checked once at the door."""

from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_prodpatterns.patterns import _checks
from pytest_prodpatterns.patterns.pool._call import check_callable
from pytest_prodpatterns.patterns.pool._context import Place, locate
from pytest_prodpatterns.patterns.pool._task import OnCrash, Retry, TaskOptions

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.pool._worker import Setup

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

METHODS: Final = ("fork", "spawn", "forkserver")
WHEN_FULL: Final = ("block", "reject")
RESTARTS_A_WORKER: Final = 100
"""As billiard's `max_restarts`: enough for a storm of kills, too few for a crash loop."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Terms:
    """How one submit is treated; `WorkerPool` documents each field.

    Attributes:
        task: What the task carries with it.
        when_full: What a submit does without a free place.
        queue_timeout: How long it waits for one.
    """

    task: TaskOptions
    when_full: Literal["block", "reject"]
    queue_timeout: float | None

    def but(self, **changes: Any) -> Terms:
        """Return the same with some of them changed.

        Raises:
            TypeError: When there is no such option, or one is of the wrong type.
            ValueError: When one is out of range.
        """
        known = {"timeout", "on_crash", "when_full", "queue_timeout"}
        if unknown := sorted(changes.keys() - known):
            raise TypeError(f"options() takes {', '.join(sorted(known))}, not {unknown[0]!r}")
        current = {
            "timeout": self.task.timeout,
            "on_crash": self.task.on_crash,
            "when_full": self.when_full,
            "queue_timeout": self.queue_timeout,
        }
        return _terms(**{**current, **changes}, timeout_name="timeout")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the engine goes by; `WorkerPool` documents each field."""

    name: str
    num_workers: int
    max_queue_size: int | None
    start_method: str
    terms: Terms
    kill_grace: float
    max_tasks_per_worker: int | None
    max_worker_memory: int | None
    initializer: Callable[..., object] | None
    initargs: Sequence[Any]
    max_restarts: int
    restart_period: float
    max_boot_failures: int
    places: Sequence[Place]
    forward_logs: bool
    exit_deadline: float

    @property
    def capacity(self) -> int | None:
        """How many unfinished tasks the pool takes: those that run, and the queue."""
        return None if self.max_queue_size is None else self.num_workers + self.max_queue_size

    def setup(self) -> Setup:
        """Return what a worker that starts now is told."""
        from pytest_prodpatterns.patterns.pool._logs import levels  # noqa: PLC0415
        from pytest_prodpatterns.patterns.pool._worker import Setup  # noqa: PLC0415

        return Setup(
            initializer=self.initializer,
            initargs=self.initargs,
            places=self.places,
            log_levels=levels() if self.forward_logs else None,
            max_tasks=self.max_tasks_per_worker,
            max_memory=self.max_worker_memory,
            spool=os.environ.get("PRODPATTERNS_TIMELINE"),
        )


def checked(
    *,
    num_workers: Any,
    max_queue_size: Any,
    name: Any,
    start_method: Any,
    when_full: Any,
    queue_timeout: Any,
    on_crash: Any,
    task_timeout: Any,
    kill_grace: Any,
    max_tasks_per_worker: Any,
    max_worker_memory: Any,
    initializer: Any,
    initargs: Any,
    max_restarts: Any,
    restart_period: Any,
    max_boot_failures: Any,
    context_vars: Iterable[Any],
    forward_logs: Any,
    exit_deadline: Any,
) -> Settings:
    """Return the settings.

    Raises:
        TypeError: When a parameter is of the wrong type.
        ValueError: When one is out of range.
    """
    workers = _default_workers() if num_workers is None else _checks.whole("num_workers", num_workers)
    method = _default_method() if start_method is None else start_method
    _checks.choice("start_method", method, METHODS)
    if _checks.function("initializer", initializer) is not None:
        check_callable(initializer)
        if method != "fork":
            _must_pickle(initializer, initargs)
    if name is not None and not (isinstance(name, str) and name):
        raise TypeError(f"name must be a text that is not empty, not {name!r}")
    return Settings(
        name=name or f"pool-{next(_numbers)}",
        num_workers=workers,
        max_queue_size=_checks.whole_or_none("max_queue_size", max_queue_size),
        start_method=method,
        terms=_terms(
            timeout=task_timeout,
            on_crash=on_crash,
            when_full=when_full,
            queue_timeout=queue_timeout,
            timeout_name="task_timeout",
        ),
        kill_grace=_checks.seconds_or_none("kill_grace", kill_grace, zero=True) or 0.0,
        max_tasks_per_worker=_checks.whole_or_none("max_tasks_per_worker", max_tasks_per_worker),
        max_worker_memory=_checks.whole_or_none("max_worker_memory", max_worker_memory),
        initializer=initializer,
        initargs=_sequence("initargs", initargs),
        max_restarts=RESTARTS_A_WORKER * workers
        if max_restarts is None
        else _checks.whole("max_restarts", max_restarts, least=0),
        restart_period=_checks.seconds("restart_period", restart_period),
        max_boot_failures=_checks.whole("max_boot_failures", max_boot_failures),
        places=locate(context_vars),
        forward_logs=bool(forward_logs),
        exit_deadline=_checks.seconds_or_none("exit_deadline", exit_deadline, zero=True) or 0.0,
    )


def checked_deadline(deadline: Any) -> float | None:
    """Return the deadline of a shutdown, or None.

    Raises:
        TypeError: When it is no number.
        ValueError: When it is negative, or not finite.
    """
    return _checks.seconds_or_none("deadline", deadline, zero=True)


def _terms(*, timeout: Any, on_crash: Any, when_full: Any, queue_timeout: Any, timeout_name: str) -> Terms:
    task = TaskOptions(_checks.seconds_or_none(timeout_name, timeout), _crash_policy(on_crash))
    return Terms(
        task,
        _checks.choice("when_full", when_full, WHEN_FULL),
        _checks.seconds_or_none("queue_timeout", queue_timeout, zero=True),
    )


def _crash_policy(value: Any) -> OnCrash:
    if value == "fail" or isinstance(value, Retry):
        return value  # type: ignore[no-any-return]
    raise ValueError(f"on_crash must be 'fail' or retry(n), not {value!r}")


def _sequence(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name} must be a tuple of arguments, not {value!r}")
    return tuple(value)


def _must_pickle(initializer: Any, initargs: Any) -> None:
    try:
        pickle.dumps((initializer, initargs))
    except Exception as error:
        raise TypeError(
            f"initializer and initargs must be picklable under spawn and forkserver: {error}"
        ) from error


def _default_workers() -> int:
    if hasattr(os, "process_cpu_count"):  # 3.13: what this process may use
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0))


def _default_method() -> str:
    from multiprocessing import get_context  # noqa: PLC0415

    return get_context().get_start_method()
