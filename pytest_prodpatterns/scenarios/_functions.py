"""Whether the functions that a scenario names exist, and take the arguments that it gives them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pytest_prodpatterns.scenarios._problems import Where, suggest
from pytest_prodpatterns.scenarios._subjects import SUBJECTS

_FLOORS: Final = {
    "action": "pytest_prodpatterns.scenarios.actions.",
    "probe": "pytest_prodpatterns.scenarios.probes.",
}
_BY_ENGINE: Final = frozenset({"configuration", "secrets"})
Found = Iterator[tuple[Where, str]]


def check(provider: Mapping[str, Any], kind: str, subject: str) -> Found:
    """Report what is wrong with a python provider.

    Args:
        provider: Its block in the file.
        kind: `action` or `probe`, by the place where it stands.
        subject: The scenario's subject.

    Yields:
        The way to the entry inside the block, and the text.
    """
    module = provider["module"]
    foreign = _misplaced(module, kind, subject)
    if foreign:
        yield ("module",), foreign
        return
    try:
        loaded = importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 (a user's module may raise anything)
        yield ("module",), f"cannot import {module!r}: {type(error).__name__}: {error}"
        return
    function = getattr(loaded, provider["func"], None)
    if not callable(function) or isinstance(function, type):
        hint = suggest(provider["func"], _functions_of(loaded))
        yield ("func",), f"{module} has no function {provider['func']!r}{hint}"
        return
    if inspect.iscoroutinefunction(function):
        yield ("func",), f"{provider['func']!r} is async; the engine calls plain functions only"
        return
    yield from _arguments(function, provider)


def _misplaced(module: str, kind: str, subject: str) -> str | None:
    other = {"action": "probe", "probe": "action"}[kind]
    if module.startswith(_FLOORS[other]):
        return f"{module} holds {other}s; {kind}s are in {_FLOORS[kind]}{subject}"
    owner = module.removeprefix(_FLOORS[kind])
    if owner != module and subject and owner != subject and owner in SUBJECTS:
        return f"{module} belongs to the subject {owner!r}, but this scenario's subject is {subject!r}"
    return None


def _functions_of(module: Any) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and not name.startswith("_")
        and (value.__module__ == module.__name__ or name in getattr(module, "__all__", ()))
    ]


def _arguments(function: Callable[..., Any], provider: Mapping[str, Any]) -> Found:
    name, given = provider["func"], provider.get("arguments") or {}
    if not isinstance(given, Mapping):
        yield ("arguments",), f"the arguments of {name} are a mapping of names, not {given!r}"
        return
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins do not tell
        return
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    named = {
        key
        for key, value in parameters.items()
        if value.kind in (value.POSITIONAL_OR_KEYWORD, value.KEYWORD_ONLY)
    }
    for key in given:
        if key not in named and not takes_any:
            yield (
                ("arguments", key),
                f"{name} takes no argument {key!r}{suggest(str(key), named - _BY_ENGINE)}",
            )
    for key in sorted(named - _BY_ENGINE - set(given)):
        if parameters[key].default is inspect.Parameter.empty:
            yield ("arguments",), f"{name} needs the argument {key!r}"
