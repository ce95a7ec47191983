"""`ServerTarget`: a command as what scenarios attack."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shlex
import sys
from typing import Any

from pytest_prodpatterns.targets._base import TargetError
from pytest_prodpatterns.targets.server._protocol import ServerCommand
from pytest_prodpatterns.targets.server._spec import known_of, spec_of


class ServerTarget:
    """A server under attack; each run starts it anew.

    Args:
        command: The server.
        name: What reports call it.
        description: What it is, in one line; by default the command.
        distribution: Whose version it has; empty for none.
        lacks: Requirement -> why it cannot do that at all.

    Attributes:
        command: The server.
        spec: What names it on a command line.
        name: What reports call it.
        version: Its version, or an empty string.
        description: What it is, in one line.
    """

    def __init__(
        self,
        command: ServerCommand,
        *,
        name: str = "",
        spec: str = "",
        description: str = "",
        distribution: str = "",
        lacks: dict[str, str] | None = None,
    ) -> None:
        self.name = name or command.name
        self.command = dataclasses.replace(command, name=self.name)
        self.spec = spec or spec_of(command.argv, known_of(command))
        self.version = importlib.metadata.version(distribution) if distribution else ""
        words = ["python" if word == sys.executable else word for word in command.argv]
        self.description = description or shlex.join(words)
        self._lacks = lacks or {}

    def missing(self, requirement: str) -> str | None:
        """Return in one line why it cannot do at all what a scenario requires, or None if it can."""
        return self._lacks.get(requirement) or self.command.missing(requirement)

    def try_out(self) -> None:
        """Start it once, and end it.

        Raises:
            TargetError: It does not come up.
        """
        from pytest_prodpatterns.targets.server._driver import ServerDriver  # noqa: PLC0415 - only here

        with ServerDriver(self.command) as driver:
            driver.start()

    def close(self) -> None:
        """Release nothing: each run ends its own server."""


def from_command(command: Any, name: str = "") -> ServerTarget:
    """Return the target of a command that somebody made.

    Args:
        command: A `ServerCommand`, or the words of one.
        name: What reports call it.

    Raises:
        TargetError: It is neither.
    """
    if isinstance(command, ServerCommand):
        return ServerTarget(command, name=name)
    words = isinstance(command, list | tuple) and all(isinstance(word, str) for word in command)
    if not words or not command:
        raise TargetError(
            f"a server is a ServerCommand, or a list of the words of its command, not {command!r}"
        )
    return ServerTarget(ServerCommand(argv=tuple(command), name=name or command[0]), name=name)
