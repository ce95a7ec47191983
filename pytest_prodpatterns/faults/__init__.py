"""What breaks: when (plan), what (a fault), where (an injector)."""

from __future__ import annotations

from pytest_prodpatterns.faults import plan, processes
from pytest_prodpatterns.faults._calls import after_items, cancels, raises, returns, runs
from pytest_prodpatterns.faults._clocks import freeze, skew, wall_clock_jump
from pytest_prodpatterns.faults._flaky import Flaky, flaky
from pytest_prodpatterns.faults._patch import FlakyPatch, patch_flaky
from pytest_prodpatterns.faults._plan import Plan
from pytest_prodpatterns.faults._plan_text import PlanError
from pytest_prodpatterns.faults._queues import FullQueue, full_queue
from pytest_prodpatterns.faults._scene import Fault
from pytest_prodpatterns.faults._waits import delays, hangs

__all__ = [
    "Fault",
    "Flaky",
    "FlakyPatch",
    "FullQueue",
    "Plan",
    "PlanError",
    "after_items",
    "cancels",
    "delays",
    "flaky",
    "freeze",
    "full_queue",
    "hangs",
    "patch_flaky",
    "plan",
    "processes",
    "raises",
    "returns",
    "runs",
    "skew",
    "wall_clock_jump",
]
