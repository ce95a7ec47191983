"""How long a server may take for its end, and how a promise says what it took."""

from __future__ import annotations

import re
import signal as signals
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_prodpatterns.scenarios.probes._server_history import Life
    from pytest_prodpatterns.targets.server._protocol import ServerCommand

_FRAME: Final = re.compile(
    r'File "(?P<place>[^"]*?)(?P<file>[^"/]+)", line (?P<line>\d+) in (?P<function>\S+)'
)
_LIBRARY: Final = re.compile(r"/python3\.\d+/|/site-packages/|^<frozen")


def allowed(command: ServerCommand, within: float, *, drain: bool = False) -> float:
    """Return the seconds that a server may take from the first signal on.

    Args:
        command: The server.
        within: What it may take behind its lame duck.
        drain: Whether it may use up the time that it has for its drain as well.
    """
    return round((command.lame_duck or 0.0) + within + (command.drain or 0.0 if drain else 0.0), 3)


def before_deadline(command: ServerCommand, within: float) -> float:
    """Return the seconds in which a server that only waits for the end of its drain is not there yet; at least one.

    Args:
        command: The server.
        within: What it may take at most.
    """
    return within if command.drain is None else min(within, max(1.0, 0.75 * command.drain))


def clean_codes(signal: str) -> tuple[int, ...]:
    """Return the exit codes that mean a clean end behind a signal: 0, or what the signal itself would have left."""
    number = int(signals.Signals[signal])
    return 0, 128 + number, -number


def how(code: int) -> str:
    """Return an exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signals.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"


def where_it_stood(life: Life) -> str:
    """Say where a server stood that had to be killed, or nothing: a line of its own rather than one of a library."""
    for event in life.of_server("stuck"):
        stacks = str(event.attributes.get("stacks", ""))
        frames = list(_FRAME.finditer(stacks, max(0, stacks.find("Current thread"))))
        own = [frame for frame in frames if not _LIBRARY.search(frame["place"])]
        for frame in own or frames:
            return f"; it stood in {frame['function']} ({frame['file']}:{frame['line']})"
    return ""
