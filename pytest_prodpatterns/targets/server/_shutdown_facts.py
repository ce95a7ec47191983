"""What a history says of one shutdown: requests, exit, listener, readiness, survivors; times relative to the signal.

Theory of operation.  Zero is the moment at which the first signal was sent.  The event `signalled` is written a moment
later than that, and a server may have cut its clients off in between; so zero is what the event says (`at`), or else
the moment at which the signal was armed.  What was never told is None here, and nobody may take it for good news.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pytest_prodpatterns.lab import Event
from pytest_prodpatterns.targets.server._protocol import DONE, RETRY_SAFE
from pytest_prodpatterns.targets.server._requests import HANDLED

_ENDLESS: Final = frozenset({"sse", "websocket"})
_UNAVAILABLE: Final = 503


class Phases(NamedTuple):
    """What the history calls the three groups of requests of one run."""

    handled: str = "in flight"
    waiting: str = "waiting"
    routed: str = "routed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request and its end; times in seconds relative to the signal.

    Attributes:
        call: Its number.
        kind: What it is like on the wire.
        phase: The group that it belongs to.
        path: What was asked for.
        method: Of HTTP.
        began: When it was made.
        inside: How it was seen inside the server, or None.
        entered: When.
        ended: When it ended; None when it has not.
        outcome: How; one of the protocol's words, or `unknown` when it has not.
        status: Of the response, or None.
        close: Whether the server said that the connection ends.
        detail: What else can be said.
    """

    call: int
    kind: str
    phase: str
    path: str
    method: str = "GET"
    began: float = 0.0
    inside: str | None = None
    entered: float | None = None
    ended: float | None = None
    outcome: str = "unknown"
    status: int | None = None
    close: bool = False
    detail: str = ""

    @property
    def answered(self) -> bool:
        """Whether it got all that it was to get."""
        if self.outcome == "cancelled":
            return self.kind in _ENDLESS
        return self.outcome in DONE and self.kind in HANDLED

    @property
    def retry_safe(self) -> bool:
        """Whether its client may try again without harm."""
        return self.outcome in RETRY_SAFE or self.status == _UNAVAILABLE

    @property
    def at_the_signal(self) -> bool:
        """Whether it was there, and had no end yet, when the signal came."""
        return self.began <= 0 and (self.ended is None or self.ended >= 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How the process ended.

    Attributes:
        code: The exit code; minus the signal's number if one killed it.
        how: `exit code 0`, `SIGKILL`.
        took: Seconds since the signal; negative when it ended before.
    """

    code: int
    how: str
    took: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of the listener (`listening`, `closed`, `rebound`) or of the readiness (a status; 0 for no answer).

    Attributes:
        state: What it is now.
        took: Seconds since the signal; negative before it.
    """

    state: Any
    took: float


class Facts:
    """What the events of one run say.

    Args:
        events: Those of this run, in order.
        phases: What the groups of requests are called.
    """

    def __init__(self, events: Sequence[Event], phases: Phases) -> None:
        self.events = events
        self.phases = phases
        self.signalled = [event for event in events if _is(event, "signalled")]
        self.zero = _zero(events)
        self.end = events[-1].real - self.zero if events else 0.0
        self.exchanges = list(_exchanges(events, self.zero))
        self.listener = [Change(state=a["state"], took=t) for a, t in self._changes("listener")]
        self.readiness = [Change(state=a["status"], took=t) for a, t in self._changes("readiness")]
        exits = [Exit(code=a["code"], how=a["how"], took=t) for a, t in self._changes("exited")]
        self.exit = exits[-1] if exits else None

    def last(self, kind: str) -> Mapping[str, Any] | None:
        """Return the details of the last event of a kind that the server is the source of, or None."""
        return next((event.attributes for event in reversed(self.events) if _is(event, kind)), None)

    def not_observed(self, what: str) -> str | None:
        """Return why something could not be observed, or None."""
        for event in self.events:
            if _is(event, "not-observed") and event.attributes["what"] == what:
                return str(event.attributes["why"])
        return None

    def of(self, phase: str) -> list[Exchange]:
        """Return the requests of a phase, in the order in which they were made."""
        return [each for each in self.exchanges if each.phase == phase]

    def time_of(self, event: Event) -> float:
        """Return when an event happened; a late report of an instant counts as that instant."""
        if event.kind == "signalled" and event.attributes["number"] == 1:
            return 0.0
        took = event.attributes.get("took") if event.kind in {"exited", "listener", "readiness"} else None
        return event.real - self.zero if took is None else took

    def _changes(self, kind: str) -> Iterable[tuple[Mapping[str, Any], float]]:
        return ((event.attributes, self.time_of(event)) for event in self.events if _is(event, kind))


def _is(event: Event, kind: str) -> bool:
    return event.kind == kind and event.source.startswith("server:")


def _zero(events: Sequence[Event]) -> float:
    armed: dict[str, float] = {}
    for event in events:
        if event.kind == "armed":
            armed[event.source] = event.real
        if _is(event, "signalled"):
            usual = armed.get(f"fault:{event.attributes['signal']}", event.real)
            return float(event.attributes.get("at", usual))
    return events[0].real if events else 0.0


def _exchanges(events: Sequence[Event], zero: float) -> Iterable[Exchange]:
    told: dict[int, dict[str, Any]] = {}
    for event in events:
        subject, _, kind = event.source.partition(":")
        if subject != "client":
            continue
        a = event.attributes
        now = event.real - zero
        if event.kind == "called":
            told[a["call"]] = {
                "call": a["call"], "kind": kind, "phase": a["phase"], "path": a["path"], "began": now,
                "method": a.get("method", "GET"),
            }  # fmt: skip
        elif event.kind == "entered":
            told[a["call"]] = {"inside": a["how"], "entered": now, **told[a["call"]]}
        elif event.kind == "returned":
            told[a["call"]] |= {"ended": now, "outcome": a["outcome"], "close": bool(a.get("close"))}
            told[a["call"]] |= {"status": a.get("status"), "detail": a.get("detail") or ""}
    return (Exchange(**each) for each in told.values())
