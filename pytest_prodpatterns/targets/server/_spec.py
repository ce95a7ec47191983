"""A server in one line: what is known of it as `key=value` words, then `--`, then its command.

    ready=/ready slow-path=/slow?seconds={seconds} drain=20 -- uvicorn app:app --port {port}

So that a command goes wherever the name of a target goes: into another process, into `--target`, into the line that
repeats a run.  Words are quoted as in a shell.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import shlex
import shutil
from pathlib import Path
from typing import Any, Final

from pytest_prodpatterns.targets._base import TargetError
from pytest_prodpatterns.targets.server._protocol import ServerCommand

PATHS: Final = (
    "readiness", "path", "slow-path", "stream-path", "sse-path", "websocket-path", "json-path", "error-path",
)  # fmt: skip
SECONDS: Final = ("start-within", "drain", "lame-duck", "header-timeout", "grace")
KEYS: Final = ("ready", "name", "limit", "workers", *PATHS, *SECONDS)
"""What may stand before `--`."""
_READY: Final = "port, notify, log:TEXT, or a path such as /ready"
_WORDS: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def is_command(spec: str) -> bool:
    """Tell whether a spec is a command, and not the name of a target or of a factory."""
    return len(spec.split()) > 1 or "{port}" in spec or "{uds}" in spec


def spec_of(argv: tuple[str, ...] | list[str], known: dict[str, object]) -> str:
    """Return a command and what is known of it as a spec; what is None is not known."""
    pairs = [f"{key}={_text(value)}" for key, value in known.items() if value is not None]
    return shlex.join([*pairs, "--", *argv])


def parse(spec: str) -> ServerCommand:
    """Return the server that a spec tells.

    Raises:
        TargetError: It is no such spec, or the command is not there.
    """
    try:
        words = shlex.split(spec)
    except ValueError as error:
        raise TargetError(f"{spec!r} is no command: {error}") from None
    if "--" in words:
        place = words.index("--")
        return make(words[place + 1 :], dict(_pair(word) for word in words[:place]))
    return make(words, {})


def make(argv: list[str] | tuple[str, ...], known: dict[str, Any]) -> ServerCommand:
    """Return a server.

    Args:
        argv: The words of its command.
        known: What is known of it: KEYS, with values as they are or as text.

    Raises:
        TargetError: A word is wrong, or the command is not there.
    """
    if not argv:
        raise TargetError(
            "there is no command; expected one behind --, for example: -- uvicorn app:app --port {port}"
        )
    values = {key.replace("-", "_"): _value(key, value) for key, value in known.items()}
    cwd = values.get("cwd")
    _refuse_missing(argv[0], cwd)
    return ServerCommand(**{"name": Path(argv[0]).name, **values}, argv=tuple(argv))


def _pair(word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    if not sign:
        raise TargetError(f"expected key=value before --, not {word!r}; keys: {', '.join(KEYS)}")
    return key, value


def _value(key: str, value: Any) -> Any:
    key = key.replace("_", "-")
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(KEYS)}"
        raise TargetError(f"nothing of a server is called {key!r}{hint}")
    if key in PATHS:
        return _checked(
            key, value, isinstance(value, str) and value.startswith("/"), "a path that begins with /"
        )
    if key in SECONDS:
        return _number(key, value)
    if key == "limit":
        fits = re.fullmatch(r"[1-9][0-9]*", str(value))
        return int(_checked(key, value, bool(fits), "a whole number from 1"))
    if key == "workers":
        word = _WORDS.get(str(value).lower())
        return _checked(key, value if word is None else word, word is not None, "yes or no")
    if key == "ready":
        known = bool(re.match(r"port$|notify$|log:.|/", str(value)))
        return _checked(key, value, known, _READY)
    return str(value)


def _number(key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    return float(_checked(key, value, math.isfinite(number) and number > 0, "a number of seconds above 0"))


def _checked(key: str, value: Any, fits: bool, expected: str) -> Any:
    if not fits:
        raise TargetError(f"{key} must be {expected}, not {value!r}")
    return value


def _refuse_missing(word: str, cwd: str | None) -> None:
    if "{" in word:
        return
    if "/" in word and Path(cwd or ".", word).exists():
        return
    if "/" in word or shutil.which(word) is None:
        raise TargetError(f"there is no command {word!r}; is it installed, and on the PATH?")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def known_of(command: ServerCommand) -> dict[str, Any]:
    """Return what is known of a server beside its command, as `spec_of` takes it."""
    usual = ServerCommand(argv=())
    return {
        field.name.replace("_", "-"): value
        for field in dataclasses.fields(ServerCommand)
        if field.name not in {"argv", "env", "cwd"}
        and (value := getattr(command, field.name)) != getattr(usual, field.name)
    }
