"""The public names of pytest-prodpatterns, imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pytest_prodpatterns import faults, lab
    from pytest_prodpatterns.contracts import CircuitBreakerContract, ServerContract, WorkerPoolContract
    from pytest_prodpatterns.faults import flaky, full_queue, patch_flaky, plan
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
    from pytest_prodpatterns.patterns.pool import (
        PoisonTask,
        PoolBroken,
        PoolClosed,
        QueueFull,
        TaskTimeout,
        WorkerCrashed,
        WorkerPool,
        retry,
    )
    from pytest_prodpatterns.patterns.server import ProductionServer
    from pytest_prodpatterns.targets.server import shutdown
    from pytest_prodpatterns.targets.server.shutdown import ShutdownProbe, assert_graceful_shutdown

__version__ = "0.1.0"

__all__ = [
    "ChaosLab",
    "CircuitBreaker",
    "CircuitBreakerContract",
    "CircuitBreakerRegistry",
    "CircuitOpenError",
    "CircuitState",
    "PoisonTask",
    "PoolBroken",
    "PoolClosed",
    "ProductionServer",
    "QueueFull",
    "ServerContract",
    "ShutdownProbe",
    "TaskTimeout",
    "VirtualClock",
    "WorkerCrashed",
    "WorkerPool",
    "WorkerPoolContract",
    "assert_graceful_shutdown",
    "assert_probes",
    "assert_transitions",
    "faults",
    "flaky",
    "forced",
    "full_queue",
    "lab",
    "patch_flaky",
    "plan",
    "retry",
    "shutdown",
    "trip",
    "virtual_time",
]

_MODULES: Final = {
    "contracts": ("CircuitBreakerContract", "ServerContract", "WorkerPoolContract"),
    "faults": ("flaky", "full_queue", "patch_flaky", "plan"),
    "lab": ("ChaosLab", "VirtualClock", "virtual_time"),
    "patterns.breaker": ("CircuitBreaker", "CircuitBreakerRegistry", "CircuitOpenError", "CircuitState"),
    "patterns.breaker.testing": ("assert_probes", "assert_transitions", "forced", "trip"),
    "patterns.pool": (
        "PoisonTask",
        "PoolBroken",
        "PoolClosed",
        "QueueFull",
        "TaskTimeout",
        "WorkerCrashed",
        "WorkerPool",
        "retry",
    ),
    "patterns.server": ("ProductionServer",),
    "targets.server.shutdown": ("ShutdownProbe", "assert_graceful_shutdown"),
}
"""Where each name lives."""
_NAMESPACES: Final = {"faults": "faults", "lab": "lab", "shutdown": "targets.server.shutdown"}
"""Names that are modules."""

_HOME: Final = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _NAMESPACES:
        return importlib.import_module(f"{__name__}.{_NAMESPACES[name]}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
