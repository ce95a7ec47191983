"""Context variables on their way from the caller to the worker.

A `ContextVar` does not pickle, and its name says nothing to another process. So each travels by its place,
"module:attribute": found once when the pool is made, looked up once in each worker.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """Where a context variable is found, in the parent and in each worker.

    Attributes:
        name: "module:attribute"; the attribute may have dots.
    """

    name: str

    @property
    def variable(self) -> ContextVar[Any]:
        """What is found there, in this process; looked up once.

        Raises:
            ValueError: When there is no context variable.
        """
        return _variable_at(self.name)


def locate(variables: Iterable[ContextVar[Any] | str]) -> tuple[Place, ...]:
    """Return the places of context variables.

    Args:
        variables: Each a `ContextVar` that some imported module holds as an attribute, or "module:attribute".

    Raises:
        TypeError: When something else is given.
        ValueError: When a variable is held by no module, or nothing or something else is at a place.
    """
    if isinstance(variables, ContextVar | str) or not isinstance(variables, Iterable):
        raise TypeError(
            f"context_vars must be a list of ContextVars or 'module:attribute', got {variables!r}"
        )
    return tuple(dict.fromkeys(map(_place, variables)))


def capture(places: Sequence[Place]) -> dict[int, Any]:
    """Return the values that the caller's context has set, by the numbers of their places."""
    context = copy_context()  # cheap: contexts are immutable maps
    return {
        number: context[place.variable] for number, place in enumerate(places) if place.variable in context
    }


def apply(places: Sequence[Place], values: Mapping[int, Any]) -> Context:
    """Return a context of its own for one task, in which the captured values and nothing else is set.

    Raises:
        ValueError: When the worker does not find a variable.
    """
    context = Context()
    for number, value in values.items():
        context.run(places[number].variable.set, value)
    return context


def _place(given: ContextVar[Any] | str) -> Place:
    if isinstance(given, str):
        _variable_at(given)
        return Place(given)
    if not isinstance(given, ContextVar):
        raise TypeError(f"context_vars must hold ContextVars or 'module:attribute', got {given!r}")
    names = [*_names_of(given)]
    if not names:
        raise ValueError(
            f"no imported module has {given.name!r} as an attribute, so a worker could not find it; make the"
            " ContextVar at the top of a module, or say where it is: 'module:attribute'"
        )
    return Place(min(names, key=_rank))


def _names_of(variable: ContextVar[Any]) -> Iterator[str]:
    for module_name, module in list(sys.modules.items()):
        attributes = getattr(module, "__dict__", {})
        for attribute, value in list(attributes.items()):
            if value is variable:
                yield f"{module_name}:{attribute}"


def _rank(name: str) -> bool:
    """Prefer a module of the application over the program that imported from it."""
    return name.startswith(("__main__:", "__mp_main__:"))


@lru_cache(maxsize=256)
def _variable_at(name: str) -> ContextVar[Any]:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"a context variable must be given as 'module:attribute', got {name!r}")
    try:
        found: Any = sys.modules.get(module_name) or importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ValueError(f"there is no context variable at {name!r}: {error}") from error
    if not isinstance(found, ContextVar):
        raise ValueError(f"there is no context variable at {name!r}, but {found!r}")  # noqa: TRY004 - the name is wrong
    return found
