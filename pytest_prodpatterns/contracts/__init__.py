"""Test classes that users subclass to run our scenarios on their own component."""

from __future__ import annotations

from pytest_prodpatterns.contracts._breaker import CircuitBreakerContract
from pytest_prodpatterns.contracts._pool import WorkerPoolContract
from pytest_prodpatterns.contracts._server import ServerContract

__all__ = ["CircuitBreakerContract", "ServerContract", "WorkerPoolContract"]
