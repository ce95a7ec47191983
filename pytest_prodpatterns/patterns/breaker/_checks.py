"""Checks of parameters: each says the parameter's name, what was expected and what was got."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.patterns.breaker._state import CircuitState

if TYPE_CHECKING:
    from collections.abc import Callable

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return `value` if it is a whole number of at least `least`."""
    expected = f"{name} must be a whole number of at least {least}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{expected}, not {value!r}")
    if value < least:
        raise ValueError(f"{expected}, not {value!r}")
    return value


def seconds(name: str, value: Any) -> float:
    """Return `value` if it is a finite number of seconds above 0."""
    return _number(name, value, "a finite number of seconds above 0", lambda number: number > 0)


def fraction(name: str, value: Any, *, zero: bool = False) -> float:
    """Return `value` if it is a number from 0 to 1; whether 0 itself is allowed tells `zero`."""
    expected = "a number from 0 to 1" if zero else "a number above 0 and up to 1"
    return _number(
        name, value, expected, lambda number: (number >= 0 if zero else number > 0) and number <= 1
    )


def factor(name: str, value: Any) -> float:
    """Return `value` if it is a finite number of at least 1."""
    return _number(name, value, "a finite number of at least 1", lambda number: number >= 1)


def function(name: str, value: Any) -> Any:
    """Return `value` if it can be called, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a callable or None, not {value!r}")
    return value


def exceptions(name: str, value: Any) -> tuple[type[Exception], ...]:
    """Return `value`, an exception class or an iterable of them, as a tuple."""
    try:
        types = (value,) if isinstance(value, type) else tuple(value)
    except TypeError:
        types = (value,)
    for kind in types:
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise TypeError(
                f"{name} must hold subclasses of Exception, not {kind!r}; "
                "cancellation, Ctrl-C and other BaseExceptions are never counted"
            )
    return types


def _number(name: str, value: Any, expected: str, fits: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be {expected}, not {value!r}")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        finite = False
    if not finite or not fits(value):
        raise ValueError(f"{name} must be {expected}, not {value!r}")
    return value


def state(name: str, value: Any) -> CircuitState:
    """Return `value`, a state or its text, as a state."""
    names = ", ".join(CircuitState)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {names}, not {value!r}")
    try:
        return CircuitState(value)
    except ValueError:
        raise ValueError(f"{name} must be one of {names}, not {value!r}") from None
