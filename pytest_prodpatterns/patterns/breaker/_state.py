"""The states of a breaker, and the one table of what may follow what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final


class CircuitState(StrEnum):
    """What a breaker does with the next call; each state equals its name as text (`state == "open"`)."""

    CLOSED = "closed"  # lets calls through and counts failures
    OPEN = "open"  # rejects calls until the break is over
    HALF_OPEN = "half_open"  # lets a few probes through and rejects the rest
    FORCED_OPEN = "forced_open"  # rejects calls until somebody says otherwise
    DISABLED = "disabled"  # lets calls through and counts nothing
    METRICS_ONLY = "metrics_only"  # lets calls through and counts, but never opens


class Cause(Enum):
    """What can move a breaker from one state to another."""

    TRIPPED = "a rule was broken, or a probe failed"
    ELAPSED = "the break is over"
    RECOVERED = "enough probes succeeded"
    RESET = "somebody called reset()"
    FORCED = "somebody called force_open()"
    DISABLED = "somebody called disable()"
    OBSERVED = "somebody called metrics_only()"


CLOSED: Final = CircuitState.CLOSED
OPEN: Final = CircuitState.OPEN
HALF_OPEN: Final = CircuitState.HALF_OPEN
FORCED_OPEN: Final = CircuitState.FORCED_OPEN
DISABLED: Final = CircuitState.DISABLED
METRICS_ONLY: Final = CircuitState.METRICS_ONLY

_BY_HAND: Final = {
    Cause.RESET: CLOSED,
    Cause.FORCED: FORCED_OPEN,
    Cause.DISABLED: DISABLED,
    Cause.OBSERVED: METRICS_ONLY,
}

TABLE: Final[dict[CircuitState, dict[Cause, CircuitState]]] = {
    CLOSED: {Cause.TRIPPED: OPEN, **_BY_HAND},
    OPEN: {Cause.ELAPSED: HALF_OPEN, **_BY_HAND},
    HALF_OPEN: {Cause.TRIPPED: OPEN, Cause.RECOVERED: CLOSED, **_BY_HAND},
    FORCED_OPEN: _BY_HAND,  # the last three are sticky: only a hand moves them
    DISABLED: _BY_HAND,
    METRICS_ONLY: _BY_HAND,
}


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state.

    Attributes:
        at: When it happened, in seconds on the breaker's clock.
        previous: The state before.
        state: The state after.
        reason: Why, in words.
        probes: The highest number of probes that ran side by side in the state before.
    """

    at: float
    previous: CircuitState
    state: CircuitState
    reason: str
    probes: int = 0

    def __str__(self) -> str:
        return f"{self.previous} -> {self.state} ({self.reason})"
