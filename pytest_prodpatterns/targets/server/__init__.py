"""Servers under attack: ours, those that Python programs use, and whatever command a user gives.

Nothing is loaded before it is asked for: the keeper of a server passes through here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_prodpatterns.targets.server._driver import ServerDriver
    from pytest_prodpatterns.targets.server._protocol import Request, ServerCommand
    from pytest_prodpatterns.targets.server._target import ServerTarget

_LAZY = {
    "Request": "_protocol",
    "ServerCommand": "_protocol",
    "ServerDriver": "_driver",
    "ServerTarget": "_target",
}


def known() -> list[str]:
    """Return the names of all servers that we know how to start, ours first."""
    from pytest_prodpatterns.targets.server._catalogue import NAMES  # noqa: PLC0415

    return list(NAMES)


def resolve(spec: str) -> ServerTarget:
    """Return the target that `spec` names.

    Args:
        spec: `ours`, the name of a server that we know, or a command: `[key=value …] -- WORDS`, with `{port}` or
            `{uds}` where it is to listen.

    Raises:
        TargetError: When there is no such target, its library is not installed, or the spec is wrong.
    """
    from pytest_prodpatterns.targets.server import _catalogue, _spec, _target  # noqa: PLC0415

    if _spec.is_command(spec):
        command = _spec.parse(spec)
        return _target.ServerTarget(command, spec=spec)
    return _catalogue.named(spec)


def from_instances(make: Any, *, name: str = "") -> ServerTarget:
    """Return the target of a user's own command.

    Args:
        make: A `ServerCommand`, or a list of the words of a command.
        name: What reports call it.

    Raises:
        TargetError: It is neither.
    """
    from pytest_prodpatterns.targets.server import _target  # noqa: PLC0415

    return _target.from_command(make, name)


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{module}"), name)


__all__ = ["Request", "ServerCommand", "ServerDriver", "ServerTarget", "from_instances", "known", "resolve"]
