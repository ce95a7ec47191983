"""The storm: a caller that keeps the pool busy, and a hand that kills its workers meanwhile."""

from __future__ import annotations

import time

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.targets.pool._crew import Crew
from pytest_prodpatterns.targets.pool._desk import PATIENCE


class Weather(Crew):
    """The part of the driver that makes storms."""

    def storm(
        self,
        tasks: int,
        phase: str,
        *,
        milliseconds: float = 3.0,
        window: int = 64,
        kills: int = 200,
        every: int = 10,
        deadline: float = 30.0,
        calm: float = PATIENCE,
    ) -> int:
        """Keep calls of `work` in flight, and SIGKILL a random worker again and again.

        A worker is killed when `every` more calls have returned since the last kill: kills in a row would hit one task
        again and again.  The caller waits for us, where we see its answers late, and makes a new pool when submit says that the
        pool is broken (event `rebuilt`).  It ends when every call has its answer, when
        nothing has returned for `calm` seconds, or at the deadline.  Then no more calls are made and nobody is
        killed; calls that have no answer when nothing has returned for `calm` seconds get an event `hung`.

        Args:
            tasks: How many calls.
            phase: What the history calls them.
            milliseconds: How long each task takes.
            window: How many calls are in flight at most.
            kills: How many workers are killed at most; by the lab's seed.
            every: After how many answers.
            deadline: Seconds.
            calm: Seconds without an answer that count as a hang.

        Returns:
            How many workers were killed.
        """
        host = self._living_host()
        numbers = self._expect("work", tasks, phase)
        if host is None:
            return 0
        began = progress = time.monotonic()
        request = host.begin(
            "storm",
            first=numbers[0],
            count=tasks,
            phase=phase,
            milliseconds=milliseconds,
            window=window,
            upto=window + every,
        )
        killed, seen, due, before, told_at = 0, 0, every, self._sight.answers, 0
        while time.monotonic() < min(began + deadline, progress + calm) and host.alive:
            self._sight.look()
            answers = self._sight.answers - before
            if answers != seen:
                seen, progress = answers, time.monotonic()
            if answers >= tasks:
                break
            if answers - told_at >= every:
                told_at = answers
                host.begin("go_on", upto=answers + window + every)
            if answers >= due and killed < kills and self._strike_at_random():
                killed, due = killed + 1, answers + every
            else:
                time.sleep(0.001)
        self._answer(host.begin("end_storm"), 1.0)
        told = (self._answer(request, 1.0) or {}).get("value") or {"made": None, "pools": None}
        took = round(time.monotonic() - began, 3)
        emit(self._source, "storm", phase=phase, **told, killed=killed, took=took)
        if time.monotonic() < progress + calm:
            self.await_calm(phase, calm, made=True)
        self._tell_hung([call for call in self._sight.phase(phase) if call.made], time.monotonic() - progress)
        return killed
