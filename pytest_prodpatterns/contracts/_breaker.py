"""`CircuitBreakerContract`: every packaged breaker scenario as a test of the user's own breaker."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from pytest_prodpatterns.lab import Event
from pytest_prodpatterns.scenarios import Verdict
from pytest_prodpatterns.scenarios._catalogue import packaged
from pytest_prodpatterns.scenarios._runner import run_scenario
from pytest_prodpatterns.targets import TargetError, from_instances

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_prodpatterns.lab import ChaosLab
    from pytest_prodpatterns.scenarios import Outcome
    from pytest_prodpatterns.targets import Target

SCENARIOS = [name for name in packaged() if name.startswith("breaker/")]


class CircuitBreakerContract:
    """Run each packaged breaker scenario against the breaker that `make_breaker` returns.

    Subclass it in a test module, with a name that pytest collects, and write `make_breaker`. The breakers of
    the libraries that `prodpatterns check breaker` knows are called as their documentation says; others by
    their `.call(func)`, or as a decorator, or by `call` and `call_async` where you override them.

    A scenario that does not apply is skipped with the reason; one that deviates fails with the evidence, the
    timeline, and the command that runs it again.
    """

    def make_breaker(self, *, failure_threshold: int, recovery_timeout: float, success_threshold: int) -> Any:
        """Return a new breaker.

        Leave `success_threshold` out of the signature if your breaker has nothing like it: then scenarios that
        need it are skipped. Take `call_timeout` as well (seconds, or None for most scenarios) if it has a
        deadline of its own for a call.

        Args:
            failure_threshold: Failures in a row that open it.
            recovery_timeout: Seconds that it stays open; small fractions where time is real.
            success_threshold: Successes at half-open that close it.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define make_breaker()")

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func(*args)` through a breaker that has neither `.call` nor a decorator; override it then."""
        raise NotImplementedError

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await `func(*args)` through such a breaker; override it where it has an asyncio API."""
        raise NotImplementedError

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_scenario(self, scenario: str, chaos: ChaosLab) -> None:
        """Hold what the scenario promises."""
        outcome = run_scenario(scenario, target=self._target(), seed=chaos.seed)
        _adopt(chaos, outcome)
        if outcome.verdict is Verdict.NOT_APPLICABLE:
            pytest.skip(outcome.evidence)
        if outcome.verdict is not Verdict.HELD:
            pytest.fail(_told(outcome), pytrace=False)

    def _target(self) -> Target:
        try:
            return from_instances(
                "breaker",
                self.make_breaker,
                name=type(self).__name__,
                call=self._overridden("call"),
                call_async=self._overridden("call_async"),
            )
        except TargetError as error:
            pytest.fail(f"{type(self).__name__}: {error}", pytrace=False)

    def _overridden(self, name: str) -> Callable[..., Any] | None:
        if getattr(type(self), name) is getattr(CircuitBreakerContract, name):
            return None
        return functools.partial(getattr(self, name))


def _adopt(lab: ChaosLab, outcome: Outcome) -> None:
    """Hand the scenario's history to the test's own timeline, which a failure shows and a file may keep."""
    for event in outcome.timeline:
        lab.timeline.adopt(Event(**event))


def _told(outcome: Outcome) -> str:
    return (
        f"{outcome.name}: {outcome.verdict}\n{outcome.evidence}\n"
        f"(what it does and why it matters: prodpatterns explain {outcome.name})"
    )
