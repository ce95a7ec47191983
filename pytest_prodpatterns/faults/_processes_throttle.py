"""`throttle`: a process that gets a share of the time only, as on an overcommitted machine.

It is stopped and continued in turn.  That needs no privileges and no control group, and holds for everything the
process does, whether it computes or waits; its other side sees a peer that answers late, and in bursts.
"""

from __future__ import annotations

import math
import signal
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from pytest_prodpatterns.faults import _processes_table as table
from pytest_prodpatterns.faults._processes_stops import go_on, held, refuse_stopped
from pytest_prodpatterns.faults._processes_strikes import arm
from pytest_prodpatterns.faults._processes_victim import DEADLINE, NoEffect, Target, Victim, until
from pytest_prodpatterns.lab import InjectedFault, guard

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


class Throttled:
    """A process that runs in turns until `cont()`, until its `with` block is left, or until the lab undoes it.

    Args:
        victim: The process.
        share: The part of each period in which it runs.
        period: The length of a turn in real seconds.

    Attributes:
        pid: The process.
        turns: How often it was stopped so far.
    """

    def __init__(self, victim: Victim, share: float, period: float) -> None:
        self.pid = victim.pid
        self.turns = 0
        self._victim = victim
        self._running, self._standing = period * share, period * (1 - share)
        self._over = threading.Event()
        description = f"pid {victim.pid} gets {share:g} of each {period:g} s"
        fault, self._undo = arm("throttle", description, self._take_back)
        self._thread = threading.Thread(
            target=self._turn, args=(fault,), name=f"prodpatterns-throttle-{victim.pid}", daemon=True
        )
        held[victim.process] = "throttle", self._undo

    def cont(self) -> None:
        """Let the process go on; a second time does nothing."""
        self._undo.run()

    def begin(self) -> None:
        """Start taking turns, and wait until the process was seen to stand still."""
        self._thread.start()
        if not until(lambda: self.turns > 0 or self._victim.ended(), DEADLINE):
            raise NoEffect(f"throttle(): pid {self.pid} still goes on {DEADLINE:g} s after SIGSTOP")
        if self._victim.ended():
            raise ProcessLookupError(f"throttle(): pid {self.pid} has ended already")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cont()

    def _turn(self, fault: InjectedFault) -> None:
        with suppress(ProcessLookupError):
            while not self._over.is_set() and not self._victim.ended():
                self._victim.send(signal.SIGSTOP)
                if until(lambda: table.is_stopped(self.pid) or self._victim.ended(), DEADLINE):
                    if not self.turns:
                        fault.fire(pid=self.pid, signal="SIGSTOP")
                    self.turns += 1
                self._over.wait(self._standing)
                self._victim.send(signal.SIGCONT)
                self._over.wait(self._running)

    def _take_back(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        go_on("throttle", self._victim)


def throttle(target: Target, share: float = 0.2, *, period: float = 0.1) -> Throttled:
    """Let a process run for a share of each period only, and stand still for the rest of it.

    Args:
        target: A pid, or anything with a `.pid`.
        share: The part of each period in which it runs, above 0 and below 1.
        period: The length of a turn in real seconds, from 0.01 to 60.

    Returns:
        A handle, also a context manager: `cont()` ends it, and so does the lab.

    Raises:
        ValueError: When `share` or `period` is out of range, the process is stopped already, or it is not
            proven to be a descendant of this process.
        TypeError: When one is no number, or the target stands for no process.
        ProcessLookupError: When it has ended already.
        NoEffect: When it is never seen to stand still.
    """
    share = _number("share", share, 0, 1, "a number above 0 and below 1")
    period = _number("period", period, 0.01 - 1e-9, 60 + 1e-9, "seconds from 0.01 to 60")
    victim = Victim("throttle", target)
    try:
        refuse_stopped("throttle", victim)
        guard().stopped(victim.pid)
    except BaseException:
        victim.close()
        raise
    throttled = Throttled(victim, share, period)
    try:
        throttled.begin()
    except BaseException:
        throttled.cont()
        raise
    return throttled


def _number(argument: str, value: Any, above: float, below: float, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"throttle(): {argument} must be {expected}, not {value!r}")
    if math.isnan(value) or not above < value < below:
        raise ValueError(f"throttle(): {argument} must be {expected}, not {value!r}")
    return float(value)
