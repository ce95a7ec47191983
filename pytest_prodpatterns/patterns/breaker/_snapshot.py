"""What can be seen of a breaker at one moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.breaker._state import CircuitState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A consistent view of a breaker.

    Attributes:
        name: The breaker's name.
        state: Its state.
        generation: A number that grows with each transition and each half-open round.
        calls: Calls in the window; without a window, failures in a row.
        failure_count: Failures among them.
        slow_count: Slow calls among them.
        success_count: Successful probes of this half-open round.
        probes: Probes that run now.
        openings: How often it opened since it was closed.
        retry_after: Seconds until a call is let through; None if nobody knows.
        last_failure: The type's name of the exception that was counted last, or None.
    """

    name: str
    state: CircuitState
    generation: int
    calls: int
    failure_count: int
    slow_count: int
    success_count: int
    probes: int
    openings: int
    retry_after: float | None
    last_failure: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the view as plain data, ready for JSON."""
        return asdict(self) | {"state": str(self.state)}
