"""The public names of pytest-prodpatterns, imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pytest_prodpatterns import faults, lab
    from pytest_prodpatterns.contracts import CircuitBreakerContract
    from pytest_prodpatterns.faults import flaky, patch_flaky, plan
    from pytest_prodpatterns.lab import ChaosLab, VirtualClock, virtual_time
    from pytest_prodpatterns.patterns.breaker import (
        CircuitBreaker,
        CircuitBreakerRegistry,
        CircuitOpenError,
        CircuitState,
    )
    from pytest_prodpatterns.patterns.breaker.testing import (
        assert_probes,
        assert_transitions,
        forced,
        trip,
    )

__version__ = "0.1.0"

__all__ = [
    "ChaosLab",
    "CircuitBreaker",
    "CircuitBreakerContract",
    "CircuitBreakerRegistry",
    "CircuitOpenError",
    "CircuitState",
    "VirtualClock",
    "assert_probes",
    "assert_transitions",
    "faults",
    "flaky",
    "forced",
    "lab",
    "patch_flaky",
    "plan",
    "trip",
    "virtual_time",
]

_MODULES: Final = {
    "contracts": ("CircuitBreakerContract",),
    "faults": ("flaky", "patch_flaky", "plan"),
    "lab": ("ChaosLab", "VirtualClock", "virtual_time"),
    "patterns.breaker": ("CircuitBreaker", "CircuitBreakerRegistry", "CircuitOpenError", "CircuitState"),
    "patterns.breaker.testing": ("assert_probes", "assert_transitions", "forced", "trip"),
}
"""Where each name lives; faults and lab are packages of their own."""

_HOME: Final = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in {"faults", "lab"}:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
