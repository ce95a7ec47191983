"""Which processes are the workers of a pool, and what they do: as the pool tells, or as far as it shows.

A pool with a method `workers()` (`lab.HasWorkers`) says what each of them does.  Of a stranger only the processes
are known, and how many tasks it has not finished: none, and all workers are idle; as many as workers or more, and
all are busy; between the two nobody can tell from outside, and we do not guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pytest_prodpatterns.faults._processes_victim import alive
from pytest_prodpatterns.lab import HasWorkers

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

UNKNOWN: Final = "unknown"
_GOING: Final = "stopping"  # a worker that leaves anyway is no victim


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process of a pool, as it was when we looked.

    Attributes:
        pid: Its process id.
        state: "busy", "idle", "unknown", or a word of the pool's own such as "starting".
    """

    pid: int
    state: str


def workers(pool: Any) -> tuple[Worker, ...]:
    """Return the living workers of a pool, in the pool's order.

    Args:
        pool: Anything with a method `workers()` (`lab.HasWorkers`), a `ProcessPoolExecutor`, a
            `multiprocessing.Pool`, those who are built like them (loky, billiard), or a list of processes.

    Raises:
        TypeError: When we cannot tell which processes are its workers.
    """
    if isinstance(pool, HasWorkers):
        found = [Worker(each.pid, str(each.state)) for each in pool.workers()]
    else:
        state = _state_of_all(pool, processes := _processes_of(pool))
        found = [Worker(pid, state) for pid in processes]
    return tuple(each for each in found if each.state != _GOING and alive(each.pid))


def _processes_of(pool: Any) -> list[int]:
    listed = pool if isinstance(pool, list | tuple | set | frozenset) else _kept_by(pool)
    found = [each if isinstance(each, int) else getattr(each, "pid", None) for each in listed]
    return [pid for pid in found if pid is not None]  # None: not started yet


def _kept_by(pool: Any) -> list[Any]:
    """Return what an executor of the standard library's making keeps its processes in."""
    for name in ("_processes", "_pool"):
        kept = getattr(pool, name, None)
        kept = list(kept.values()) if isinstance(kept, Mapping) else kept
        if isinstance(kept, list) and all(hasattr(each, "pid") for each in kept):
            return kept
    if hasattr(pool, "_pending_work_items"):
        return []  # it was shut down
    raise TypeError(
        f"cannot tell which processes are the workers of {pool!r}: give it a method workers()"
        " (pytest_prodpatterns.lab.HasWorkers), or pass a list of its processes"
    )


def _state_of_all(pool: Any, processes: list[int]) -> str:
    unfinished = _unfinished(pool)
    if unfinished == 0:
        return "idle"
    return "busy" if unfinished is not None and unfinished >= len(processes) else UNKNOWN


def _unfinished(pool: Any) -> int | None:
    """Return how many tasks a pool has not finished, or at least so many; None when it does not show."""
    items = getattr(pool, "_pending_work_items", None)
    if isinstance(items, Mapping):
        return len(items)
    results = getattr(pool, "_cache", None)
    if isinstance(results, Mapping):
        return sum(getattr(result, "_number_left", 1) for result in list(results.values()))
    return None
