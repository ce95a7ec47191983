"""Say when a fault strikes: by call number or by lab time, never by wall time.

plan.first(3)                         calls 1, 2, 3 fail, then the dependency recovers
plan.every(10) & ~plan.first(20)      from call 30 on, each tenth
plan.rate(0.1)                        one call in ten, the same ones for the same seed
plan.parse("calls(2, 5) | between(60, 90)")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_prodpatterns.faults._plan import Moment, Plan
from pytest_prodpatterns.faults._plan_terms import always, between, calls, every, first, never, rate, sequence
from pytest_prodpatterns.faults._plan_text import PlanError, parse

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

__all__ = [
    "Moment",
    "Plan",
    "PlanError",
    "always",
    "between",
    "calls",
    "every",
    "first",
    "never",
    "parse",
    "rate",
    "sequence",
    "strategy",
]


def strategy(max_call: int = 20) -> SearchStrategy[Plan]:
    """Return a Hypothesis strategy that searches fault schedules.

    It draws every set of failing calls up to `max_call`, which is every behaviour a plan can show there. A
    failure shrinks to the fewest and earliest calls, `never()` being the smallest.

    Args:
        max_call: The last call that may fail, from 1.

    Raises:
        ValueError: When `max_call` is less than 1.
        TypeError: When it is no whole number.
    """
    from hypothesis import strategies as st  # noqa: PLC0415 - heavy, and only wanted here

    first(max_call)  # checks the number
    numbers = st.sets(st.integers(1, max_call))
    return numbers.map(lambda chosen: calls(*chosen) if chosen else never())
