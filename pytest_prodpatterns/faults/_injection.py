"""One injection: counts the calls, asks the plan, records what fired, and can be undone.

Counting, deciding and recording happen under one lock, so call numbers have no gap and no double, and the
timeline holds the firings in the order of the calls. The fault itself strikes outside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pytest_prodpatterns.faults._plan import Moment, Plan
from pytest_prodpatterns.faults._plan_text import parse
from pytest_prodpatterns.faults._scene import Answer, Fault, Kind, Release, Scene
from pytest_prodpatterns.lab import InjectedFault, Undo, ambient_clock, current_lab, inject, stream

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


class Shot:
    """A fault that is due in one call.

    Args:
        injection: What it belongs to.
        call: The number of the call, from 1.
    """

    __slots__ = ("_injection", "_scene", "after")

    def __init__(self, injection: Injection, call: int) -> None:
        self._injection = injection
        self._scene = Scene(injection.name, call, injection.release)
        self.after = injection.what.after

    def strike(self) -> Answer | None:
        """Strike a synchronous call."""
        return self._injection.what.strike(self._scene) if self._lands() else None

    async def strike_async(self) -> Answer | None:
        """Strike an awaited call."""
        return await self._injection.what.strike_async(self._scene) if self._lands() else None

    def _lands(self) -> bool:
        return not self.after or self._injection.land(self._scene.call)


class Injection:
    """One fault in one place, by one plan; armed from the moment it is made.

    Args:
        name: Where, for the report; with the seed and the test it selects the random numbers of `rate`.
        what: The fault.
        when: The plan.
        restore: What else undoing does, before hung calls are released.
    """

    def __init__(self, name: str, what: Fault, when: Plan, restore: Callable[[], None] | None = None) -> None:
        lab = current_lab()
        self.name, self.what, self.when = name, what, when
        self.calls = 0  # guarded by _lock
        self.on_call: Callable[[int], None] = _ignore
        self.release = Release()
        self._seed, self._test = (lab.seed, lab.test) if lab else (0, "")
        self._lock = threading.RLock()  # re-entrant: a signal handler may make a call while we count one
        self._restore = restore
        self._clock = ambient_clock()
        self._armed_at = self._clock()
        self.fault: InjectedFault = inject(name, f"{what} when {when}")
        title = f"{name}: {self.fault.description}"
        self._undo = lab.on_undo(title, self._take_back) if lab else Undo(title, self._take_back)

    def begin(self) -> Shot | None:
        """Count one call; return the shot when the fault is due in it. Undone, nothing is counted or due."""
        with self._lock:
            if self.release.opened:
                return None
            self.calls += 1
            call = self.calls
            self.on_call(call)
            if not self.when.decide(Moment(call, self._elapsed(), lambda: self._draw(call))):
                return None
            if not self.what.after:
                self.fault.fire(call=call)
            return Shot(self, call)

    def land(self, call: int) -> bool:
        """Record that a fault which waited inside its call strikes now; False when it was undone meanwhile."""
        with self._lock:
            if self.release.opened:
                return False
            self.fault.fire(call=call)
            return True

    def undo(self) -> None:
        """Take the fault back now: restore what was replaced, release what hangs, strike no more."""
        try:
            self._undo.run()
        except Exception:
            self._undo.done = False  # a patch under a later patch stays; it can go when that one is gone
            raise

    def _take_back(self) -> None:
        try:
            if self._restore is not None:
                self._restore()
        finally:
            self.release.open()

    def _draw(self, call: int) -> float:
        return stream(self._seed, self._test, f"fault:{self.name}:{call}").random()

    def _elapsed(self) -> float:
        clock = ambient_clock()
        if clock != self._clock:  # virtual time began or ended since: count from its beginning, or from here
            owner = getattr(clock, "__self__", clock)
            self._clock, self._armed_at = clock, clock() - getattr(owner, "elapsed", 0.0)
        return clock() - self._armed_at


def _ignore(_calls: int) -> None:
    """Do nothing."""


def checked(where: str, kind: Kind, fault: Any, when: Any) -> tuple[Fault, Plan]:
    """Return the fault and the plan of an injection.

    Raises:
        TypeError: When one is of the wrong type, or the fault cannot strike that kind of callable.
        PlanError: When `when` is a text that is no plan.
    """
    if not isinstance(fault, Fault):
        raise TypeError(
            f"{where}: fault must be a fault such as faults.raises(ConnectionError), not {fault!r}"
        )
    if isinstance(when, str):
        when = parse(when)
    if not isinstance(when, Plan):
        raise TypeError(f"{where}: when must be a plan such as plan.first(3), or its text, not {when!r}")
    if reason := fault.check(kind):
        raise TypeError(f"{where}: {fault} cannot strike a {kind.value}: {reason}")
    return fault, when
