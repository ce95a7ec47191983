"""Checks of parameters: those of every pattern, and of states."""

from __future__ import annotations

from typing import Any

from pytest_prodpatterns.patterns._checks import exceptions, factor, fraction, function, seconds, whole
from pytest_prodpatterns.patterns.breaker._state import CircuitState

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

__all__ = ["exceptions", "factor", "fraction", "function", "seconds", "state", "whole"]


def state(name: str, value: Any) -> CircuitState:
    """Return `value`, a state or its text, as a state."""
    names = ", ".join(CircuitState)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {names}, not {value!r}")
    try:
        return CircuitState(value)
    except ValueError:
        raise ValueError(f"{name} must be one of {names}, not {value!r}") from None
