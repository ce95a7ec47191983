"""The engine's side of a pool target: what it is called, what it lacks, and what a host has to load."""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pytest_prodpatterns.targets._base import TargetError
from pytest_prodpatterns.targets._host import Host, HostDied, HostFailed, HostHung
from pytest_prodpatterns.targets.pool import _catalogue

SERVICE = "pytest_prodpatterns.targets.pool._service:PoolService"
"""What a host of pools loads."""

_GRACE = 20.0
"""Seconds that a user's factory gets to import its module and to make a first pool."""


class PoolTarget:
    """A worker pool under attack.

    Args:
        name: What reports call it.
        load: What the host loads, as plain data.
        description: What it is and how it is configured, in one line.
        lacks: Requirement -> why it cannot do that at all, in one line.
        distribution: What to install; empty for the standard library.
        version: Its version, where no distribution tells; None for that of Python.

    Attributes:
        load: The same.
    """

    def __init__(
        self,
        name: str,
        load: dict[str, Any],
        description: str,
        lacks: Mapping[str, str],
        *,
        distribution: str = "",
        version: str | None = None,
    ) -> None:
        self.name = name
        self.load = load
        self.description = description
        self.distribution = distribution
        self._lacks = lacks
        self._version = version

    @property
    def version(self) -> str:
        """The installed version of the library, or of Python for the pools of the standard library."""
        if self._version is not None:
            return self._version
        if self.distribution:
            return importlib.metadata.version(self.distribution)
        return ".".join(map(str, sys.version_info[:3]))

    def missing(self, requirement: str) -> str | None:
        """Return in one line why this pool cannot do what a scenario requires, or None."""
        return self._lacks.get(requirement)

    def close(self) -> None:
        """Release nothing: each run has a host of its own, and ends it."""


def from_adapter(name: str) -> PoolTarget:
    """Return the target of one of our adapters.

    Raises:
        TargetError: There is none of that name, or its library is not installed.
    """
    if name not in _catalogue.NAMES:
        near = difflib.get_close_matches(name, _catalogue.NAMES, n=1)
        hint = f", did you mean {near[0]!r}?" if near else "."
        raise TargetError(
            f"unknown pool {name!r}{hint} There are: {', '.join(_catalogue.NAMES)}, and module:callable for a factory"
            " of your own"
        )
    found = _catalogue.adapter(name)
    target = PoolTarget(
        name, {"adapter": name}, found.description, found.lacks, distribution=found.distribution
    )
    try:
        _ = target.version
    except importlib.metadata.PackageNotFoundError:
        raise TargetError(
            f"{name} is not installed; install it with: python -m pip install {found.distribution}"
        ) from None
    return target


def from_factory_named(spec: str) -> PoolTarget:
    """Return the target of the factory that `module:callable` names.

    Raises:
        TargetError: There is no such factory, or it does not work.
    """
    module, _, path = spec.partition(":")
    if not module or not path:
        raise TargetError(
            f"{spec!r} names no factory; expected module:callable, for example app.workers:make_executor"
        )
    if "" not in sys.path:
        sys.path.insert(0, "")  # the console script does not look into the working directory
    return _inspected(spec, {"module": module, "path": path, "file": None, "name": spec})


def from_factory(make: Callable[..., Any], name: str) -> PoolTarget:
    """Return the target of a factory that is there already.

    Raises:
        TargetError: It cannot be found again by its name, or does not work.
    """
    owner = getattr(make, "__self__", None)
    path = make.__name__ if inspect.isbuiltin(make) else getattr(make, "__qualname__", "")
    if owner is not None and not inspect.isbuiltin(make):
        kind = owner if isinstance(owner, type) else type(owner)
        path = f"{kind.__qualname__}.{make.__name__}"
        module = kind.__module__
    else:
        module = getattr(make, "__module__", "") or ""
    label = name or path or repr(make)
    if not path or "<" in path:
        raise TargetError(
            f"{label} cannot be found by its name; a pool is made in another process, so its factory has to be"
            " a function of a module, or a method of a class of a module"
        )
    file = getattr(sys.modules.get(module), "__file__", None)
    return _inspected(label, {"module": module, "path": path, "file": file, "name": label})


def _inspected(name: str, factory: dict[str, Any]) -> PoolTarget:
    """Let a host load the factory and make a pool, once: a user's module may do anything, also hang."""
    host = Host(SERVICE)
    load = {"factory": factory}
    try:
        told = host.call("describe", within=_GRACE, target=load)
    except HostFailed as failed:
        text = failed.text if failed.error == "TargetError" else f"cannot use {name}: {failed}"
        raise TargetError(text) from None
    except HostHung as hung:
        raise TargetError(
            f"{name} made no pool within {hung.seconds:.0f} s; it stands at {hung.where}"
        ) from None
    except HostDied as died:
        last = died.stderr.strip().rpartition("\n")[2]
        raise TargetError(f"{name} ended its process ({died.how}){f': {last}' if last else ''}") from None
    finally:
        host.close()
    return PoolTarget(name, load, told["description"], told["lacks"], version=told["version"])
