"""One call through a breaker as seen from outside: what entered the dependency, what the caller got.

Events (attributes `call`, `phase`, `attempt` on each): `caller:charge` `called`, `returned`, `blocked`;
`dependency:charge` `entered`, `left`.  `returned` carries `outcome`: `ok`, `raised` (the dependency was entered
and the caller got an error), `rejected` (the caller got an error and the dependency was never entered),
`cancelled` or `wrong` (a result that the dependency did not give).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_prodpatterns.lab import emit

CALLER = "caller:charge"
DEPENDENCY = "dependency:charge"


class ServiceDownError(ConnectionError):
    """What the dependency raises while it is down."""


@dataclass(slots=True)
class Stage:
    """What all calls of one attempt share.

    Attributes:
        attempt: Its number, from 1; only the events of the last one count.
        retry_after: Tells for how many of the scenario's seconds more an error says that the breaker is open.
        fire: Told when a fault takes effect: its name and the number of the call.
        silent: Whether the curtain has fallen: what still comes back is no observation.
    """

    attempt: int
    retry_after: Callable[[BaseException], float | None]
    fire: Callable[[str, int], None]
    silent: bool = False


class Call:
    """One call: its plan, its gate, and what came of it.

    Attributes:
        outcome: What the dependency is to do: `ok`, `error`, `interrupt` or `hang` (until it is released).
        entered: Whether the dependency was entered.
        returned: Whether the caller got anything.
        released: What a hanging dependency does when its gate opens.
        raised: What the dependency raised.
        error: What the caller got.
    """

    def __init__(self, number: int, phase: str, outcome: str, stage: Stage) -> None:
        self.number = number
        self.phase = phase
        self.outcome = outcome
        self.entered = False
        self.returned = False
        self.released = "ok"
        self.raised: BaseException | None = None
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self.gate = threading.Event()
        self._stage = stage
        self._waiter: asyncio.Future[None] | None = None

    @property
    def settled(self) -> bool:
        """Whether there is nothing more to wait for: it came back, or hangs in the dependency as planned."""
        return self.returned or (self.entered and self.outcome == "hang" and not self.gate.is_set())

    def charge(self) -> int:
        """Be the dependency of a thread."""
        self._enter()
        try:
            if self.outcome == "hang":
                self.gate.wait(60.0)
            return self._answer()
        finally:
            self._say(DEPENDENCY, "left")

    async def charge_async(self) -> int:
        """Be the dependency of a task."""
        self._enter()
        try:
            if self.outcome == "hang" and not self.gate.is_set():
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            return self._answer()
        finally:
            self._say(DEPENDENCY, "left")

    def release(self, outcome: str) -> None:
        """Let a hanging dependency go on and end so; call it in the loop's thread."""
        self.released = outcome
        self.gate.set()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def call_now(self, invoke: Callable[[Call], Any]) -> None:
        """Be the caller in a thread."""
        self._say(CALLER, "called", style="thread")
        try:
            result = invoke(self)
        except BaseException as error:  # noqa: BLE001 - whatever comes is an observation
            self.end(error)
        else:
            self.end(None, result)

    async def call_async(self, invoke: Callable[[Call], Any]) -> None:
        """Be the caller in a task."""
        self._say(CALLER, "called", style="task")
        try:
            result = await invoke(self)
        except BaseException as error:  # noqa: BLE001 - a cancelled caller ends here too, as planned
            self.end(error)
        else:
            self.end(None, result)

    def end(self, error: BaseException | None, result: Any = None) -> None:
        """Record what the caller got."""
        self.error = error
        details: dict[str, Any] = {"outcome": self._verdict(error, result)}
        if error is not None:
            details |= {
                "error": type(error).__name__,
                "text": str(error)[:200],
                "original": error is self.raised,
                "retry_after": self._stage.retry_after(error),
            }
        self._say(CALLER, "returned", **details)
        self.returned = True

    def blocked(self) -> None:
        """Record that the caller still waits although nothing happens any more."""
        self._say(CALLER, "blocked")

    def _enter(self) -> None:
        self._say(DEPENDENCY, "entered")
        self.entered = True
        if self.outcome == "hang":
            self._stage.fire("hang", self.number)

    def _answer(self) -> int:
        outcome = self.released if self.outcome == "hang" else self.outcome
        if outcome == "error":
            self.raised = ServiceDownError("the service is down")
        elif outcome == "interrupt":
            self.raised = KeyboardInterrupt()
        if self.raised is not None:
            if not self._stage.silent:
                self._stage.fire(outcome, self.number)
            raise self.raised
        return self.number

    def _verdict(self, error: BaseException | None, result: Any) -> str:
        if error is None:
            return "ok" if result == self.number and self.entered else "wrong"
        if isinstance(error, asyncio.CancelledError):
            return "cancelled"
        return "raised" if self.entered else "rejected"

    def _say(self, source: str, kind: str, **details: Any) -> None:
        if not self._stage.silent:
            emit(source, kind, call=self.number, phase=self.phase, attempt=self._stage.attempt, **details)
