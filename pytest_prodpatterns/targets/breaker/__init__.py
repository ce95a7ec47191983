"""Circuit breakers under attack: ours, nine libraries, and any that a user's factory makes."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from typing import TYPE_CHECKING

from pytest_prodpatterns.targets._base import TargetError
from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Kind, Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ADAPTERS = {
    "ours": ("_ours", "OurTarget"),
    "pybreaker": ("_pybreaker", "PybreakerTarget"),
    "aiobreaker": ("_aiobreaker", "AiobreakerTarget"),
    "purgatory": ("_purgatory", "PurgatoryTarget"),
    "circuitbreaker": ("_circuitbreaker", "CircuitbreakerTarget"),
    "nopanic": ("_nopanic", "NopanicTarget"),
    "pyresilience": ("_pyresilience", "PyresilienceTarget"),
    "interlock-cb": ("_interlock", "InterlockTarget"),
    "hyx": ("_hyx", "HyxTarget"),
    "fluxgate": ("_fluxgate", "FluxgateTarget"),
}


def known() -> list[str]:
    """Return the names of all adapters, ours first."""
    return list(_ADAPTERS)


def resolve(spec: str) -> BreakerTarget:
    """Return the target that `spec` names.

    Args:
        spec: `ours`, the name of a library, or `module:callable` for a factory that takes `failure_threshold`,
            `recovery_timeout` and `success_threshold`.

    Raises:
        TargetError: When there is no such target, or its library is not installed.
    """
    if ":" in spec:
        from pytest_prodpatterns.targets.breaker._factory import load  # noqa: PLC0415

        return from_instances(load(spec), name=spec)
    target = _adapter(spec)()
    _require(target)
    return target


def from_instances(
    make: Callable[..., Any],
    *,
    name: str = "",
    call: Callable[..., Any] | None = None,
    call_async: Callable[..., Any] | None = None,
) -> BreakerTarget:
    """Return a target that attacks what a user's own factory makes.

    Args:
        make: Called with those of `failure_threshold`, `recovery_timeout`, `success_threshold` and
            `call_timeout` that its signature names.
        name: What reports call it; by default the name of the factory.
        call: How to call a function through a breaker that has no adapter: `call(breaker, func, *args)`.
        call_async: The same for coroutine functions.

    Raises:
        TargetError: The factory raises, or nobody knows how to call through what it makes.
    """
    from pytest_prodpatterns.targets.breaker._factory import FactoryTarget  # noqa: PLC0415

    adapters = {library: _adapter(library) for library in _ADAPTERS}
    label = name or getattr(make, "__qualname__", repr(make))
    return FactoryTarget(label, make, adapters, call=call, call_async=call_async)


def _adapter(name: str) -> type[BreakerTarget]:
    if name not in _ADAPTERS:
        near = difflib.get_close_matches(name, _ADAPTERS, n=1)
        hint = f", did you mean {near[0]!r}?" if near else "."
        raise TargetError(
            f"unknown breaker {name!r}{hint} There are: {', '.join(_ADAPTERS)}, and module:callable for a factory"
            " of your own"
        )
    module, attribute = _ADAPTERS[name]
    found: type[BreakerTarget] = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    return found


def _require(target: BreakerTarget) -> None:
    try:
        _ = target.version
    except importlib.metadata.PackageNotFoundError:
        raise TargetError(
            f"{target.name} is not installed; install it with: python -m pip install {target.distribution}"
        ) from None


__all__ = ["BreakerTarget", "Kind", "Settings", "from_instances", "known", "resolve"]
