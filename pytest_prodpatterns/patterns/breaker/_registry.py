"""A breaker for each key, with a bound."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.patterns.breaker._breaker import CircuitBreaker
from pytest_prodpatterns.patterns.breaker._checks import function, whole
from pytest_prodpatterns.patterns.breaker._state import CLOSED

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


class CircuitBreakerRegistry:
    """Make a breaker for each key when it is first asked for, and keep at most `max_size`.

    When there is one too many, the closed breaker goes that was not asked for the longest. Only when none is
    closed does another one go; that is told to `on_evict` and the timeline (event `evicted`, with its state),
    like every eviction: an open breaker never vanishes silently. A breaker that somebody still holds goes on
    working, but the registry makes a new one for its key.

    Args:
        max_size: How many breakers are kept.
        make: Called with the key; returns a breaker. By default one named after the key.
        on_evict: Called with the key and the breaker that goes.
        parameters: Passed to each `CircuitBreaker` when there is no `make`.

    Raises:
        TypeError: When a parameter is of the wrong kind.
        ValueError: When a parameter is out of range, at once and not at the first `get`.
    """

    def __init__(
        self,
        max_size: int = 1000,
        *,
        make: Callable[[Any], CircuitBreaker] | None = None,
        on_evict: Callable[[Any, CircuitBreaker], Any] | None = None,
        **parameters: Any,
    ) -> None:
        self.max_size = whole("max_size", max_size)
        if make is not None and parameters:
            raise TypeError(f"pass make or parameters, not both: {', '.join(parameters)}")
        if "name" in parameters:
            raise TypeError("name must be left out: each breaker is named after its key")
        parameters = {
            each: tuple(value) if isinstance(value, Iterator) else value for each, value in parameters.items()
        }
        if make is None:
            CircuitBreaker(**parameters)
        self._make = function("make", make) or (lambda key: CircuitBreaker(name=str(key), **parameters))
        self._on_evict = function("on_evict", on_evict)
        self._lock = threading.RLock()
        self._breakers: OrderedDict[Hashable, CircuitBreaker] = OrderedDict()  # oldest use first

    def get(self, key: Hashable) -> CircuitBreaker:
        """Return the breaker of `key`, and make it first if need be.

        Raises:
            TypeError: When `make` returned something else.
        """
        with self._lock:
            if (breaker := self._breakers.get(key)) is not None:
                self._breakers.move_to_end(key)
                return breaker
        made = self._make(key)  # user code: not under the lock, so two threads may make one, and one is used
        if not isinstance(made, CircuitBreaker):
            raise TypeError(f"make must return a CircuitBreaker, not {made!r}")
        with self._lock:
            breaker = self._breakers.setdefault(key, made)
            evicted = [self._evict(key) for _ in range(len(self._breakers) - self.max_size)]
        for gone, victim in evicted:
            emit(f"breaker:{victim.name}", "evicted", state=str(victim.state))
            if self._on_evict is not None:
                self._on_evict(gone, victim)
        return breaker

    __getitem__ = get

    def discard(self, key: Hashable) -> None:
        """Forget the breaker of `key`, if there is one."""
        with self._lock:
            self._breakers.pop(key, None)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._breakers

    def __len__(self) -> int:
        return len(self._breakers)

    def __iter__(self) -> Iterator[CircuitBreaker]:
        with self._lock:
            return iter(list(self._breakers.values()))

    def _evict(self, newest: Hashable) -> tuple[Hashable, CircuitBreaker]:
        states = ((key, breaker._core.state) for key, breaker in self._breakers.items())  # noqa: SLF001
        closed = (key for key, state in states if state is CLOSED and key != newest)
        anyone = (key for key in self._breakers if key != newest)
        victim = next(itertools.chain(closed, anyone))
        return victim, self._breakers.pop(victim)
