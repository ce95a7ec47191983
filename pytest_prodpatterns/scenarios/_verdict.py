"""The five verdicts of a scenario, what a run leaves behind, and which exit code stands for what."""

from __future__ import annotations

import enum
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.lab import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

USAGE: Final = 2
"""Exit code for wrong usage, or a file that is not a valid scenario."""
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C or SIGTERM, when everything was rolled back."""


class Verdict(enum.StrEnum):
    """What a run says about its target."""

    HELD = "held"
    DEVIATED = "deviated"
    NOT_APPLICABLE = "not applicable"
    NOT_INJECTED = "not injected"
    ROLLBACK_FAILED = "rollback failed"

    @property
    def exit_code(self) -> int:
        """The exit code of a run that ended so."""
        return _EXIT_CODES[self]


_EXIT_CODES: Final = {
    Verdict.HELD: 0,
    Verdict.NOT_APPLICABLE: 0,
    Verdict.DEVIATED: 1,
    Verdict.NOT_INJECTED: 3,
    Verdict.ROLLBACK_FAILED: 4,
}
_SEVERITY: Final = (4, USAGE, 3, 1, 0)
_WORST_FIRST: Final = (
    Verdict.ROLLBACK_FAILED,
    Verdict.NOT_INJECTED,
    Verdict.DEVIATED,
    Verdict.HELD,
    Verdict.NOT_APPLICABLE,
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one run.

    Attributes:
        name: The scenario, for example `breaker/recovers`.
        subject: What kind of target it attacks.
        target: Which target, as `--target` takes it.
        seed: What every random stream derived from.
        verdict: What the run says about the target.
        evidence: Why, in one line.
        duration: Seconds of real time.
        interrupted: Whether Ctrl-C or SIGTERM ended it early.
        timeline: The events, each a plain dictionary.
        journal: The Chaos Toolkit's journal.
    """

    name: str
    subject: str
    target: str
    seed: int
    verdict: Verdict
    evidence: str
    duration: float
    interrupted: bool = False
    timeline: list[dict[str, Any]] = field(default_factory=list, repr=False)
    journal: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def reproduce(self) -> str:
        """The command that runs exactly this again."""
        words = ("prodpatterns", "run", self.name, "--target", self.target, "--seed", str(self.seed))
        return shlex.join(words)

    @property
    def events(self) -> list[Event]:
        """The timeline for people: without the number of the attempt on each line where there was but one."""
        events = [Event(**event) for event in self.timeline]
        if any(event.attributes.get("attempt", 1) != 1 for event in events):
            return events
        return [replace(event, attributes=_without_attempt(event)) for event in events]

    @property
    def broken(self) -> str:
        """The promise that was broken, in the file's words; empty when none was."""
        states = self.journal.get("steady_states") or {}
        probes = [
            probe for when in ("before", "after") for probe in (states.get(when) or {}).get("probes", ())
        ]
        return next((probe["activity"]["name"] for probe in probes if not probe.get("tolerance_met")), "")

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as it stands in the document of `prodpatterns run --json`."""
        return {
            "name": self.name,
            "subject": self.subject,
            "target": self.target,
            "verdict": str(self.verdict),
            "evidence": self.evidence,
            "duration": round(self.duration, 4),
        }

    def to_plain(self) -> dict[str, Any]:
        """Return everything as plain data; `Outcome.from_plain` reads it back in another process."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Outcome:
        """Read back what `to_plain` gave."""
        return cls(**{**data, "verdict": Verdict(data["verdict"])})


def _without_attempt(event: Event) -> dict[str, Any]:
    return {name: value for name, value in event.attributes.items() if name != "attempt"}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that stands for all of them: the worst, and `held` beats `not applicable`."""
    return min(verdicts, key=_WORST_FIRST.index, default=Verdict.HELD)


def exit_code(codes: Iterable[int]) -> int:
    """Return the exit code that stands for all of them: 4 wins over 2, then 3, 1, 0."""
    return min(codes, key=_SEVERITY.index, default=0)
