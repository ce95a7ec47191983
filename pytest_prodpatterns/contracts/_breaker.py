"""`CircuitBreakerContract`: every packaged breaker scenario as a test of the user's own breaker."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from pytest_prodpatterns.contracts._verdicts import tell
from pytest_prodpatterns.scenarios._catalogue import packaged
from pytest_prodpatterns.scenarios._runner import run_scenario
from pytest_prodpatterns.targets import TargetError, from_instances
from pytest_prodpatterns.targets.breaker._protocol import SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_prodpatterns.lab import ChaosLab
    from pytest_prodpatterns.targets import Target

SCENARIOS = [name for name in packaged() if name.startswith("breaker/")]


class CircuitBreakerContract:
    """Run each packaged breaker scenario against the breaker that `make_breaker` returns.

    Subclass it in a test module, with a name that pytest collects, and write `make_breaker`. The breakers of
    the libraries that `prodpatterns check breaker` knows are called as their documentation says; others by
    their `.call(func)`, or as a decorator, or by `call` and `call_async` where you override them.

    A scenario that does not apply is skipped with the reason; one that deviates fails with the evidence, the
    broken promise, the timeline, and the command that runs it again.
    """

    def make_breaker(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new breaker; write it as `make_breaker(self, *, failure_threshold, recovery_timeout, …)`.

        It is called with those of these keyword arguments that your signature names:

        - `failure_threshold` (int, needed): failures in a row that open it.
        - `recovery_timeout` (float, needed): seconds that it stays open; small fractions where time is real.
        - `success_threshold` (int): successes at half-open that close it. Leave it out if your breaker has
          nothing like it: then scenarios that need it are skipped.
        - `call_timeout` (float, or None for most scenarios): seconds of its own deadline for a call, if it
          has one.
        """
        raise NotImplementedError

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func(*args)` through a breaker that has neither `.call` nor a decorator; override it then."""
        raise NotImplementedError

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await `func(*args)` through such a breaker; override it where it has an asyncio API."""
        raise NotImplementedError

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_scenario(self, scenario: str, chaos: ChaosLab) -> None:
        """Hold what the scenario promises."""
        tell(chaos, run_scenario(scenario, target=self._target(), seed=chaos.seed))

    def _target(self) -> Target:
        name = type(self).__name__
        if getattr(self.make_breaker, "__func__", None) is CircuitBreakerContract.make_breaker:
            pytest.fail(f"{name} has to define make_breaker(self, *, {SIGNATURE})", pytrace=False)
        try:
            return from_instances(
                "breaker",
                self.make_breaker,
                name=name,
                call=self._overridden("call"),
                call_async=self._overridden("call_async"),
            )
        except TargetError as error:
            reason = str(error)
        pytest.fail(reason, pytrace=False)  # here, so that no traceback of the error comes with it

    def _overridden(self, name: str) -> Callable[..., Any] | None:
        if getattr(type(self), name) is getattr(CircuitBreakerContract, name):
            return None
        return functools.partial(getattr(self, name))
