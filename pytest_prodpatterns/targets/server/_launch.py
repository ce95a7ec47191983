"""From a command with placeholders to what is started."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_prodpatterns.targets.server._address import Address
    from pytest_prodpatterns.targets.server._protocol import ServerCommand


def words_of(command: ServerCommand) -> str:
    """Return everything of a command in which a placeholder may stand."""
    return "\0".join([*command.argv, *command.env.values()])


def filled(
    command: ServerCommand, address: Address, notify: Path
) -> tuple[list[str], dict[str, str], str | None]:
    """Return the words, the variables and the directory of a command, with its address filled in.

    Args:
        command: The command.
        address: Where it should listen.
        notify: The socket on which it may say READY=1.
    """
    places = {"{port}": str(address), "{uds}": str(address)}

    def fill(text: str) -> str:
        for place, value in places.items():
            text = text.replace(place, value)
        return text

    env = {name: fill(value) for name, value in command.env.items()}
    if isinstance(address, int):
        env.setdefault("PORT", str(address))
    if command.ready == "notify":
        env["NOTIFY_SOCKET"] = os.fspath(notify)
    return [fill(word) for word in command.argv], env, command.cwd
