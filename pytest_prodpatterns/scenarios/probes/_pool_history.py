"""The history that promises of a pool are checked against: calls, executions, processes, told by events alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_prodpatterns.scenarios._run import current_run
from pytest_prodpatterns.scenarios.probes._history import Answer, vacuous

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_prodpatterns.lab import Event

Phases: TypeAlias = str | list[str]
"""The name of a phase, or of several."""


@dataclass
class Visit:
    """One execution of a task.

    Attributes:
        pid: The worker.
        entered: The `seq` at which it began.
        left: The `seq` at which it ended by itself, or None.
    """

    pid: int
    entered: int
    left: int | None = None


@dataclass
class Told:
    """One call, as its events tell it.

    Attributes:
        number: Its number in the run.
        phase: Its phase.
        accepted: The `seq` at which the submit returned, or None.
        visits: Its executions, in order.
        answers: How often it was answered.
        made: When it was made, in seconds of the machine's clock.
        waited: For how many seconds, when it was told as hung.
        outcome: `ok`, `wrong`, `raised`, `rejected`, `cancelled`, `hung`, or `waiting` while it has none.
        details: What the caller got: `error`, `text`, `took`, ...
    """

    number: int
    phase: str
    accepted: int | None = None
    visits: list[Visit] = field(default_factory=list)
    answers: int = 0
    made: float = 0.0
    waited: float = 0.0
    outcome: str = "waiting"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def unanswered(self) -> bool:
        """Whether the caller still waits."""
        return self.outcome in {"hung", "waiting"}

    @property
    def failed(self) -> bool:
        """Whether the caller got an error."""
        return self.outcome in {"raised", "rejected", "cancelled"}

    @property
    def ran_again(self) -> bool:
        """Whether the pool ran the task once more, and could answer."""
        return self.outcome == "ok" and len(self.visits) > 1


def calls(phase: Phases) -> list[Told]:
    """Return the calls of the phases, in the order in which they began."""
    wanted = {phase} if isinstance(phase, str) else set(phase)
    told: dict[int, Told] = {}
    for event in current_run().lab.timeline:
        number = event.attributes.get("call")
        if number is not None and event.attributes.get("phase") in wanted:
            _note(told.setdefault(number, Told(number, event.attributes["phase"])), event)
    return [call for call in told.values() if call.made]  # a caller that hangs never makes the next one


def of_target(kind: str) -> list[Event]:
    """Return what the driver and the actions told of the pool as a whole."""
    return current_run().lab.timeline.where("target", kind)


def judged(phase: Phases, judge: Callable[[list[Told]], Answer]) -> Answer:
    """Judge the calls of the phases; without any in one of them, nothing was observed."""
    made = calls(phase)
    seen = {call.phase for call in made}
    missing = [name for name in ([phase] if isinstance(phase, str) else phase) if name not in seen]
    return vacuous(f"no call was made {missing[0]}") if missing else judge(made)


def named(phase: Phases) -> str:
    """Return the phases as the evidence names them."""
    return phase if isinstance(phase, str) else " and ".join(phase)


def got(made: Iterable[Told]) -> str:
    """Say in a few words what callers got: `3 ok, 2 BrokenProcessPool, 1 no answer`."""
    counts = Counter(_word(call) for call in made)
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def _word(call: Told) -> str:
    if call.unanswered:
        return "no answer"
    return str(call.details.get("error", call.outcome)) if call.failed else call.outcome


def _note(call: Told, event: Event) -> None:
    match event.kind:
        case "called":
            call.made = event.real
        case "accepted":
            call.accepted = event.seq
        case "entered":
            call.visits.append(Visit(event.process, event.seq))
        case "left":
            for visit in call.visits:
                if visit.pid == event.process:
                    visit.left = visit.left or event.seq
        case "hung" if not call.answers:
            call.outcome, call.waited = "hung", event.real - call.made
        case "returned":
            call.answers += 1
            if call.outcome != "hung":  # what comes after the deadline comes too late
                call.outcome, call.details = event.attributes["outcome"], dict(event.attributes)
