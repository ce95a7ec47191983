"""The ground floor: seed, clock and virtual time, events and timeline, undo stack."""

from __future__ import annotations

from pytest_prodpatterns.lab._ambient import Clock, ambient_clock, emit, listening, now, use_clock
from pytest_prodpatterns.lab._lab import ChaosLab, InjectedFault, current_lab, inject
from pytest_prodpatterns.lab._seed import new_seed, parse_seed, stream
from pytest_prodpatterns.lab._timeline import Event, Timeline
from pytest_prodpatterns.lab._undo import RollbackError, Undo, UndoStack

__all__ = [
    "ChaosLab",
    "Clock",
    "Event",
    "InjectedFault",
    "RollbackError",
    "Timeline",
    "Undo",
    "UndoStack",
    "ambient_clock",
    "current_lab",
    "emit",
    "inject",
    "listening",
    "new_seed",
    "now",
    "parse_seed",
    "stream",
    "use_clock",
]
