"""Drives calls through a breaker: one by one, as tasks or as threads, held, released and cancelled.

Theory of operation.  Tasks live on a private loop that runs only while a step of the scenario runs, in the
thread of the engine; what hangs survives between steps as a suspended task, or as a thread that waits at a
gate.  Synchronous calls are always made in a thread of their own, so a breaker that blocks its callers blocks
nobody else.  Every wait ends: a step is over when all its calls came back or hang in the dependency as
planned, or when nothing has happened for `PATIENCE` real seconds; who still waits then is `blocked`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.targets.breaker._calls import Call, Stage
from pytest_prodpatterns.targets.breaker._dependencies import DEPENDENCIES, drain, drain_async
from pytest_prodpatterns.targets.breaker._pace import Pace, RealPace, VirtualPace
from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Kind, Settings

PATIENCE = 1.0
"""Real seconds without any progress after which a caller counts as blocked, and as many thousand looks: a
machine that stands still for a second has not looked that often."""

FAREWELL = 2.0
"""Real seconds that tasks and threads get to end when everything is over."""

Invoke = Callable[[Call], Any]


class Driver:
    """One attempt at a scenario against one target.

    Args:
        target: The adapter.
        attempt: The number of the attempt.
        unit: Real seconds for a second of the scenario, for a target on real time.
        fire: Told when a fault takes effect: its name and the number of the call.
    """

    def __init__(
        self, target: BreakerTarget, attempt: int, unit: float, fire: Callable[[str, int], None]
    ) -> None:
        self.target = target
        self.calls: list[Call] = []
        self.settings = Settings()
        self.breaker: Any = None
        self._decorated: dict[Kind, Any] = {}
        self._stage = Stage(attempt, self._retry_after, fire)
        self._stack = contextlib.ExitStack()
        self._loop = asyncio.SelectorEventLoop()
        self._stack.callback(self._loop.close)
        self._stack.callback(self._say_farewell)
        virtual = target.time == "virtual"
        self.pace: Pace = VirtualPace(self._loop, self._stack) if virtual else RealPace(unit)

    def make(self, settings: Settings) -> None:
        """Make a breaker; the one before is forgotten."""
        self.settings = settings
        started = time.monotonic()
        self.breaker = self.target.make(settings.scaled(self.pace.unit))
        self.pace.excuse(time.monotonic() - started)  # the library may have been imported
        self._decorated = {}
        emit(f"target:{self.target.name}", "made", attempt=self._stage.attempt, time=self.target.time)

    def advance(self, seconds: float) -> None:
        """Let seconds of the scenario pass."""
        self.pace.advance(self._loop, seconds)

    def call(
        self, times: int, outcome: str, phase: str, style: str, *, at_once: bool, deadline: float | None
    ) -> list[Call]:
        """Make calls, one after the other or all at once, and wait until they settle.

        Args:
            times: How many.
            outcome: What the dependency does: `ok`, `error`, `interrupt`, `hang`, `cancel`.
            phase: What the history calls them.
            style: `auto`, `tasks`, `threads` or `concurrent`.
            at_once: Start all, then wait.
            deadline: Seconds after which the callers give up by `asyncio.wait_for`; None to wait on.
        """
        start = self._starter(style, deadline)
        made: list[Call] = []
        for _ in range(times):
            call = self._new_call(phase, "hang" if outcome == "cancel" else outcome)
            made.append(call)
            start(call)
            if at_once:
                continue
            if not self._settle([call]):
                break  # a breaker that blocks one caller blocks the next as well
            if outcome == "cancel":
                self.cancel([call])
            elif deadline is not None and not call.returned:
                self.advance(deadline)
                self._until(lambda call=call: call.returned)  # type: ignore[misc]
        if at_once:
            self._settle(made)
        return made

    def release(self, calls: list[Call], outcome: str) -> None:
        """Let hanging calls go on and end with `outcome`."""
        for call in calls:
            call.release(outcome)
        self._settle(calls)

    def cancel(self, calls: list[Call]) -> None:
        """Cancel the callers' tasks, as a client that hangs up does."""
        for call in calls:
            if call.task is not None:
                call.task.cancel()
                self._stage.fire("cancel", call.number)
        self._until(lambda: all(call.returned for call in calls))

    def decorate(self, func: Any, kind: Kind) -> Any:
        """Decorate with the breaker."""
        return self.target.decorate(self.breaker, func, kind)

    def guards(self, kind: Kind) -> bool:
        """Decorate the dependency of that kind, once for each breaker; False when the library refuses."""
        if kind not in self._decorated:
            self._decorated[kind] = self._refusable(kind)
        return self._decorated[kind] is not None

    def call_decorated(self, kind: Kind, times: int, outcome: str, phase: str) -> None:
        """Make calls to the decorated dependency, one after the other."""
        guarded = self._decorated[kind]
        for _ in range(times):
            call = self._new_call(phase, outcome)
            if kind.startswith("async"):
                self._start_task(call, partial(drain_async, guarded))
            else:
                self._start_thread(call, partial(drain, guarded))
            if not self._settle([call]):
                break

    def storm(self, threads: int, times: int, phase: str) -> None:
        """Make failing calls from many threads at the same time, switching between them as often as possible."""

        def work() -> None:
            for _ in range(times):
                with contextlib.suppress(Exception):
                    self.target.call(self.breaker, _fail)

        workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
        with _switching_often():
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(30.0)
        emit(
            "dependency:charge", "stormed", phase=phase, attempt=self._stage.attempt, failures=threads * times
        )

    @property
    def attempt(self) -> int:
        """The number of the attempt."""
        return self._stage.attempt

    def report(self) -> None:
        """Note what the library says of its state; for people who read the timeline, never for a verdict."""
        emit(
            f"target:{self.target.name}", "says", attempt=self.attempt, state=self.target.state(self.breaker)
        )

    def close(self) -> None:
        """End every task and thread, and what they still say is not heard."""
        self._stage.silent = True
        self._stack.close()

    def _refusable(self, kind: Kind) -> Any:
        try:
            return self.decorate(DEPENDENCIES[kind], kind)
        except Exception as error:  # noqa: BLE001 - a refusal may have any type
            emit("target:decorator", "refused", attempt=self._stage.attempt, guard=kind, error=repr(error))
            return None

    def _new_call(self, phase: str, outcome: str) -> Call:
        call = Call(len(self.calls) + 1, phase, outcome, self._stage)
        self.calls.append(call)
        return call

    def _starter(self, style: str, deadline: float | None) -> Callable[[Call], None]:
        if self._in_threads(style):
            return lambda call: self._start_thread(call, self._invoke)
        if deadline is None:
            return lambda call: self._start_task(call, self._invoke_async)
        seconds = deadline * self.pace.unit
        return lambda call: self._start_task(
            call, lambda call: asyncio.wait_for(self._invoke_async(call), seconds)
        )

    def _in_threads(self, style: str) -> bool:
        if style == "concurrent":
            return not (self.target.missing("sync") or self.target.missing("threads"))
        return style == "threads" or (style == "auto" and self.target.missing("async") is not None)

    def _invoke(self, call: Call) -> Any:
        return self.target.call(self.breaker, call.charge)

    async def _invoke_async(self, call: Call) -> Any:
        return await self.target.call_async(self.breaker, call.charge_async)

    def _start_task(self, call: Call, invoke: Invoke) -> None:
        call.task = self._loop.create_task(call.call_async(invoke), name=f"call {call.number}")

    def _start_thread(self, call: Call, invoke: Invoke) -> None:
        name = f"call {call.number}"
        threading.Thread(target=call.call_now, args=(invoke,), name=name, daemon=True).start()

    def _settle(self, calls: list[Call]) -> bool:
        if self._until(lambda: all(call.settled for call in calls)):
            return True
        for call in calls:
            if not call.settled:
                call.blocked()
        return False

    def _until(self, done: Callable[[], bool]) -> bool:
        """Turn the loop until `done`, or until nothing happens any more."""
        return self._loop.run_until_complete(self._wait(done))

    async def _wait(self, done: Callable[[], bool]) -> bool:
        progress, since, looks = self._progress(), time.monotonic(), 0
        for _ in range(1_000_000):
            await asyncio.sleep(0)
            looks += 1
            if done():
                return True
            if self._progress() != progress:
                progress, since, looks = self._progress(), time.monotonic(), 0
            elif looks > _BUSY_LOOKS:
                time.sleep(0.0005)  # noqa: ASYNC251 - threads need the processor, tasks nothing
                if time.monotonic() - since > PATIENCE and looks > 1000 * PATIENCE:
                    break
        self.pace.excuse(time.monotonic() - since)
        return False

    def _progress(self) -> int:
        return sum(call.entered + call.returned for call in self.calls)

    def _retry_after(self, error: BaseException) -> float | None:
        told = self.target.retry_after(error)
        return None if told is None else told / self.pace.unit

    def _say_farewell(self) -> None:
        for call in self.calls:
            call.release("ok")
        tasks = [call.task for call in self.calls if call.task is not None and not call.task.done()]
        for task in tasks:
            task.cancel()
        until = time.monotonic() + FAREWELL
        while time.monotonic() < until and not all(call.returned for call in self.calls):
            self._loop.run_until_complete(asyncio.sleep(0))
            time.sleep(0.0005)


_BUSY_LOOKS = 20


def _fail() -> None:
    raise ConnectionError("the service is down")


@contextlib.contextmanager
def _switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
