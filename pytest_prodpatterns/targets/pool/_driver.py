"""Drives a worker pool that lives in a host process: submits, watches, kills, and never hangs itself.

Theory of operation.  The pool is in a *host process* (`targets._host`) that acts as the caller of the pool:
each submit is made in a thread there, so that one that blocks blocks nobody else.  The driver is the engine's
side.  It asks the host to act, and learns what came of it from the timeline alone: the host and the workers write
their events into the lab's spool.  Every wait has a deadline and returns what it saw; none raises because a pool
is slow.  Signals go through `faults.processes`, to processes that the driver knows from their own events.

**The events** (all of plain data).  `call` is the number of a call, from 1, unique in a run; `phase` the name that
the scenario gave to a group of calls.  NAME is the name of the task function, for example `work`.

Told by the host, which is the caller:

    caller:NAME  called    call, phase                       before the submit
    caller:NAME  accepted  call, phase, took                 the submit returned after `took` seconds
    caller:NAME  returned  call, phase, outcome, where, took, and, for a value: value; for an error: error, text, ...
        outcome  ok         the value is what the task gave (`value`: small values as they are, others as
                            "20000000 bytes")
                 wrong      a value came that this task did not give (`value`)
                 raised     an error came
                 rejected   submit raised because the queue is full (`where` is "submit")
                 cancelled  the future was cancelled
        where    "submit" when submit itself raised, else "result"
        took     seconds since the call was made
        error    name of the error's type;  bases: names of its base classes up to BaseException, nearest first
        text     str() of it, 500 characters;  args: repr() of its arguments, 200 characters each
        traceback  the remote traceback, its last 2000 characters, "" where none came with it (`__cause__`)
        and those of its attributes that are there and plain: pid, exitcode, signal, attempt, task, task_id, timeout,
        capacity, history (its length)

In a storm, a submit that raises is told as `refused` (call, phase, error, ...): the caller makes a new pool, or
waits for a place, and calls again.  A submit on an event loop (`loop_lag`) is not told as `accepted`.

Told by the driver:

    caller:NAME  hung      call, phase, waited               no answer by the deadline of `await_returned`
    target:POOL  made      settings                          POOL is the name of the target
    target:POOL  refused   error, text                       making the pool raised
    target:POOL  rebuilt   why, text                         (storm) the caller made a new pool in place of a broken one
    target:POOL  shutdown  outcome, took, deadline           outcome: ok, raised (error, text) or hung (evidence)
    target:POOL  lag       phase, worst, mean, ticks         what `loop_lag` measured, in seconds
    target:POOL  storm     made, pools, killed, took         (storm) calls made, pools made, workers killed
    target:POOL  host-died how, stderr                       the host ended: "SIGKILL", "exit code 0"
    target:POOL  orphans   pids, commands, within            processes of the pool alive `within` seconds after that

Told by the tasks, in the workers (`process` of the event is the worker's pid, and so is `pid`):

    dependency:NAME  entered  call, phase, pid               each execution: two of these for a call: it ran twice
    dependency:NAME  left     call, phase, pid               it ended by itself, with a value or an error
    dependency:initializer entered  pid                      each start of a worker, with an initializer

Told by the fault injectors: `fault:…` `armed`, `fired` (pid, signal).

The tasks are the functions of `_tasks`; `submit("hold")` waits in the worker until `release(phase)`.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.faults import processes
from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.targets._family import Member, wait_until
from pytest_prodpatterns.targets._host import Host, HostDied, HostFailed, HostHung
from pytest_prodpatterns.targets.pool._crew import NoSuchWorker, Which
from pytest_prodpatterns.targets.pool._desk import PATIENCE
from pytest_prodpatterns.targets.pool._target import SERVICE
from pytest_prodpatterns.targets.pool._weather import Weather

if TYPE_CHECKING:
    from pytest_prodpatterns.targets.pool._protocol import PoolSettings

_COMMAND = 120
"""How much of a command line is told."""


class PoolDriver(Weather):
    """One run of a scenario against one pool.

    Args:
        target: The pool.
        lab: The lab of the run; it must be entered.

    Attributes:
        made: Whether a pool was made (an initializer that fails may make that impossible).
        host: The process that owns the pool; None before `start`.
    """

    # -- the pool ------------------------------------------------------------------------------------------

    def start(self, settings: PoolSettings, *, deadline: float = 20.0) -> bool:
        """Start a host process, make a pool in it, and return whether that worked (else: event `refused`).

        Args:
            settings: How the pool is wanted.
            deadline: Seconds that it may take.

        Raises:
            HostHung: Making the pool took longer than the deadline.
            HostDied: The host process ended.
        """
        self.close()
        self.host = host = Host(SERVICE)
        gates = host.directory / "gates"
        gates.mkdir()
        self._gates = str(gates)
        self._sight.know = host.know
        plain = settings.as_dict()
        try:
            host.call("make", within=deadline, target=self._target.load, settings=plain, gates=self._gates)
        except HostFailed as failed:
            emit(self._source, "refused", error=failed.error, text=failed.text[:500])
            self.made = False
        else:
            host.descendants()  # remembered, and told to the reaper
            emit(self._source, "made", settings=plain)
            self.made = True
        return self.made

    def warm_up(self, workers: int, *, deadline: float = 15.0) -> list[int]:
        """Let as many workers as that each hold a task at the same time, so that all are known.

        The phase of these calls is `warm-up`, then `warm-up 2`, and so on.

        Args:
            workers: How many.
            deadline: Seconds that it may take.

        Returns:
            Their pids; fewer than asked for when the deadline came first.
        """
        self._warm_ups += 1
        phase = "warm-up" if self._warm_ups == 1 else f"warm-up {self._warm_ups}"
        held = self._hold_at_once(workers, phase, deadline)
        self.await_returned(phase, deadline=deadline)
        return held

    # -- the end -------------------------------------------------------------------------------------------

    def shutdown(
        self,
        *,
        wait: bool = True,
        cancel: bool = False,
        deadline: float | None = None,
        patience: float = PATIENCE,
    ) -> str:
        """Shut the pool down; event `shutdown`.

        Args:
            wait: Whether to wait for it.
            cancel: Whether to drop what has not begun.
            deadline: Seconds that the library gets, where it takes a deadline or can use force.
            patience: Seconds after which it counts as hung.

        Returns:
            `ok`, `raised` or `hung`.
        """
        host = self._living_host()
        began = time.monotonic()
        told: dict[str, Any] = {"outcome": "ok"}
        if host is None:
            told = {
                "outcome": "raised",
                "error": "HostDied",
                "text": "the process that owned the pool has ended",
            }
        else:
            try:
                host.call("shutdown", within=patience, wait=wait, cancel=cancel, deadline=deadline)
            except HostHung as hung:
                told = {"outcome": "hung", "where": hung.where, "stacks": hung.stacks[-4000:]}
            except HostFailed as failed:
                told = {"outcome": "raised", "error": failed.error, "text": failed.text[:500]}
            except HostDied as died:
                told = {"outcome": "raised", "error": "HostDied", "text": str(died)[:500]}
        emit(self._source, "shutdown", took=round(time.monotonic() - began, 3), deadline=deadline, **told)
        self._note_death()
        return str(told["outcome"])

    def signal_host(self, signal: str, *, deadline: float = PATIENCE) -> str | None:
        """Send a signal to the process that owns the pool, and wait until it ended (event `host-died`).

        Args:
            signal: The name of the signal.
            deadline: Seconds to wait.

        Returns:
            How it ended (`SIGTERM`, `exit code 0`), or None when it still lives.
        """
        host = self._living_host()
        if host is not None:
            host.descendants()  # remembered, for when nobody is their parent any more
            with contextlib.suppress(ProcessLookupError, processes.NoEffect):
                if signal == "SIGKILL":
                    processes.kill(host.pid)
                else:
                    processes.send_signal(host.pid, signal)
            host.await_end(deadline)
            self._note_death()
        return None if self.host is None else self.host.how

    def kill_host(self) -> None:
        """SIGKILL the process that owns the pool (event `host-died`)."""
        self.signal_host("SIGKILL")

    def orphans(self, within: float = 0.5) -> list[int]:
        """Wait until no process of the dead host lives, at most `within` seconds; return those that do.

        Event `orphans`; helpers of multiprocessing (fork server, resource tracker) count as well.
        """
        host = self.host
        if host is None:
            return []
        left: list[Member] = []

        def nobody() -> bool:
            left[:] = host.descendants()
            return not left

        wait_until(nobody, within, pause=0.01)
        commands = [member.command[:_COMMAND] for member in left]
        pids = [member.pid for member in left]
        emit(self._source, "orphans", pids=pids, commands=commands, within=within)
        return pids

    def close(self) -> None:
        """Let all tasks go, end the host and everything it ever started; never raises for a hang.

        Raises:
            RuntimeError: Something could not be ended.
        """
        host, self.host, self.made = self.host, None, False
        if host is None:
            return
        for phase in {call.phase for call in self._sight.calls.values()}:
            self._open_gate(phase)
        rest = host.close()
        if rest:
            commands = ", ".join(f"{member.pid} ({member.command[:_COMMAND]})" for member in rest)
            raise RuntimeError(f"processes of the pool that could not be ended: {commands}")


__all__ = ["PATIENCE", "NoSuchWorker", "PoolDriver", "Which"]
