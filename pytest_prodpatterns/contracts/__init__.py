"""Test classes that users subclass to run our scenarios on their own component."""

from __future__ import annotations

from pytest_prodpatterns.contracts._breaker import CircuitBreakerContract

__all__ = ["CircuitBreakerContract"]
