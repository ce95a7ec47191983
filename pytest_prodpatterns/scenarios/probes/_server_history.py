"""The history that promises of a server are checked against: requests, signals and ends, told by events alone.

Theory of operation.  A scenario may start its server more than once.  Each start begins a *life*, and the numbers of
calls, the signals and the end belong to the life in which they were told.  Most promises speak of the last one.

A server may write events of its own into the history, even under the same name (ours does).  What it says of itself
decides nothing, so only events of this very process are read.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pytest_prodpatterns.scenarios._run import current_run
from pytest_prodpatterns.scenarios.probes._history import Answer, vacuous
from pytest_prodpatterns.targets.server._protocol import DONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_prodpatterns.lab import Event
    from pytest_prodpatterns.targets.server._protocol import ServerCommand

Phases: TypeAlias = str | list[str]
"""The name of a phase, or of several."""

ANSWERED: Final = frozenset({"completed", "completed-with-close"})
"""Outcomes that are a whole response by which the server did not say that it failed."""
WHOLE: Final = ANSWERED | {"5xx"}
"""Outcomes that are a whole response."""


@dataclass
class Told:
    """One request, as its events tell it.

    Attributes:
        number: Its number in its life.
        phase: Its phase.
        made: The `seq` at which it began.
        entered: The `seq` at which the server had it, or None.
        ended: The `seq` at which it ended, or None.
        at: When it ended, in seconds of the machine's clock.
        outcome: One of OUTCOMES, or `never-answered` while there is none.
        details: What the client got: `status`, `close`, `text`, `took`, ...
    """

    number: int
    phase: str
    made: int = 0
    entered: int | None = None
    ended: int | None = None
    at: float = 0.0
    outcome: str = "never-answered"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int | None:
        """The status of a whole response, or None."""
        return self.details.get("status") if self.outcome in WHOLE else None

    @property
    def done(self) -> bool:
        """Whether nothing of it was lost."""
        return self.outcome in DONE

    @property
    def took(self) -> float:
        """Seconds until its end."""
        return float(self.details.get("took") or 0.0)

    def under_way(self, seq: int) -> bool:
        """Tell whether the server had it, unfinished, at that place of the history."""
        return self.entered is not None and self.entered < seq and (self.ended is None or self.ended > seq)


class Life:
    """What was told between one start of the server and the next.

    Args:
        events: The events, in order.
    """

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    def of_server(self, kind: str, **attributes: object) -> list[Event]:
        """Return what was told of the server itself."""
        return [
            event
            for event in self.events
            if event.kind == kind
            and event.source.startswith("server:")
            and all(event.attributes.get(name) == value for name, value in attributes.items())
        ]

    def signal(self, number: int = 1) -> Event | None:
        """Return the signal of that number that the server got, or None."""
        return next(iter(self.of_server("signalled", number=number)), None)

    @property
    def before_signal(self) -> int:
        """The place in the history of the first signal, which is told before it is sent; 0 where there was none."""
        told = self.of_server("signalled")
        return told[0].seq if told else 0

    def end(self) -> Event | None:
        """Return how it ended by itself; None while it lives, or when the driver had to end it.

        The signal that asks for its stacks may end it already, before the driver has said a word.
        """
        enforced = self.of_server("stuck") or self.of_server("killed")
        return None if enforced else next(iter(self.of_server("exited")), None)

    def took(self, number: int = 1) -> float | None:
        """Return the seconds between a signal and the end that came by itself, or None."""
        first, signal, end = self.signal(), self.signal(number), self.end()
        if first is None or signal is None or end is None:
            return None
        since_first = end.attributes.get("took")  # exact; None for who ended while the signal was on its way
        if since_first is None:
            return max(0.0, end.real - signal.real)
        return max(0.0, float(since_first) - (signal.real - first.real))

    def waited(self, number: int = 1) -> float:
        """Return for how many seconds behind a signal its end was waited for in vain."""
        signal = self.signal(number)
        last = (self.of_server("stuck") or self.of_server("killed") or self.events[-1:])[0]
        return 0.0 if signal is None else last.real - signal.real

    def listener_closed(self) -> float | None:
        """Return the seconds from the first signal until nobody listened; None when somebody still did."""
        closed = [
            event for event in self.of_server("listener", state="closed") if event.seq > self.before_signal
        ]
        return float(closed[0].attributes["took"] or 0.0) if closed else None

    def calls(self, phase: Phases) -> list[Told]:
        """Return the requests of the phases, in the order in which they began."""
        wanted = {phase} if isinstance(phase, str) else set(phase)
        told: dict[int, Told] = {}
        for event in self.events:
            number = event.attributes.get("call")
            if number is not None and event.attributes.get("phase") in wanted:
                _note(told.setdefault(number, Told(number, event.attributes["phase"])), event)
        return list(told.values())


def lives() -> list[Life]:
    """Return the lives of the server, in order."""
    cut: list[list[Event]] = []
    for event in current_run().lab.timeline:
        if event.process != os.getpid():
            continue
        if event.kind == "started" and event.source.startswith("server:"):
            cut.append([])
        if cut:
            cut[-1].append(event)
    return [Life(events) for events in cut]


def life() -> Life:
    """Return the last life; an empty one before the first start."""
    return (lives() or [Life([])])[-1]


def command() -> ServerCommand:
    """Return what is known of the server."""
    known: ServerCommand = current_run().target.command  # type: ignore[attr-defined]
    return known


def judged(phase: Phases, judge: Callable[[list[Told]], Answer]) -> Answer:
    """Judge the requests of the phases; without any in one of them, nothing was observed."""
    now = life()
    made = now.calls(phase)
    seen = {call.phase for call in made}
    for name in [phase] if isinstance(phase, str) else phase:
        if name not in seen:
            return spared(name) or vacuous(f"no request was made {name}")
    return judge(made)


def spared(phase: str) -> Answer | None:
    """Return a promise as kept where a part of the scenario was left out; the file says that it may be."""
    told = life().of_server("spared", what=phase)
    if not told:
        return None
    evidence = f"nothing was asked {phase}: the target {told[0].attributes['why']}"
    return {"status": "held", "evidence": evidence, "observed": {}}


def unseen(kind: str, otherwise: str) -> Answer:
    """Return what is said where there is no event of a kind: whether it cannot be seen here, or was not looked at."""
    hidden = life().of_server("not-observed", what=kind)
    return vacuous(f"not observed: {hidden[-1].attributes['why']}" if hidden else otherwise)


def named(phase: Phases) -> str:
    """Return the phases as the evidence names them."""
    return phase if isinstance(phase, str) else " and ".join(phase)


def got(made: Iterable[Told]) -> str:
    """Say in a few words what became of requests: `3 completed, 2 reset, 1 status 503`."""
    counts = Counter(word(call) for call in made)
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def word(call: Told) -> str:
    """Say in a few words what became of a request."""
    if call.status is not None and call.status >= 400:
        return f"status {call.status}"
    return {"never-answered": "no answer", "completed-with-close": "completed with close"}.get(
        call.outcome, call.outcome
    )


def plural(count: int, thing: str) -> str:
    """Return `1 thing`, `2 things`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}{'e' * thing.endswith('s')}s"


def _note(call: Told, event: Event) -> None:
    match event.kind:
        case "called":
            call.made = event.seq
        case "entered":
            call.entered = call.entered or event.seq
        case "returned":
            call.ended, call.at, call.details = event.seq, event.real, dict(event.attributes)
            call.outcome = str(event.attributes["outcome"])
