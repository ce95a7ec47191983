"""What a scenario needs of a circuit breaker, whoever wrote it.

Theory of operation.  An adapter translates and does nothing else: it makes a breaker the way its documentation
says, configured as fairly as the library allows (so that N failures in a row open it, and one probe at a time
is let through where such an option exists), and calls it the documented way.  It never repairs what the
library does wrong, and a library's own idea of its state is for reports: verdicts come from what enters the
dependency and what reaches the caller.

A library whose clock can be injected runs on virtual time.  For the others time is real, and the driver makes
a scenario's sixty seconds short.
"""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

Kind = Literal["sync", "async", "generator", "async generator"]

SIGNATURE = "failure_threshold, recovery_timeout, success_threshold"
"""The parameters that people are told to write who have no factory yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a scenario wants its breaker; times in seconds.

    Attributes:
        failure_threshold: Failures in a row that open it.
        recovery_timeout: How long it stays open.
        success_threshold: Successes at half-open that close it.
        call_timeout: The breaker's own deadline for a call, or None.
    """

    failure_threshold: int = 5
    recovery_timeout: float = 60.0
    success_threshold: int = 1
    call_timeout: float | None = None

    def scaled(self, unit: float) -> Settings:
        """Return the same with each second `unit` seconds long."""
        deadline = None if self.call_timeout is None else self.call_timeout * unit
        return replace(self, recovery_timeout=self.recovery_timeout * unit, call_timeout=deadline)


class BreakerTarget(ABC):
    """A circuit breaker under attack; one subclass a library.

    Attributes:
        name: The name on the command line and in reports.
        distribution: What to install.
        description: How it was configured, in one line.
        time: `virtual` if the breaker follows the lab's clock, else `real`.
        lacks: Requirement -> why the library cannot do that at all, in one line.
    """

    name: str = ""
    distribution: ClassVar[str] = ""
    description: str = ""
    time: Literal["virtual", "real"] = "real"
    lacks: Mapping[str, str] = {}

    @property
    def version(self) -> str:
        """The installed version of the library."""
        return importlib.metadata.version(self.distribution) if self.distribution else ""

    def missing(self, requirement: str) -> str | None:
        """Return in one line why this library cannot do what a scenario requires, or None."""
        return self.lacks.get(requirement)

    def close(self) -> None:  # noqa: B027 - optional
        """Release nothing: breakers hold no resources."""

    @abstractmethod
    def make(self, settings: Settings) -> Any:
        """Make a breaker; what is returned is opaque to everybody else."""

    @abstractmethod
    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func` through the breaker."""

    @abstractmethod
    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await `func` through the breaker."""

    def decorate(self, breaker: Any, func: Callable[..., Any], kind: Kind) -> Any:  # noqa: ARG002
        """Decorate `func` by calling the breaker; whatever the library raises is its way to refuse."""
        return breaker(func)

    def state(self, breaker: Any) -> str:
        """Return what the library says of its state; for reports, never for verdicts."""
        state = getattr(breaker, "state", "?")
        return str(getattr(state, "value", state))

    def retry_after(self, error: BaseException) -> float | None:
        """Return for how many seconds more the error says that the breaker stays open, or None."""
        return _seconds(getattr(error, "retry_after", None))


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
