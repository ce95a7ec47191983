"""Why a server could not be put under test: each with what it said last."""

from __future__ import annotations

from pytest_prodpatterns.targets._base import TargetError

TAIL_LINES = 15
"""How much of the output an error shows."""


class ServerError(TargetError):
    """A server did not come up as it should.

    Args:
        text: What happened, in one line.
        output: The end of what it printed.

    Attributes:
        output: The end of what it printed.
    """

    def __init__(self, text: str, output: str = "") -> None:
        self.output = output
        super().__init__(f"{text}\n{told(output)}" if output.strip() else text)


class CannotStart(ServerError):  # noqa: N818 - it says what happened
    """There is no process: no such command, no such directory, no permission."""


class DiedBeforeReady(ServerError):  # noqa: N818
    """The process ended before it was ready."""


class NeverReady(ServerError):  # noqa: N818
    """The process lives, and was not ready in time."""


class ListensElsewhere(ServerError):  # noqa: N818
    """The process listens, and not where it should."""


def told(output: str) -> str:
    """Return the last lines of an output, marked as such; what cannot be printed is escaped."""
    lines = [_printable(line) for line in output.strip().splitlines()[-TAIL_LINES:]]
    return "\n".join(["the last that it printed:", *(f"  | {line}" for line in lines)])


def _printable(line: str) -> str:
    return "".join(
        sign if sign.isprintable() or sign == "\t" else sign.encode("unicode_escape").decode()
        for sign in line[:500]
    )
