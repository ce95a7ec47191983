"""Values, sealed so that opening them cannot hurt.

A sealed value is its pickle when that was seen to load, else its repr. Neither sealing nor opening ever raises,
whatever the value's own code does, and what is sealed consists of built-in values only, so that the envelope
around it always opens.
"""

from __future__ import annotations

import pickle
from typing import Any, Final, TypeAlias

# The code of strangers may raise anything, SystemExit included: hence the broad excepts.
# ruff: noqa: BLE001, S301

Sealed: TypeAlias = tuple[Any, ...]
"""Something sealed; made of built-in values only."""

LONGEST: Final = 10_000
"""Characters that are kept of a text."""

_LONGEST_REPR: Final = 1_000
_OVERHEAD: Final = 64
_PLAIN: Final = frozenset({float, bool, type(None)})


class Room:
    """Bytes that may still be sealed. What finds no room travels as a short repr, or not at all.

    Args:
        size: Bytes, roughly.
    """

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Take `size` bytes if they are there; return whether they were."""
        if size + _OVERHEAD > self.left:
            return False
        self.charge(size)
        return True

    def charge(self, size: int) -> None:
        """Take `size` bytes, or all that is left."""
        self.left = max(0, self.left - size - _OVERHEAD)


def seal(value: Any, room: Room) -> Sealed:
    """Seal a value."""
    kind = type(value)
    if kind in _PLAIN and room.take(0):
        return "plain", value
    data, _ = round_trip(value)
    if data is not None and room.take(len(data)):
        return "pickle", data, type_name(kind)
    text = shorten(value, _LONGEST_REPR) if kind is str else safe_repr(value)
    room.charge(len(text))
    return "plain", text


def unseal(sealed: Sealed) -> Any:
    """Return a sealed value; a few words instead when it does not load here."""
    if sealed[0] == "plain":
        return sealed[1]
    try:
        return pickle.loads(sealed[1])
    except BaseException:
        return f"<{sealed[2]} that cannot be loaded here>"


def round_trip(value: object) -> tuple[bytes | None, Any]:
    """Return the pickle of a value and what it loads as; None and None when it does not."""
    try:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        return data, pickle.loads(data)
    except BaseException:
        return None, None


def shorten(text: str, longest: int = LONGEST) -> str:
    """Return a text, its middle cut out when it is longer than that; an exact `str` in any case."""
    text = str.__str__(text)
    excess = len(text) - longest
    if excess <= 0:
        return text
    half = longest // 2
    return f"{text[:half]} [… {excess} characters …] {text[-half:]}"


def safe_str(value: object) -> str:
    """Return `str(value)`, or words that say that it failed."""
    try:
        return shorten(str(value))
    except BaseException:
        return f"<{type_name(type(value))}: str() failed>"


def safe_repr(value: object) -> str:
    """Return a short `repr(value)`, or words that say that it failed."""
    try:
        return shorten(repr(value), _LONGEST_REPR)
    except BaseException:
        return f"<{type_name(type(value))}: repr() failed>"


def type_name(kind: type) -> str:
    """Return the name of a type, with its module unless that is `builtins`."""
    module, name = address(kind)
    if not name:
        return "a type without a name"
    if module == "__mp_main__":  # so a spawned worker calls the program's main module
        module = "__main__"
    return name if module == "builtins" else f"{module}.{name}"


def address(kind: type) -> tuple[str, str]:
    """Return the module and the qualified name of a type; empty when it will not tell."""
    try:
        return shorten(kind.__module__), shorten(kind.__qualname__)
    except BaseException:
        return "", ""
