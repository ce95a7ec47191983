"""Worker pools under attack: ours, eleven others, and whatever Executor a user's factory makes.

A worker that imports its task passes through here, so nothing is loaded before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_prodpatterns.targets.pool._protocol import PoolAdapter, PoolSettings
    from pytest_prodpatterns.targets.pool._target import PoolTarget

_LAZY = {"PoolAdapter": "_protocol", "PoolSettings": "_protocol", "PoolTarget": "_target"}


def known() -> list[str]:
    """Return the names of all adapters, ours first."""
    from pytest_prodpatterns.targets.pool._catalogue import NAMES  # noqa: PLC0415

    return list(NAMES)


def resolve(spec: str) -> PoolTarget:
    """Return the target that `spec` names.

    Args:
        spec: `ours`, the name of a library, or `module:callable` for a factory that returns an Executor and takes
            those of `num_workers` (or `max_workers`), `max_queue_size`, … that it knows.

    Raises:
        TargetError: When there is no such target, its library is not installed, or the factory does not work.
    """
    from pytest_prodpatterns.targets.pool import _target  # noqa: PLC0415

    return _target.from_factory_named(spec) if ":" in spec else _target.from_adapter(spec)


def from_instances(make: Callable[..., Any], *, name: str = "") -> PoolTarget:
    """Return a target that attacks what a user's own factory makes.

    The factory is called in another process: it is found there by its module and its name.

    Args:
        make: A function of a module, or a method of a class that can be made without arguments; called with those
            of `num_workers` (or `max_workers`), `max_queue_size`, `when_full`, … that its signature names.
        name: What reports call it; by default the name of the factory.

    Raises:
        TargetError: The factory cannot be found again by its name, or does not work.
    """
    from pytest_prodpatterns.targets.pool import _target  # noqa: PLC0415

    return _target.from_factory(make, name)


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{module}"), name)


__all__ = ["PoolAdapter", "PoolSettings", "PoolTarget", "from_instances", "known", "resolve"]
