"""What a caller can read off the error that it got."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def tells(details: Mapping[str, Any], code: int, signal: str | None) -> bool:
    """Return whether an error says how a process ended, in an attribute or in its words.

    Args:
        details: Of the `returned` event.
        code: The exit code; negative for a signal, as in multiprocessing.
        signal: The name of the signal, or None for a plain exit.
    """
    if code in {details.get("exitcode"), details.get("signal")}:
        return True
    if signal is not None and details.get("signal") in {signal, -code}:
        return True
    number = rf"(?<![\w.-]){code}(?!\w|\.\d)"
    words = number if signal is None else rf"\b{signal}\b|{number}|\bsignal {-code}\b"
    return re.search(words, f"{details.get('text', '')} {details.get('args', '')}") is not None


def everything(details: Mapping[str, Any]) -> str:
    """Return all the words of an error: type, bases, text, arguments, remote traceback."""
    keys = ("error", "bases", "text", "args", "traceback")
    return " ".join(str(details.get(key, "")) for key in keys)
