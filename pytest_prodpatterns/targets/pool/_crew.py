"""The workers of the pool, as far as they are known from their own events: found, struck, frozen, counted."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

from pytest_prodpatterns.faults import processes
from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets._host import start_time
from pytest_prodpatterns.targets.pool._caller import Caller
from pytest_prodpatterns.targets.pool._desk import PATIENCE
from pytest_prodpatterns.targets.pool._tasks import gate

Which = Literal["busy", "idle", "random", "all"]


class NoSuchWorker(LookupError):  # noqa: N818 - it says what is not there
    """No known worker is as it was asked for; the text says what they are."""


class Crew(Caller):
    """The part of the driver that deals with workers."""

    def worker_pids(self) -> list[int]:
        """Return the pids of all workers that entered a task and live (a zombie does not), oldest first."""
        return self._sight.living()

    def busy_workers(self, phase: str | None = None) -> list[int]:
        """Return the pids of workers that entered a task (of that phase) and have not left it."""
        return self._sight.inside(phase)

    def idle_workers(self) -> list[int]:
        """Return the pids of the known workers that are in no task."""
        busy = set(self._sight.inside())
        return [pid for pid in self._sight.living() if pid not in busy]

    def kill(self, which: Which | int = "busy", *, phase: str | None = None, signal: str = "SIGKILL") -> int:
        """Send a signal to workers, through `faults.processes`, and wait for evidence that it took effect.

        Args:
            which: `busy` (the first that is in a task), `idle`, `random` (by the lab's seed), `all`, or a pid.
            phase: Only workers in a task of that phase.
            signal: The name of the signal.

        Returns:
            The pid (for `all`: the last one).

        Raises:
            NoSuchWorker: None of the known workers is like that.
        """
        pids = self._chosen(which, phase)
        for pid in pids:
            try:
                processes.kill(pid) if signal == "SIGKILL" else processes.send_signal(pid, signal)
            except ProcessLookupError:
                if which != "all":
                    raise NoSuchWorker(f"the worker {pid} ended before it was struck") from None
        return pids[-1]

    def kill_while_writing(
        self, phase: str, size: int = 20_000_000, *, deadline: float = PATIENCE
    ) -> int | None:
        """SIGKILL a worker that is in the middle of sending a large result.

        Submits `held_large_result(size)`, stops the host (so that nobody reads), lets the task go, waits until
        the worker has left it and stands still in its write, kills it and continues the host.

        Args:
            phase: What the history calls the call.
            size: Bytes of the result; more than any pipe holds.
            deadline: Seconds for each of the waits.

        Returns:
            The pid, or None when no worker could be caught in the act.
        """
        host = self._living_host()
        if host is None:
            return None
        self.submit("held_large_result", 1, phase, size)
        self.await_entered(phase, 1, deadline=deadline)
        workers = self.busy_workers(phase)
        if not workers:
            self.release(phase)
            return None
        with processes.stop(host.pid):
            self.release(phase)
            self.await_left(phase, 1, deadline=deadline)
            caught = self._sight.count(phase, lambda call: call.left) and _await_standstill(
                workers[0], deadline
            )
            if caught:
                processes.kill(workers[0])
        return workers[0] if caught else None

    def stop(self, which: Which | int = "busy", *, phase: str | None = None) -> int:
        """SIGSTOP a worker; it is continued at the end at the latest. Return its pid.

        Raises:
            NoSuchWorker: None of the known workers is like that.
        """
        pid = self._chosen(which, phase)[-1]
        processes.stop(pid)
        return pid

    def cont(self, pid: int) -> None:
        """SIGCONT a worker that was stopped; one that has ended meanwhile needs none."""
        with contextlib.suppress(ProcessLookupError):
            processes.cont(pid)

    def await_strength(self, workers: int, phase: str, *, deadline: float = PATIENCE) -> int:
        """Wait until that many workers hold a task of `phase` at the same time; then let them go.

        Args:
            workers: How many; `hold` is submitted that many times.
            phase: What the history calls the calls.
            deadline: Seconds that it may take.

        Returns:
            How many different living workers held one at once, at best.
        """
        return len(self._hold_at_once(workers, phase, deadline))

    def _chosen(self, which: Which | int, phase: str | None) -> list[int]:
        if isinstance(which, int):
            return [which]
        living, busy = self.worker_pids(), self.busy_workers(phase)
        among = busy if phase is not None else living
        if which in ("busy", "idle"):
            found = busy if which == "busy" else self.idle_workers()
            found = found[:1]
        else:
            found = among if which == "all" else [self._chance.choice(among)] if among else []
        if not found:
            where = "" if phase is None else f" in a task of {phase!r}"
            raise NoSuchWorker(
                f"no {which} worker{where}: {len(living)} are known and live, {len(self.busy_workers())} of them busy"
            )
        return found

    def _strike_at_random(self) -> bool:
        """SIGKILL one of the living workers; False when there is none, or it ended by itself just now."""
        living = self.worker_pids()
        if not living:
            return False
        try:
            processes.kill(self._chance.choice(living))
        except ProcessLookupError:
            return False
        return True

    def _hold_at_once(self, workers: int, phase: str, deadline: float) -> list[int]:
        """Let workers hold a task of a phase at the same time; return the most that did, and let them go."""
        if self.host is None:
            return []
        Path(gate(self._gates, phase)).unlink(missing_ok=True)
        self.submit("hold", workers, phase)
        best: list[int] = []

        def all_hold() -> bool:
            holding = self.busy_workers(phase)
            if len(holding) > len(best):
                best[:] = holding
            return len(best) >= workers or all(call.answered for call in self._sight.phase(phase))

        self._until(all_hold, deadline)
        self._open_gate(phase)
        return best


def _await_standstill(pid: int, deadline: float) -> bool:
    """Wait until a process that lives sleeps and uses no more of the processor."""
    seen: list[tuple[str, int]] = []

    def stands_still() -> bool:
        seen.append(_effort(pid))
        last = seen[-_LOOKS:]
        return len(last) == _LOOKS and last[0][0] in "SD" and len(set(last)) == 1

    return wait_until(stands_still, deadline, pause=0.01) and start_time(pid) is not None


_LOOKS = 6
"""How often a process must be seen without a change, ten milliseconds apart."""


def _effort(pid: int) -> tuple[str, int]:
    """Return the state of a process and the clock ticks that it has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return "X", 0
    return fields[0].decode(), int(fields[11]) + int(fields[12])
