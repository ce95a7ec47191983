"""Checks of parameters: each says the parameter's name, what was expected and what was got."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return `value` if it is a whole number of at least `least`."""
    expected = f"{name} must be a whole number of at least {least}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{expected}, not {value!r}")
    if value < least:
        raise ValueError(f"{expected}, not {value!r}")
    return value


def whole_or_none(name: str, value: Any) -> int | None:
    """Return `value` if it is a whole number of at least 1, or None."""
    if value is None:
        return None
    expected = f"{name} must be a whole number of at least 1, or None"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{expected}, not {value!r}")
    if value < 1:
        raise ValueError(f"{expected}, not {value!r}")
    return value


def seconds(name: str, value: Any) -> float:
    """Return `value` if it is a finite number of seconds above 0."""
    return _number(name, value, "a finite number of seconds above 0", lambda number: number > 0)


def seconds_or_none(name: str, value: Any, *, zero: bool = False) -> float | None:
    """Return `value` if it is a finite number of seconds, above 0 unless `zero` allows it, or None."""
    if value is None:
        return None
    if zero:
        return _number(
            name, value, "a finite number of seconds of at least 0, or None", lambda number: number >= 0
        )
    return _number(name, value, "a finite number of seconds above 0, or None", lambda number: number > 0)


def choice(name: str, value: Any, choices: Collection[str]) -> Any:
    """Return `value` if it is one of the choices."""
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}{hint}")
    return value


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
