"""Checks of what a probe, or a fixture, is told: each says what was got, what was expected, and what to do."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
import signal as signals
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_prodpatterns.targets.server._presets import required_seconds
from pytest_prodpatterns.targets.server._protocol import Request, ServerCommand
from pytest_prodpatterns.targets.server._requests import Sign, checked_path
from pytest_prodpatterns.targets.server._running import RunningServer

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

_UNREACHED: Final = frozenset({"SIGKILL", "SIGSTOP"})


def refuse_unknown(what: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that are not known.

    Raises:
        TypeError: One is not.
    """
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise TypeError(f"{what} has no option {name!r}; {hint}It takes {', '.join(known)}")


def command_of(command: Any, given: Mapping[str, Any]) -> ServerCommand:
    """Return the server that is meant.

    Args:
        command: The words of a command, or a `ServerCommand`.
        given: Of it: `ready`, `start_within`, `env`, `cwd`, `name`, where they are given.

    Raises:
        TypeError: It is neither, or something of it is of the wrong kind.
        ValueError: Something cannot be meant.
    """
    values: dict[str, Any] = {}
    if "ready" in given and not callable(given["ready"]):
        values["ready"] = _ready(given["ready"])
    if "start_within" in given:
        values["start_within"] = required_seconds("start_within", given["start_within"])
    if "env" in given:
        values["env"] = _env(given["env"])
    if "cwd" in given:
        values["cwd"] = os.fspath(given["cwd"])
    if "name" in given:
        if not isinstance(given["name"], str) or not given["name"]:
            raise TypeError(f"name must be a text that is not empty, not {given['name']!r}")
        values["name"] = given["name"]
    server = command if isinstance(command, ServerCommand) else ServerCommand(argv=words_of(command))
    usual = {"name": server.name or Path(words_of(server.argv)[0]).name}
    return dataclasses.replace(server, **{**usual, **values})


def words_of(command: Any) -> tuple[str, ...]:
    """Return the words of a command.

    Raises:
        TypeError: They are no words.
        ValueError: There are none.
    """
    if isinstance(command, str):
        raise TypeError(
            f"command must be a list of words, not {command!r}; write its words, or shlex.split({command!r})"
        )
    if not isinstance(command, Sequence) or isinstance(command, bytes):
        raise TypeError(
            f"command must be a list of words such as ['uvicorn', 'app:app', '--port', '{{port}}'], not {command!r}"
        )
    if not command:
        raise ValueError("command must have words; it is empty")
    for word in command:
        if not isinstance(word, str | os.PathLike):
            raise TypeError(f"command must hold texts, not {word!r}; numbers go as text")
        if "\0" in os.fspath(word):
            raise ValueError(f"command must hold no NUL, as in {word!r}")
    return tuple(os.fspath(word) for word in command)


def checked_sign(name: str, sign: Any) -> Callable[[RunningServer], bool] | None:
    """Return a sign if it is a callable, which gets the server; None for the other ones.

    Args:
        name: What it is called in errors.
        sign: The sign.

    Raises:
        TypeError: It cannot be called like that.
    """
    if not callable(sign):
        return None
    checked: Callable[[RunningServer], bool] = sign
    if inspect.iscoroutinefunction(sign):
        raise TypeError(f"{name} must be a plain function: it is called in a thread beside your loop")
    try:
        inspect.signature(sign).bind(None)
    except ValueError:  # it does not tell what it takes
        return checked
    except TypeError:
        raise TypeError(f"{name} must take one argument, the RunningServer, not {sign!r}") from None
    return checked


def signal_name(value: Any) -> str:
    """Return the name of a signal that a process can hear.

    Raises:
        ValueError: There is none of that name, or none that it can hear.
    """
    name = value.name if isinstance(value, signals.Signals) else str(value).upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in signals.Signals.__members__:
        raise ValueError(f"signal must be the name of a signal, such as 'SIGTERM', not {value!r}")
    if name in _UNREACHED:
        raise ValueError(f"signal must be one that a server can act on; {name} never reaches it")
    return name


def checked_then(then: Any) -> tuple[tuple[float, str], ...]:
    """Return further signals, each with its time, the earliest first."""
    expected = "then must be a list of (seconds, signal), such as [(1.0, 'SIGTERM')]"
    if isinstance(then, str) or not isinstance(then, Iterable):
        raise TypeError(f"{expected}, not {then!r}")
    further = []
    for each in then:
        if not isinstance(each, tuple | list) or len(each) != 2:
            raise TypeError(f"{expected}; {each!r} is no such pair")
        further.append((required_seconds("the time in then", each[0]), signal_name(each[1])))
    return tuple(sorted(further))


def checked_requests(given: Any) -> list[Request]:
    """Return requests, one by one."""
    expected = "in_flight must be a list of requests, such as [shutdown.get('/slow') * 8]"
    if isinstance(given, Request):
        return [given]
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{expected}, not {given!r}")
    requests = list(given)
    for each in requests:
        if not isinstance(each, Request):
            hint = f"; did you mean shutdown.get({each!r})?" if isinstance(each, str) else ""
            raise TypeError(f"{expected}; {each!r} is none{hint}")
    return requests


def _ready(ready: Any) -> str:
    kinds = ("log:", "/")
    if isinstance(ready, str) and (ready in {"port", "notify"} or ready.startswith(kinds)):
        return checked_path("ready", ready) if ready.startswith("/") else ready
    raise ValueError(
        "ready must be shutdown.http('/ready'), port(), log('Running on'), notify(), or a callable,"
        f" not {ready!r}"
    )


def checked_armed(armed: Any) -> Sign | None:
    """Return how requests are known to be inside; None for what the kernel says."""
    if armed is None:
        return None
    if callable(armed):
        return checked_sign("armed", armed)
    if isinstance(armed, str) and armed.startswith("log:") and armed != "log:":
        return armed
    raise ValueError(f"armed must be shutdown.log('HANDLER_START') or a callable, not {armed!r}")


def _env(env: Any) -> dict[str, str]:
    if not isinstance(env, Mapping):
        raise TypeError(f"env must be a mapping of names to texts, not {env!r}")
    for name, value in env.items():
        if not isinstance(name, str) or not name or set(name) & {"=", "\0"}:
            raise ValueError(f"env: {name!r} cannot be the name of a variable")
        if not isinstance(value, str) or "\0" in value:
            raise TypeError(f"env: {name} must be a text, not {value!r}")
    return dict(env)
