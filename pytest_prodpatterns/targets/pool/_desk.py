"""What every part of the driver stands on: the host, what is known so far, and waits that end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets._host import Host, HostDied
from pytest_prodpatterns.targets.pool._sight import Seen, Sight
from pytest_prodpatterns.targets.pool._tasks import gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_prodpatterns.lab import ChaosLab
    from pytest_prodpatterns.targets.pool import PoolTarget

PATIENCE: Final = 6.0
"""Seconds without an answer that count as a hang, where a scenario says nothing else."""


class Desk:
    """The host of one run, asked in such a way that its death is an observation and no error.

    Args:
        target: The pool.
        lab: The lab of the run; it must be entered.

    Attributes:
        made: Whether a pool was made.
        host: The process that owns the pool; None before it was started.
    """

    def __init__(self, target: PoolTarget, lab: ChaosLab) -> None:
        self.made = False
        self.host: Host | None = None
        self._target = target
        self._source = f"target:{target.name}"
        self._sight = Sight(lab.timeline)
        self._chance = lab.rng("workers of the pool")
        self._gates = ""
        self._death_told: Host | None = None
        self._warm_ups = 0

    def _living_host(self) -> Host | None:
        """Return the host, or None when it has ended; that is told once."""
        self._note_death()
        return self.host if self.host is not None and self.host.alive else None

    def _note_death(self) -> None:
        host = self.host
        if host is not None and not host.alive and self._death_told is not host:
            self._death_told = host
            emit(self._source, "host-died", how=host.how, stderr=host.stderr_tail(2000))

    def _answer(self, request: int, deadline: float) -> dict[str, Any] | None:
        """Return the answer to a request; None when it did not come, or the host ended."""
        if self.host is None:
            return None
        try:
            return self.host.wait_for(request, max(0.0, deadline))
        except HostDied:
            self._note_death()
            return None

    def _expect(self, task: str, times: int, phase: str) -> list[int]:
        first = len(self._sight.calls) + 1
        numbers = list(range(first, first + times))
        self._sight.expect(Seen(number, task, phase) for number in numbers)
        return numbers

    def _until(self, done: Callable[[], bool], deadline: float) -> bool:
        """Wait until something is done, the deadline has come, or the host has ended: then nothing comes."""

        def over() -> bool:
            return done() or not self._lives()

        wait_until(over, deadline)
        return done()

    def _lives(self) -> bool:
        return self._living_host() is not None

    def _await_count(self, phase: str, state: Callable[[Seen], object], count: int, deadline: float) -> int:
        self._until(lambda: self._sight.count(phase, state) >= count, deadline)
        return self._sight.count(phase, state)

    def _tell_hung(self, calls: Iterable[Seen], waited: float) -> bool:
        """Tell of each call without an answer that it hangs, once; return whether all have one."""
        unanswered = [call for call in calls if not call.answered]
        for call in unanswered:
            if not call.hung:
                call.hung = True
                details = {"call": call.number, "phase": call.phase, "waited": round(waited, 3)}
                emit(f"caller:{call.task}", "hung", **details)
        return not unanswered

    def _open_gate(self, phase: str) -> None:
        Path(gate(self._gates, phase)).touch()


__all__ = ["PATIENCE", "Desk"]
