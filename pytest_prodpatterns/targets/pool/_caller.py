"""The calls of a run: made by the host, watched until they have an answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.targets.pool._desk import PATIENCE, Desk

if TYPE_CHECKING:
    from collections.abc import Sequence


class Caller(Desk):
    """The part of the driver that makes calls."""

    def submit(
        self,
        task: str,
        times: int = 1,
        phase: str = "",
        *arguments: Any,
        callers: int = 1,
        patience: float = 1.0,
    ) -> list[int]:
        """Submit a task, and wait until each submit returned or raised, or for `patience` seconds.

        A submit that blocks stays in its thread; those behind it wait for it.

        Args:
            task: The name of a function of `_tasks`.
            times: How many calls, by each caller.
            phase: What the history calls them.
            arguments: What the task gets besides; see `_tasks`.
            callers: How many threads of the host make that many calls each, at the same time.
            patience: Seconds to wait for submits that block.

        Returns:
            The numbers of the calls, in order.
        """
        host = self._living_host()
        numbers = self._expect(task, times * callers, phase)
        if host is None:
            return numbers
        requests = [
            host.begin("submit", task=task, calls=part, phase=phase, arguments=list(arguments))
            for part in (numbers[index * times : (index + 1) * times] for index in range(callers))
        ]
        until = time.monotonic() + patience
        for request in requests:
            self._answer(request, until - time.monotonic())
        self._sight.look()
        return numbers

    def release(self, phase: str) -> None:
        """Let the tasks of a phase that hold go on, those that enter later too."""
        if self.host is not None:
            self._open_gate(phase)

    def cancel(self, phase: str, *, deadline: float = 1.0) -> int:
        """Call `future.cancel()` of each call of a phase that has no answer; return how many said True."""
        host = self._living_host()
        calls = [call.number for call in self._sight.phase(phase) if not call.answered]
        if host is None or not calls:
            return 0
        answer = self._answer(host.begin("cancel", calls=calls), deadline)
        return int(answer.get("value") or 0) if answer else 0

    def accepted(self, phase: str) -> int:
        """Return how many submits of a phase have returned."""
        return self._sight.count(phase, lambda call: call.accepted)

    def await_entered(self, phase: str, count: int, *, deadline: float = PATIENCE) -> int:
        """Wait until `count` calls of a phase have entered a worker; return how many have."""
        return self._await_count(phase, lambda call: call.workers, count, deadline)

    def await_left(self, phase: str, count: int, *, deadline: float = PATIENCE) -> int:
        """Wait until `count` calls of a phase have left; return how many have."""
        return self._await_count(phase, lambda call: call.left, count, deadline)

    def await_accepted(self, phase: str, count: int, *, deadline: float = PATIENCE) -> int:
        """Wait until `count` submits of a phase have returned; return how many have."""
        return self._await_count(phase, lambda call: call.accepted, count, deadline)

    def await_returned(self, phase: str | Sequence[str], *, deadline: float = PATIENCE) -> bool:
        """Wait until every call of the phases has its answer; those without get an event `hung`.

        Args:
            phase: One or several.
            deadline: Seconds to wait; from a process that has ended, nothing is waited for.

        Returns:
            Whether all have.
        """
        phases = (phase,) if isinstance(phase, str) else tuple(phase)
        began = time.monotonic()

        def all_answered() -> bool:
            return all(call.answered for call in self._sight.phase(*phases))

        self._until(all_answered, deadline)
        return self._tell_hung(self._sight.phase(*phases), time.monotonic() - began)

    def await_calm(
        self, phase: str | Sequence[str], patience: float, *, made: bool = False, longest: float = 90.0
    ) -> None:
        """Wait until the calls have their answers, or show no sign of life any more.

        A call that is made, an execution that begins and an answer that comes are signs: a pool that runs a task
        again and again, slowly, does not hang.

        Args:
            phase: One or several.
            patience: Seconds without a sign that are enough.
            made: Whether to wait only for those that were made, because the others never will be.
            longest: Seconds after which nothing is waited for any more.
        """
        phases = (phase,) if isinstance(phase, str) else tuple(phase)
        signs, last, began = -1, time.monotonic(), time.monotonic()

        def over() -> bool:
            nonlocal signs, last
            calls = [call for call in self._sight.phase(*phases) if call.made or not made]
            seen = sum(call.made + len(call.workers) + call.answered for call in calls)
            signs, last = (signs, last) if seen == signs else (seen, time.monotonic())
            now = time.monotonic()
            return all(call.answered for call in calls) or now > last + patience or now > began + longest

        self._until(over, longest + patience)

    def loop_lag(
        self, task: str, times: int, phase: str, *arguments: Any, seconds: float = 1.0
    ) -> float | None:
        """Submit on a running event loop, and measure for so long for how long the loop stands still at worst.

        The calls are made as tasks of the loop, the way the library documents (its own async API, else
        `loop.run_in_executor`); a ticker measures.  The loop runs on afterwards.  Event `lag`.

        Args:
            task: The name of a function of `_tasks`.
            times: How many calls.
            phase: What the history calls them.
            arguments: What the task gets besides.
            seconds: For how long to measure.

        Returns:
            The worst lag in seconds; None when the host did not answer at all.
        """
        host = self._living_host()
        numbers = self._expect(task, times, phase)
        if host is None:
            return None
        request = host.begin(
            "loop_lag", task=task, calls=numbers, phase=phase, arguments=list(arguments), seconds=seconds
        )
        answer = self._answer(request, seconds + PATIENCE)
        if not answer or "value" not in answer:
            return None
        lag: dict[str, float] = answer["value"]
        emit(self._source, "lag", phase=phase, **lag)
        return lag["worst"]
