"""What a scenario needs of a worker pool, whoever wrote it.

Theory of operation.  A pool target has two sides.  The engine's side is `PoolTarget`: a name, a version, what
the library lacks.  The host's side is a `PoolAdapter`: it makes the pool and submits to it, in a process of its
own, where no engine is loaded and no signal handler but Python's stands.  An adapter translates and does
nothing else: it makes a pool the way its documentation says, configured as fairly as the library allows, and
never repairs what the library does wrong.  It uses those settings that the library knows and leaves the others;
a scenario that cannot do without one says so in `requires`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from pytest_prodpatterns.targets.pool import _tasks

REQUIREMENTS: Mapping[str, str] = {
    "bounded-queue": "a submit that finds the queue full waits for a place (`queue_size`)",
    "reject-when-full": "a submit that finds the queue full raises at once (`when_full: reject`)",
    "queue-timeout": "a submit that waits for a place gives up after a while (`queue_timeout`)",
    "task-timeout": "a task that takes too long is ended, its worker with it (`task_timeout`)",
    "retry": "the task of a worker that died runs again on another (`retries`)",
    "initializer": "each worker runs a function before its first task (`initializer`)",
    "async-submit": "tasks can be submitted on a running event loop (`loop_lag`)",
    "drain-on-sigterm": "the parent finishes what it accepted when it gets SIGTERM (`drain_on_sigterm`)",
    "shutdown-deadline": "shutdown ends by a deadline or by force, not by patience alone (`shutdown(deadline)`)",
}
"""What a scenario may require -> what the pool must be able to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSettings:
    """How a scenario wants its pool; times in seconds.

    Attributes:
        workers: How many worker processes.
        queue_size: How many accepted tasks may wait beside the running ones; None for the library's default.
        when_full: What a submit does that finds the queue full: `block` or `reject`.
        queue_timeout: How long a blocking submit waits for a place; None for ever.
        task_timeout: After which a running task is ended; None for never.
        retries: How often the task of a worker that died may run again.
        start_method: `fork`, `forkserver` or `spawn`; None for the library's default.
        initializer: None; `notes` (emits `dependency:initializer` `entered`), `fails` (does so, then raises
            RuntimeError), `slow` (does so, then takes half a second).
        drain_on_sigterm: Seconds that the parent may drain on SIGTERM; None to leave SIGTERM alone.
    """

    workers: int = 2
    queue_size: int | None = None
    when_full: Literal["block", "reject"] = "block"
    queue_timeout: float | None = None
    task_timeout: float | None = None
    retries: int = 0
    start_method: str | None = None
    initializer: Literal["notes", "fails", "slow"] | None = None
    drain_on_sigterm: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return dataclasses.asdict(self)


class FutureLike(Protocol):
    """What `submit` of an adapter returns: as much of `concurrent.futures.Future` as a caller uses."""

    def result(self, timeout: float | None = None) -> Any:
        """Return the value or raise the error, waiting for it."""

    def cancel(self) -> bool:
        """Give up the task."""

    def add_done_callback(self, fn: Callable[[Any], Any], /) -> None:
        """Call `fn(future)` when it is done."""


class PoolAdapter(ABC):
    """A kind of worker pool; one subclass a library. The host calls the methods, the engine reads the rest.

    Attributes:
        name: The name on the command line and in reports.
        distribution: What to install; empty for the standard library.
        description: How it is configured, in one line.
        lacks: Requirement -> why the library cannot do that at all, in one line.
    """

    name: str = ""
    distribution: ClassVar[str] = ""
    description: str = ""
    lacks: Mapping[str, str] = {}

    def describe(self) -> dict[str, Any]:
        """Return what the engine may want to know, as plain data."""
        return {"description": self.description, "lacks": dict(self.lacks)}

    def full_errors(self) -> tuple[type[BaseException], ...]:
        """Return the errors by which submit says that the queue is full."""
        return ()

    @abstractmethod
    def make(self, settings: PoolSettings) -> Any:
        """Make a pool; what is returned is opaque to everybody else."""

    def wrap(self, pool: Any, settings: PoolSettings) -> Any:  # noqa: ARG002
        """Return what the other methods take, for a pool of this library that somebody else made."""
        return pool

    @abstractmethod
    def submit(self, pool: Any, fn: Callable[..., Any], *args: Any) -> FutureLike:
        """Submit a task the documented way; it blocks or raises when the library does."""

    async def run_async(self, pool: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """Submit on a running event loop the documented way, and await the result."""
        raise NotImplementedError

    @abstractmethod
    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Shut the pool down.

        Args:
            pool: What `make` returned.
            wait: Whether to wait until everything has ended.
            cancel: Whether to drop what has not begun.
            deadline: Seconds after which the library is asked to use force, where it has a way to say so.
        """

    def drain(self, pool: Any, deadline: float) -> AbstractContextManager[Any]:
        """Return a context in which SIGTERM drains the pool; it is entered in the main thread."""
        raise NotImplementedError


class ExecutorAdapter(PoolAdapter):
    """Whatever follows `concurrent.futures.Executor`."""

    def submit(self, pool: Any, fn: Callable[..., Any], *args: Any) -> FutureLike:
        """Submit by `Executor.submit`."""
        future: FutureLike = pool.submit(fn, *args)
        return future

    async def run_async(self, pool: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """Run by `loop.run_in_executor`."""
        return await asyncio.get_running_loop().run_in_executor(pool, fn, *args)

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:  # noqa: ARG002
        """Shut down by `Executor.shutdown`, which knows no deadline."""
        pool.shutdown(wait=wait, **({"cancel_futures": True} if cancel else {}))


def library(name: str) -> Any:
    """Import a library that need not be installed where this is type-checked."""
    return importlib.import_module(name)


def initializer(settings: PoolSettings) -> dict[str, Any]:
    """Return the initializer that is wanted, as the keyword arguments that most libraries agree on."""
    if settings.initializer is None:
        return {}
    return {"initializer": _tasks.initialize, "initargs": (settings.initializer,)}
