"""The clock and the timeline of the moment: what a component reads without being handed it.

Theory of operation.  A component is often built before anybody knows on which time it will run: a fixture
makes a breaker, and only then does the test body switch to virtual time.  So nothing keeps a clock of its own
by default; everything asks `now()` at each call, and `now()` asks whichever clock stands here at that moment.
The same holds for events: `emit()` hands them to the timeline that stands here, and does nothing without one.

Both are process-wide on purpose, not context variables: a worker thread that the test started, or a callback
of a foreign library, belongs to the same experiment and must see the same clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Seconds on a clock that never goes back, like `time.monotonic`."""


class Sink(Protocol):
    """Where emitted events go: a `Timeline`, or the spool of a child process."""

    def emit(self, source: str, kind: str, /, **attributes: Any) -> None:
        """Take one event."""


_clock: Clock = time.monotonic
_sink: Sink | None = None


def now() -> float:
    """Return the time in seconds on the ambient clock: virtual inside virtual time, else monotonic."""
    return _clock()


def ambient_clock() -> Clock:
    """Return the clock that `now()` reads at this moment."""
    return _clock


@contextmanager
def use_clock(clock: Clock) -> Iterator[None]:
    """Let `now()` read `clock` inside the block.

    Args:
        clock: A callable without arguments that returns seconds.
    """
    global _clock  # noqa: PLW0603
    previous, _clock = _clock, clock
    try:
        yield
    finally:
        _clock = previous


def listening() -> bool:
    """Tell whether anybody would receive an event, so that a hot path can skip building one."""
    return _sink is not None


def emit(source: str, kind: str, /, **attributes: Any) -> None:
    """Record what happened, if anybody listens.

    Args:
        source: Who says so, as `subject:name`, for example `breaker:payments`.
        kind: One word for what happened, for example `transition`.
        attributes: Details; values should be plain data (others are recorded by their `repr`).
    """
    if _sink is not None:
        _sink.emit(source, kind, **attributes)


def current_sink() -> Sink | None:
    """Return where events go at this moment, or None when nobody listens."""
    return _sink


def set_sink(sink: Sink | None) -> Sink | None:
    """Send events to `sink` from now on, and return where they went before."""
    global _sink
    previous, _sink = _sink, sink
    return previous
