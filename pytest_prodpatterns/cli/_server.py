"""What `prodpatterns check server` is told of a server, and how that becomes one spec."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from pytest_prodpatterns.cli._options import Refused

_Command = TypeVar("_Command", bound=Callable[..., Any])

GRACE: Final = {"kubernetes": 30.0, "systemd": 90.0, "docker": 10.0}
"""Preset -> seconds between the signal and SIGKILL."""
_SECONDS: Final = click.FloatRange(min=0, min_open=True)


def _path(name: str, what: str) -> Callable[[_Command], _Command]:
    return click.option(f"--{name}", metavar="PATH", help=f"server: {what}")


_OPTIONS = (
    click.option("--ready", metavar="SIGN", help="server: how it is known to be up: port (default), a path, log:TEXT, notify."),
    _path("readiness", "a path that says whether traffic is welcome; default: the one of --ready, if it is one."),
    _path("path", "a path that answers at once; default: /"),
    _path("slow-path", "a path that takes a while; {seconds} in it says how long."),
    _path("stream-path", "a path whose body comes little by little; {seconds} too."),
    _path("sse-path", "a path with an endless event stream."),
    _path("websocket-path", "a path that is a websocket."),
    _path("json-path", "a path that takes JSON by POST."),
    _path("error-path", "a path whose handler raises."),
    click.option("--drain", type=_SECONDS, metavar="S", help="server: how long it was told to drain at most."),
    click.option("--lame-duck", type=_SECONDS, metavar="S", help="server: how long it serves on behind the signal."),
    click.option("--header-timeout", type=_SECONDS, metavar="S", help="server: how long a client may take for headers."),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="server: requests that it takes at once."),
    click.option("--workers", "has_workers", is_flag=True, default=None, help="server: it has worker processes."),
    click.option("--preset", type=click.Choice(list(GRACE)), help="server: who stops it, for the grace period; default: kubernetes."),
)  # fmt: skip

NAMES: Final = (
    "ready", "readiness", "path", "slow_path", "stream_path", "sse_path", "websocket_path", "json_path",
    "error_path", "drain", "lame_duck", "header_timeout", "limit", "has_workers", "preset",
)  # fmt: skip


def server_options(command: _Command) -> _Command:
    """Add the options that say what is known of a server."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def server_spec(words: Sequence[str], known: dict[str, Any]) -> str:
    """Return what names the server: its name, or a spec of its command and what is known of it.

    Args:
        words: What stands behind `server`.
        known: The values of the options; None where they were not given.

    Raises:
        Refused: The options are for a command, and there is none.
    """
    from pytest_prodpatterns.targets.server import known as names  # noqa: PLC0415
    from pytest_prodpatterns.targets.server._spec import is_command, spec_of  # noqa: PLC0415

    given = {name: value for name, value in known.items() if value is not None}
    if len(words) == 1 and (words[0] in names() or not _is_program(words[0])):
        if given and not is_command(words[0]):
            raise Refused(f"{_flags(given)}: that is for a command of yours, and {words[0]} is none")
        return words[0]
    if given.pop("has_workers", False):
        given["workers"] = True
    if (preset := given.pop("preset", None)) is not None:
        given["grace"] = GRACE[preset]
    if str(given.get("ready", "")).startswith("/"):
        given.setdefault("readiness", given["ready"])
    return spec_of(list(words), {name.replace("_", "-"): value for name, value in given.items()})


def refuse_server_options(subject: str, known: dict[str, Any]) -> None:
    """Refuse what is known of a server where there is none.

    Raises:
        Refused: An option of servers was given for another subject.
    """
    given = [name for name, value in known.items() if value is not None]
    if given:
        raise Refused(f"{_flags(given)}: that is for a server, and the subject is {subject}")


def _is_program(word: str) -> bool:
    return "{" in word or shutil.which(word) is not None


def _flags(names: Any) -> str:
    return ", ".join("--" + name.removeprefix("has_").replace("_", "-") for name in names)
