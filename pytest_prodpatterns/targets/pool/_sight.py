"""What the driver knows of calls and workers: read off the timeline, as far as it has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_prodpatterns.targets._host import start_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_prodpatterns.lab import Event, Timeline


@dataclass(slots=True)
class Seen:
    """One call.

    Attributes:
        number: Its number.
        task: The name of the task.
        phase: Its phase.
        made: Whether the caller made it.
        settled: Whether submit returned or raised.
        accepted: Whether submit returned.
        answered: Whether there is an answer.
        left: Whether it has left a worker.
        workers: The pids of the workers that it entered.
        hung: Whether it was told as hung.
    """

    number: int
    task: str
    phase: str
    made: bool = False
    settled: bool = False
    accepted: bool = False
    answered: bool = False
    left: bool = False
    workers: list[int] = field(default_factory=list)
    hung: bool = False


class Sight:
    """Calls and workers, as their events tell.

    Args:
        timeline: Where the events are.

    Attributes:
        calls: The calls that the driver asked for, by number.
        know: Told of each worker that is seen for the first time: its pid and start time.
        answers: How many answers have come, in all phases.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.calls: dict[int, Seen] = {}
        self.answers = 0
        self.know: Callable[[int, int], object] = _nobody
        self._timeline = timeline
        self._read = len(timeline)
        self._workers: dict[int, int | None] = {}  # pid -> start time, in the order in which they came
        self._inside: dict[int, int] = {}  # pid -> the call that it is in

    def expect(self, calls: Iterable[Seen]) -> None:
        """Take note of calls that are about to be made."""
        self.calls.update((call.number, call) for call in calls)

    def look(self) -> None:
        """Take over what has happened since the last look."""
        events = self._timeline.events
        for event in events[self._read :]:
            self._note(event)
        self._read = len(events)

    def phase(self, *phases: str) -> list[Seen]:
        """Return the calls of some phases, in the order of their numbers."""
        self.look()
        return [call for call in self.calls.values() if call.phase in phases]

    def count(self, phase: str, state: Callable[[Seen], object]) -> int:
        """Return how many calls of a phase are in a state."""
        return sum(bool(state(call)) for call in self.phase(phase))

    def living(self) -> list[int]:
        """Return the pids of the workers that live, the oldest first."""
        self.look()
        return [pid for pid, start in self._workers.items() if start is not None and start_time(pid) == start]

    def inside(self, phase: str | None = None) -> list[int]:
        """Return the pids of the living workers that are in a task, of a phase."""
        return [
            pid
            for pid in self.living()
            if pid in self._inside and phase in (None, self.calls[self._inside[pid]].phase)
        ]

    def _note(self, event: Event) -> None:
        number = event.attributes.get("call")
        call = self.calls.get(number) if isinstance(number, int) else None
        if call is None:
            return
        match event.kind:
            case "called":
                call.made = True
            case "accepted":
                call.accepted = call.settled = True
            case "returned":
                call.answered = call.settled = True
                self.answers += 1
            case "entered":
                self._enter(call, event.process)
            case "left":
                call.left = True
                self._inside.pop(event.process, None)

    def _enter(self, call: Seen, pid: int) -> None:
        call.workers.append(pid)
        self._inside[pid] = call.number
        start = start_time(pid)
        if start is not None and self._workers.get(pid) != start:
            self._workers.pop(pid, None)
            self._workers[pid] = start
            self.know(pid, start)


def _nobody(pid: int, start: int) -> None:
    """Tell nobody."""
