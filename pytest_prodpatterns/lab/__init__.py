"""The ground floor: seed, clock and virtual time, events and timeline, undo stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.lab._ambient import Clock, ambient_clock, emit, listening, now, use_clock
from pytest_prodpatterns.lab._lab import ChaosLab, InjectedFault, current_lab, inject
from pytest_prodpatterns.lab._protocols import Fillable, HasWorkers, WorkerInfo
from pytest_prodpatterns.lab._reaper import Guard, guard
from pytest_prodpatterns.lab._seed import new_seed, parse_seed, stream
from pytest_prodpatterns.lab._timeline import Event, Timeline, follow
from pytest_prodpatterns.lab._undo import RollbackError, Undo, UndoStack

if TYPE_CHECKING:
    from pytest_prodpatterns.lab._virtual_clock import Deadlock, OutsidePending, UnsupportedLoop, VirtualClock
    from pytest_prodpatterns.lab._virtual_loop import patched, virtual_time

_LAZY = {
    "Deadlock": "_virtual_clock",
    "OutsidePending": "_virtual_clock",
    "UnsupportedLoop": "_virtual_clock",
    "VirtualClock": "_virtual_clock",
    "patched": "_virtual_loop",
    "virtual_time": "_virtual_loop",
}
"""Names whose modules import asyncio: loaded when first used."""

__all__ = [
    "ChaosLab",
    "Clock",
    "Deadlock",
    "Event",
    "Fillable",
    "Guard",
    "HasWorkers",
    "InjectedFault",
    "OutsidePending",
    "RollbackError",
    "Timeline",
    "Undo",
    "UndoStack",
    "UnsupportedLoop",
    "VirtualClock",
    "WorkerInfo",
    "ambient_clock",
    "current_lab",
    "emit",
    "follow",
    "guard",
    "inject",
    "listening",
    "new_seed",
    "now",
    "parse_seed",
    "patched",
    "stream",
    "use_clock",
    "virtual_time",
]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
