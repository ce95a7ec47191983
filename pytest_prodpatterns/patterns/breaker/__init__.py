"""The circuit breaker: stop calling what fails, and find out when it is well again."""

from __future__ import annotations

from pytest_prodpatterns.patterns.breaker._breaker import CircuitBreaker
from pytest_prodpatterns.patterns.breaker._classify import Outcome
from pytest_prodpatterns.patterns.breaker._engine import Listener
from pytest_prodpatterns.patterns.breaker._errors import CircuitOpenError
from pytest_prodpatterns.patterns.breaker._registry import CircuitBreakerRegistry
from pytest_prodpatterns.patterns.breaker._settings import Classifier
from pytest_prodpatterns.patterns.breaker._snapshot import Snapshot
from pytest_prodpatterns.patterns.breaker._state import CircuitState, Transition
from pytest_prodpatterns.patterns.breaker._store import MemoryStore, SharedState, StateStore
from pytest_prodpatterns.patterns.breaker._window import CountWindow, TimeWindow

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerRegistry",
    "CircuitOpenError",
    "CircuitState",
    "Classifier",
    "CountWindow",
    "Listener",
    "MemoryStore",
    "Outcome",
    "SharedState",
    "Snapshot",
    "StateStore",
    "TimeWindow",
    "Transition",
]
