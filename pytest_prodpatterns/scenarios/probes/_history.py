"""The history that promises are checked against: the calls of the last attempt, told by events alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.scenarios._run import current_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_prodpatterns.lab import Event

Answer = dict[str, Any]


@dataclass
class Told:
    """One call, as its events tell it.

    Attributes:
        number: Its number in the run.
        phase: Its phase.
        entered: The `seq` at which the dependency was entered, or None.
        left: The `seq` at which it was left, or None.
        outcome: `ok`, `raised`, `rejected`, `cancelled`, `wrong`, `blocked`, or `waiting` while it has none.
        details: What the caller got: `error`, `text`, `original`, `retry_after`.
    """

    number: int
    phase: str
    entered: int | None = None
    left: int | None = None
    outcome: str = "waiting"
    details: dict[str, Any] = field(default_factory=dict)


def events() -> list[Event]:
    """Return the events of the last attempt, in order."""
    run = current_run()
    bench = run.state.get("bench")
    if bench is None:
        return []
    return [event for event in run.lab.timeline if event.attributes.get("attempt") == bench.attempt]


def calls(phase: str) -> list[Told]:
    """Return the calls of a phase, in the order in which they began."""
    told: dict[int, Told] = {}
    for event in events():
        if event.attributes.get("phase") == phase and "call" in event.attributes:
            _note(told.setdefault(event.attributes["call"], Told(event.attributes["call"], phase)), event)
    return list(told.values())


def answer(kept: bool, evidence: str, **observed: Any) -> Answer:
    """Return what a probe returns: the promise was kept, or was not."""
    return {"status": "held" if kept else "deviated", "evidence": evidence, "observed": observed}


def vacuous(evidence: str) -> Answer:
    """Return what a probe returns that saw nothing it could judge."""
    return {"status": "vacuous", "evidence": evidence, "observed": {}}


def judged(phase: str, judge: Callable[[list[Told]], Answer]) -> Answer:
    """Judge the calls of a phase; without any, nothing was observed."""
    made = calls(phase)
    return judge(made) if made else vacuous(f"no call was made {phase}")


def got(made: Iterable[Told]) -> str:
    """Say in a few words what callers got: `3 ok, 2 CircuitOpenError`."""
    counts: dict[str, int] = {}
    for call in made:
        word = call.details.get("error", call.outcome) if call.outcome != "ok" else "ok"
        counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def _note(call: Told, event: Event) -> None:
    match event.kind:
        case "entered":
            call.entered = event.seq
        case "left":
            call.left = event.seq
        case "blocked":
            call.outcome = "blocked"
        case "returned":
            details = dict(event.attributes)
            if call.outcome != "blocked":
                call.outcome = details["outcome"]
            call.details = details
