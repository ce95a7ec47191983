"""One run of a shutdown probe: from the start of a server to the report.

Theory of operation.  The history of a run is cut out of the lab's timeline: by its beginning, by the name of the server, and by the phases
of its requests, which are its own among the runs that go on at the same time in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pytest_prodpatterns.faults import processes
from pytest_prodpatterns.lab import ChaosLab, Event, Timeline, current_lab
from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets.server._driver import ServerDriver
from pytest_prodpatterns.targets.server._protocol import Request
from pytest_prodpatterns.targets.server._running import RunningServer, start
from pytest_prodpatterns.targets.server._shutdown_facts import Phases
from pytest_prodpatterns.targets.server._shutdown_plan import Plan
from pytest_prodpatterns.targets.server._shutdown_report import NotObserved, ShutdownReport

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

SURVIVORS: Final = 1.0
"""Seconds that what a server started has to follow it."""
LAST_ANSWERS: Final = 0.5
"""Seconds behind the last new connection in which it may still be answered."""
MOST_OUTPUT: Final = 16_000_000
"""Bytes of output of which a report knows."""

_lock = threading.Lock()
_numbers: set[int] = set()  # invariant: those of the runs that go on; guarded by _lock


@dataclass(slots=True)
class _Shared:
    """The lab of runs that find none; it lives as long as one of them, whichever began first."""

    lab: ChaosLab | None = None
    runs: int = 0


_shared: Final = _Shared()  # guarded by _lock


class Run:
    """One run of a plan, from the start of the server to its report; called once.

    Args:
        plan: What is to be done.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._given_up = threading.Event()
        self._pid = 0

    def __call__(self) -> ShutdownReport:
        """Do it."""
        with _numbered() as number, _timeline() as timeline:
            suffix = "" if number == 1 else f" {number}"
            phases = Phases(*(f"{phase}{suffix}" for phase in Phases()))
            name = f"{self._plan.command.name}{suffix}"
            history = History(timeline, f"server:{name}", phases)
            with ServerDriver(dataclasses.replace(self._plan.command, name=name)) as driver:
                return self._conduct(driver, history)

    def give_up(self) -> None:
        """End the server; from any thread."""
        self._given_up.set()
        if self._pid:
            with contextlib.suppress(ProcessLookupError, processes.NoEffect):
                processes.kill(self._pid)

    def _conduct(self, driver: ServerDriver, history: History) -> ShutdownReport:
        plan, phases = self._plan, history.phases
        start(driver, plan.sign, self._started)
        driver.watch(readiness=plan.readiness)
        self._await_readiness(driver, history)
        self._put_in(driver, history, phases.waiting, plan.waiting)
        self._put_in(driver, history, phases.handled, plan.handled)
        printed = _printed(driver)
        if plan.preset.route_for:
            driver.route(plan.preset.route_for, phases.routed, plan.route)
        self._stop(driver, phases)
        if driver.exit is not None and not self._given_up.is_set():
            driver.note_survivors(SURVIVORS)
        return history.report(driver, printed, plan.within)

    def _started(self, pid: int) -> None:
        self._pid = pid
        self._check()  # either this sees that it was given up, or who gives up sees the pid

    def _await_readiness(self, driver: ServerDriver, history: History) -> None:
        """Wait until the readiness says yes: before, it has nothing to take back."""
        if self._plan.readiness is None:
            return
        wait_until(lambda: history.welcome() or not driver.alive, self._plan.arm_within, pause=0.01)
        self._check()
        if not history.welcome():
            why = f"the readiness did not say yes within {self._plan.arm_within:g} s, so no signal was sent"
            raise NotObserved(history.report(driver, 0, self._plan.within).describe(why))

    def _put_in(
        self, driver: ServerDriver, history: History, phase: str, requests: tuple[Request, ...]
    ) -> None:
        """Send requests, and wait until all of them are inside; a unix socket does not show silent ones."""
        if not requests:
            return
        for request in requests:
            driver.send(request, phase)
        hidden = {"silent"} if isinstance(driver.address, str) else set()
        wanted = sum(request.times for request in requests if request.kind not in hidden)
        armed = self._plan.armed if phase == history.phases.handled else None
        server = RunningServer(driver)
        evidence = (lambda: bool(armed(server))) if callable(armed) else armed
        found = driver.await_inside(phase, wanted, self._plan.arm_within, evidence)
        self._check()
        if found >= wanted and driver.alive:
            return
        seen = f"{found} of {wanted} requests were seen inside the server"
        why = (
            f"{seen} within {self._plan.arm_within:g} s, so no signal was sent; does it take that many at once?"
            if driver.alive
            else f"the server ended before a signal was sent, when {seen}"
        )
        raise NotObserved(history.report(driver, 0, self._plan.within).describe(why))

    def _stop(self, driver: ServerDriver, phases: Phases) -> None:
        preset = self._plan.preset
        self._check()
        driver.signal(preset.signal, preset.target)
        began = time.monotonic()

        def until(seconds: float) -> float:
            return max(0.0, began + seconds - time.monotonic())

        for seconds, name in preset.then:
            if driver.await_exit(until(seconds)) is None:
                self._check()
                driver.signal(name, preset.target)
        ended = driver.await_exit(until(self._plan.kill_after)) is not None
        self._check()
        if ended and preset.route_for:
            driver.await_answers(phases.routed, until(preset.route_for) + LAST_ANSWERS)
        driver.finish(0.0)

    def _check(self) -> None:
        if self._given_up.is_set():
            raise asyncio.CancelledError


class History:
    """The part of a timeline that is about one run.

    Args:
        timeline: The timeline.
        source: The server as the source of events.
        phases: What the requests of the run are called.
    """

    def __init__(self, timeline: Timeline, source: str, phases: Phases) -> None:
        self.phases = phases
        self._timeline = timeline
        self._source = source
        self._begin = len(timeline)

    def events(self) -> list[Event]:
        """Return the events of the run so far."""
        return [event for event in self._timeline.events[self._begin :] if self._is_ours(event)]

    def welcome(self) -> bool:
        """Tell whether the readiness said yes at last."""
        told = [event.attributes["ready"] for event in self.events() if event.kind == "readiness"]
        return bool(told) and told[-1]

    def report(self, driver: ServerDriver, printed: int, within: float) -> ShutdownReport:
        """Return the report.

        Args:
            driver: What drives the server.
            printed: How many bytes the server had printed when the signal came.
            within: Seconds that the exit may take.
        """
        with driver.output.open("rb") as file:
            skipped = max(0, file.seek(0, os.SEEK_END) - MOST_OUTPUT)
            file.seek(skipped)
            output = file.read()
        before = output[: max(0, printed - skipped)].decode(errors="replace")
        behind = output[max(0, printed - skipped) :].decode(errors="replace")
        return ShutdownReport(
            self.events(), output=before + behind, printed=len(before), within=within, phases=self.phases
        )

    def _is_ours(self, event: Event) -> bool:
        if event.process != os.getpid():  # a server that is made of our pattern tells of itself, too
            return False
        if event.source.startswith("client:"):
            return event.attributes["phase"] in self.phases
        return event.source == self._source or event.source.startswith("fault:")


@contextlib.contextmanager
def _numbered() -> Iterator[int]:
    """Give the smallest number that no other run has at this time."""
    with _lock:
        number = next(number for number in itertools.count(1) if number not in _numbers)
        _numbers.add(number)
    try:
        yield number
    finally:
        with _lock:
            _numbers.discard(number)


@contextlib.contextmanager
def _timeline() -> Iterator[Timeline]:
    """Give the timeline of the lab; without one, that of a lab that all runs of the moment share."""
    with _lock:
        current = current_lab()
        if current is None:
            current = _shared.lab = ChaosLab(test="shutdown").__enter__()
        ours = current is _shared.lab
        _shared.runs += ours
    try:
        yield current.timeline
    finally:
        with _lock:
            _shared.runs -= ours
            if ours and not _shared.runs:
                _shared.lab = None
                current.__exit__(None, None, None)


def _printed(driver: ServerDriver) -> int:
    return driver.output.stat().st_size
