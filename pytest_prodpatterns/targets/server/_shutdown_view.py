"""What a report of a shutdown shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytest_prodpatterns.lab import Event
from pytest_prodpatterns.targets.server import _shutdown_text
from pytest_prodpatterns.targets.server._errors import told
from pytest_prodpatterns.targets.server._shutdown_facts import Change, Exchange, Exit, Facts, Phases

_TAIL: Final = 4000


class ShutdownView:
    """One shutdown, as its events tell it; times are seconds since the signal.

    Args:
        events: The events of this run, in order.
        output: What the server printed.
        printed: How much of that, in characters, it had printed when the signal came.
        within: Seconds that the exit may take, unless an assertion says otherwise.
        phases: What the events call the groups of requests.

    Attributes:
        events: The events.
        output: What the server printed, standard output and error.
        within: Seconds that the exit may take.
    """

    def __init__(
        self,
        events: Sequence[Event],
        *,
        output: str = "",
        printed: int = 0,
        within: float = 10.0,
        phases: Phases | None = None,
    ) -> None:
        self.events = tuple(events)
        self.output = output
        self.within = within
        self._printed = printed
        self._facts = Facts(self.events, phases or Phases())

    # -- what there is to see --------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[Exchange]:
        """What was put in flight, and its ends."""
        phases = self._facts.phases
        return self._facts.of(phases.handled) + self._facts.of(phases.waiting)

    @property
    def routed(self) -> list[Exchange]:
        """The requests on new connections that came behind the signal."""
        return self._facts.of(self._facts.phases.routed)

    @property
    def exit(self) -> Exit | None:
        """How the process ended."""
        return self._facts.exit

    @property
    def killed(self) -> bool:
        """Whether it had to be killed."""
        return self._facts.last("killed") is not None

    @property
    def survivors(self) -> list[int] | None:
        """The pids that lived on behind the exit; None where that was not observed."""
        seen = self._facts.last("survivors")
        return None if seen is None or self.killed else list(seen["pids"])

    @property
    def readiness(self) -> list[Change]:
        """The statuses of the readiness path, each with its time."""
        return list(self._facts.readiness)

    @property
    def listener(self) -> list[Change]:
        """The states of the listener, each with its time."""
        return list(self._facts.listener)

    def timeline(self) -> str:
        """Return what happened, one line each, in seconds since the signal."""
        return _shutdown_text.timeline(self._facts)

    def __str__(self) -> str:
        return self.timeline()

    def __repr__(self) -> str:
        ended = "no exit was seen" if self.exit is None else self.exit.how
        return f"<ShutdownReport: {ended}, {len(self.requests)} in flight, {len(self.routed)} routed>"

    def describe(self, reason: str) -> str:
        """Return a reason with the timeline and the end of the output.

        Args:
            reason: What is wrong, in one line.
        """
        printed = told(self.output[-_TAIL:]) if self.output.strip() else ""
        return _shutdown_text.failure(self._facts, reason, printed)
