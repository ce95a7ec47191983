"""The bench on which a breaker is attacked: it repeats the attack when the machine was too slow for it.

Theory of operation.  Where time is real, a second of a scenario is milliseconds long, and a machine that
stumbles may let a break elapse before the calls that should meet it.  That would make a verdict depend on the
machine.  So the bench remembers the steps; when one comes `Late`, it throws the attempt away, makes the
seconds three times as long and takes all steps again.  Only events of the last attempt count.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from pytest_prodpatterns.lab import InjectedFault, emit
from pytest_prodpatterns.scenarios._run import NotInjected, current_run
from pytest_prodpatterns.targets.breaker._driver import Driver
from pytest_prodpatterns.targets.breaker._pace import Late

if TYPE_CHECKING:
    from pytest_prodpatterns.scenarios._run import Run
    from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget

UNIT = 0.2 / 60
"""Real seconds that a second of the scenario takes at first: a break of sixty takes 0.2."""

ATTEMPTS = 5
SLOWER = 3

_FAULTS = {
    "error": ("charge", "raises ConnectionError"),
    "interrupt": ("charge", "raises KeyboardInterrupt"),
    "hang": ("charge", "hangs until it is released"),
    "cancel": ("caller", "is cancelled while it waits for the dependency"),
    "clock": ("wall-clock", "is wrong"),
}
"""Outcome of a call -> where the fault is injected, and what it does."""

Step = Callable[[Driver], Any]


class Bench:
    """The attempts of one run.

    Attributes:
        attempt: The number of the current attempt; events carry it.
        driver: What drives it.
    """

    def __init__(self, run: Run) -> None:
        self.attempt = 0
        self._run = run
        self._steps: list[Step] = []
        self._faults: dict[str, InjectedFault] = {}
        self._stack = run.stack.enter_context(contextlib.ExitStack())
        if "wall-clock" in run.requirements:
            importlib.import_module("time_machine")  # now, for it takes as long as a short break
        self._begin()

    def perform(self, step: Step) -> Any:
        """Take a step; when the machine was too slow for it, take all steps again with longer seconds.

        Raises:
            NotInjected: The machine was too slow for the longest seconds as well.
        """
        self._steps.append(step)
        try:
            return self._take(step)
        except Late as late:
            return self._again(late)

    def arm(self, outcome: str) -> None:
        """Register the fault behind an outcome with the lab, once; a fault that never fires is missed there."""
        if outcome in _FAULTS and outcome not in self._faults:
            self._faults[outcome] = self._run.lab.inject(*_FAULTS[outcome])

    def fire(self, outcome: str, call: int | None = None, **details: Any) -> None:
        """Record that a fault takes effect."""
        self.arm(outcome)
        self._faults[outcome].fire(**({} if call is None else {"call": call}), **details)

    def _take(self, step: Step) -> Any:
        with (
            warnings.catch_warnings()
        ):  # what a library still uses is no verdict, even where warnings are errors
            warnings.simplefilter("ignore", DeprecationWarning)
            result = step(self.driver)
        self.driver.pace.check(self.driver.settings.recovery_timeout)
        return result

    def _again(self, late: Late) -> Any:
        while self.attempt < ATTEMPTS:
            emit("lab:bench", "repeated", attempt=self.attempt, why=str(late))
            self._stack.close()
            self._begin()
            try:
                return [self._take(step) for step in self._steps][-1]
            except Late as again:
                late = again
        raise NotInjected(f"the machine is too slow for real time: {late}")

    def _begin(self) -> None:
        self.attempt += 1
        target = cast("BreakerTarget", self._run.target)
        self.driver = Driver(target, self.attempt, UNIT * SLOWER ** (self.attempt - 1), self.fire)
        self._stack.callback(self.driver.close)


def bench() -> Bench:
    """Return the bench of the current run, set up when it is first asked for."""
    run = current_run()
    if "bench" not in run.state:
        run.state["bench"] = Bench(run)
    return cast("Bench", run.state["bench"])
