"""By what an injector touches a stranger: the least that it needs to know of somebody's component.

Patterns and adapters have these methods, injectors ask for them, and neither imports the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future


@runtime_checkable
class WorkerInfo(Protocol):
    """A worker process at one moment."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def state(self) -> str:
        """What it does in one word: "busy" runs a task, "idle" waits for one; others are the component's own."""


@runtime_checkable
class HasWorkers(Protocol):
    """A component that runs its work in processes of its own."""

    def workers(self) -> Sequence[WorkerInfo]:
        """Return the workers of this moment, always in the same order of places."""


@runtime_checkable
class Fillable(Protocol):
    """An executor that takes so many tasks and no more."""

    @property
    def capacity(self) -> int | None:
        """How many tasks it holds at most, running ones included; None for any number."""

    @property
    def pending(self) -> int:
        """How many tasks it holds at this moment, accepted and not finished; it is full at `capacity`."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Take a task; where it is full, wait for a place or raise a `queue.Full`."""
