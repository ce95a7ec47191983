"""Virtual time on a loop that somebody else made: `patched()` and `virtual_time()`.

Theory of operation.  A turn of a stdlib loop asks three attributes of the instance: `time()`, the selector's `select()`
and, for threads, `run_in_executor()`.  Replacing those three, and nothing else, makes any selector loop virtual: the
one of pytest-asyncio, of anyio, of aiohttp.  No loop class, no policy.
"""

# ruff: noqa: SLF001 - asyncio has no public names for these; a test pins them for each version

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import selectors
import time
import weakref
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.lab import _ambient
from pytest_prodpatterns.lab._virtual_clock import UnsupportedLoop, VirtualClock
from pytest_prodpatterns.lab._virtual_turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

_virtual_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


@contextlib.contextmanager
def patched(
    loop: asyncio.AbstractEventLoop,
    clock: VirtualClock | None = None,
    *,
    root: asyncio.Task[Any] | None = None,
) -> Iterator[VirtualClock]:
    """Put a loop, running or not, on virtual time inside the block; the ambient clock follows.

    Args:
        loop: A selector loop of the standard library.
        clock: The clock to run on; by default a new one that starts at 0.
        root: The task that must go on: a deadlock is raised in what it waits for. By default the task that
            drives the loop.

    Raises:
        UnsupportedLoop: The loop has no stdlib selector (uvloop, Proactor), or is virtual already.
    """
    clock = VirtualClock() if clock is None else clock
    selector = _selector_of(loop)
    turns = Turns(loop, selector, clock, root)
    with contextlib.ExitStack() as undo:
        undo.callback(_do_not_time_this_callback, loop)
        undo.enter_context(_occupied(loop, clock))
        undo.enter_context(_shifted_timers(loop, clock))
        undo.enter_context(_attribute(loop, "run_in_executor", turns.outside.track(loop.run_in_executor)))
        undo.enter_context(_attribute(loop, "time", clock.time))
        undo.enter_context(_attribute(selector, "select", turns.make_select()))
        undo.enter_context(_ambient.use_clock(clock))
        yield clock


def _selector_of(loop: asyncio.AbstractEventLoop) -> selectors.BaseSelector:
    selector = getattr(loop, "_selector", None)
    if not isinstance(loop, asyncio.SelectorEventLoop) or not isinstance(selector, selectors.BaseSelector):
        kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
        raise UnsupportedLoop(
            f"virtual time needs a selector event loop of the standard library, got {kind}; "
            "run this test on asyncio.SelectorEventLoop (for pytest-asyncio: no uvloop policy or loop factory)"
        )
    if loop in _virtual_loops:
        raise UnsupportedLoop(
            "this loop runs on virtual time already; use the clock that is there instead of entering it again"
        )
    return selector


@contextlib.contextmanager
def _occupied(loop: asyncio.AbstractEventLoop, clock: VirtualClock) -> Iterator[None]:
    if clock._loop is not None:
        raise UnsupportedLoop("this VirtualClock drives another loop; make a new one for each loop")
    resolution = loop._clock_resolution  # type: ignore[attr-defined]
    _virtual_loops.add(loop)
    clock._loop = loop
    clock._coarsen()
    try:
        yield
    finally:
        clock._loop = None
        loop._clock_resolution = resolution  # type: ignore[attr-defined]
        _virtual_loops.discard(loop)


@contextlib.contextmanager
def _shifted_timers(loop: asyncio.AbstractEventLoop, clock: VirtualClock) -> Iterator[None]:
    """Keep what is left to wait of each pending timer, on the way in and on the way out."""
    _shift(loop, clock.time() - loop.time())
    try:
        yield
    finally:
        _shift(loop, loop.time() - clock.time())


def _shift(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    timers = loop._scheduled  # type: ignore[attr-defined]
    for handle in timers:
        handle._when += seconds
    heapq.heapify(timers)


def _do_not_time_this_callback(loop: asyncio.AbstractEventLoop) -> None:
    """Keep debug mode quiet about the callback that switches clocks: it would take their difference for a duration."""
    usual: float = loop.slow_callback_duration
    if loop.is_running() and loop.get_debug() and usual < math.inf:
        loop.slow_callback_duration = math.inf
        loop.call_soon(setattr, loop, "slow_callback_duration", usual)


@contextlib.contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Replace a method of one instance inside the block; what stood there before stands there again.

    The instance's `__dict__` is not asked: before 3.13, an object whose dictionary was looked at stays slower.
    """
    before = getattr(owner, name)
    inherited = getattr(before, "__func__", None) is getattr(type(owner), name, None)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


class virtual_time:  # noqa: N801
    """Run on virtual time inside the block: `async with` or `with`.

    With a running loop that loop is patched; without one, only the ambient clock is replaced, and moves by
    `advance()` alone.

    Args:
        start: What the clock shows at first, in seconds.
        grace: Real seconds of quiet that threads, children and other processes get before a jump.
        strict: Whether to raise `OutsidePending` where a jump would follow that grace.
        wall_clock: Whether `time.time()` and `datetime` follow too (by `time-machine`).
        clock: A clock to go on with, instead of `start`, `grace` and `strict`.

    Raises:
        UnsupportedLoop: On entering, when the running loop is none of the standard library's selector loops.
    """

    def __init__(
        self,
        *,
        start: float = 0.0,
        grace: float = 1.0,
        strict: bool = False,
        wall_clock: bool = False,
        clock: VirtualClock | None = None,
    ) -> None:
        self.clock = VirtualClock(start, grace=grace, strict=strict) if clock is None else clock
        self._wall_clock = wall_clock
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> VirtualClock:
        loop = asyncio._get_running_loop()
        with contextlib.ExitStack() as undo:
            if loop is None:
                undo.enter_context(_ambient.use_clock(self.clock))
            else:
                undo.enter_context(patched(loop, self.clock, root=asyncio.current_task(loop)))
            if self._wall_clock:
                undo.enter_context(_coupled(self.clock))
            self._undo = undo.pop_all()
        return self.clock

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.__exit__(kind, error, trace)

    async def __aenter__(self) -> VirtualClock:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


@contextlib.contextmanager
def _coupled(clock: VirtualClock) -> Iterator[None]:
    """Let `time.time()` and `datetime.now()` move with the clock, from the present moment on."""
    import time_machine  # noqa: PLC0415

    origin = time.time() - clock.time()
    with time_machine.travel(origin + clock.time(), tick=False) as traveller:
        clock._on_move = lambda moment: traveller.move_to(origin + moment, tick=False)
        try:
            yield
        finally:
            clock._on_move = None


__all__ = ["patched", "virtual_time"]
