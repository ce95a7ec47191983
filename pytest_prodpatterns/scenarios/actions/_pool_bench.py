"""The bench on which a worker pool is attacked: its driver, and the faults that its tasks bring along.

Theory of operation.  A task that leaves by `os._exit` is a fault that waits inside a task: it is armed when the
task is submitted, and it has fired when the task entered a worker.  The bench looks at the workers' own events
for that, so that a task which never ran is no fault that was survived.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.scenarios._run import NotInjected, current_run
from pytest_prodpatterns.targets.pool import _driver

if TYPE_CHECKING:
    from pytest_prodpatterns.lab import InjectedFault
    from pytest_prodpatterns.scenarios._run import Run
    from pytest_prodpatterns.scenarios.probes._pool_history import Phases
    from pytest_prodpatterns.targets.pool import PoolTarget
    from pytest_prodpatterns.targets.pool._protocol import PoolSettings

FAULTS: Final = {
    "exit_now": "leaves its worker by os._exit",
    "segfault": "crashes its worker",
    "sys_exit": "raises SystemExit",
    "keyboard_interrupt": "raises KeyboardInterrupt",
    "takes_unpicklable": "has an argument that cannot be pickled",
    "returns_unpicklable": "returns what cannot be pickled",
    "raises_unpicklable": "raises an error that cannot be pickled",
    "raises_two_arguments": "raises an error that pickles and does not unpickle",
    "ignore_sigterm_and_spin": "ignores SIGTERM and does not end",
    "ignore_sigterm_and_hold": "ignores SIGTERM and does not end",
}
"""Task -> what is wrong with it."""

IN_THE_CALLER: Final = frozenset({"takes_unpicklable"})
"""Tasks whose fault takes effect before they reach a worker."""

IMPATIENCE: Final = 1.5
"""Seconds to wait for answers when there is a caller already that hangs."""

MOST_HOLDS: Final = 24
"""Tasks that are given to a pool at most until all its workers have one."""


class PoolBench:
    """The driver of a run, and what was armed.

    Attributes:
        driver: What drives the pool.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._armed: dict[str, InjectedFault] = {}
        self._fired: set[tuple[str, int]] = set()
        self._hung = False
        self.driver = _driver.PoolDriver(cast("PoolTarget", run.target), run.lab)
        run.stack.callback(self.driver.close)

    def start(self, settings: PoolSettings, within: float) -> None:
        """Make the pool.

        Raises:
            NotInjected: It could not be made, although nothing was wrong with its settings.
        """
        fails = settings.initializer == "fails"
        if fails:
            self._arm("initializer", "raises RuntimeError")
        if not self.driver.start(settings, deadline=within) and not fails:
            refused = self._run.lab.timeline.where("target", "refused")[-1].attributes
            raise NotInjected(f"the pool could not be made: {refused['error']}: {refused['text']}")

    def submit(self, task: str, times: int, phase: str, *arguments: object, **how: float) -> list[int]:
        """Submit a task; what is wrong with it is armed as a fault."""
        if task in FAULTS:
            self._arm(task, FAULTS[task])
        calls = self.driver.submit(task, times, phase, *arguments, **how)  # type: ignore[arg-type]
        if task in IN_THE_CALLER:
            for call in calls:
                self._fire(task, call)
        return calls

    def wait(self, phase: Phases, within: float | None = None) -> bool:
        """Wait until every caller of the phases is answered, or sees no sign of life; return whether all are."""
        self.driver.await_calm(phase, self.patience(within))
        answered = self.driver.await_returned(phase, deadline=0.0)
        self._hung |= not answered
        self.notice()
        return answered

    def use_all(self, phase: str, workers: int, within: float | None) -> None:
        """Hold as many workers as that at the same time, let them go, and wait for the answers.

        Some pools line up several tasks behind one worker while another is idle, so more tasks come as long as
        not all workers have one.
        """
        self.submit("hold", workers, phase)
        timeline, until = self._run.lab.timeline, time.monotonic() + self.patience(within)
        made = workers
        while len(self.driver.busy_workers(phase)) < workers and time.monotonic() < until:
            if len(timeline.where("caller", "returned", phase=phase)) == made:
                break  # refused, or broken: nobody will come
            if made < MOST_HOLDS and self.driver.accepted(phase) == made:
                made += len(self.submit("hold", 1, phase, patience=0.1))
            time.sleep(0.05)
        self.driver.release(phase)
        self.wait(phase, within)

    def shut_down(self, *, cancel: bool, deadline: float | None, within: float | None) -> None:
        """Shut the pool down; a shutdown that hangs is a caller that hangs."""
        self._hung |= (
            self.driver.shutdown(cancel=cancel, deadline=deadline, patience=self.patience(within)) == "hung"
        )

    def patience(self, seconds: float | None) -> float:
        """Return how long to wait for an answer: what a file says, else the patience of the driver.

        Once a caller hangs, the promises are broken, and what comes next is told for the reader alone.
        """
        wanted = _driver.PATIENCE if seconds is None else float(seconds)
        return min(wanted, IMPATIENCE) if self._hung else wanted

    def notice(self) -> None:
        """Record which of the faults that were armed have taken effect in a worker."""
        for task in self._armed:
            for event in self._run.lab.timeline.where(f"dependency:{task}", "entered"):
                self._fire(task, int(event.attributes.get("call", event.process)))

    def tell(self, kind: str, **attributes: object) -> None:
        """Tell the timeline about the pool as a whole."""
        emit(f"target:{self._run.target.name}", kind, **attributes)

    def await_deaths(self, phase: str | None, within: float | None) -> None:
        """Wait until the workers have ended, or those that are in a task of a phase, and tell which live."""
        seconds, driver = self.patience(within), self.driver
        deadline = time.monotonic() + seconds
        while pids := driver.worker_pids() if phase is None else driver.busy_workers(phase):
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        entered = self._run.lab.timeline.where("dependency", "entered")
        known = {event.process for event in entered if phase in {None, event.attributes.get("phase")}}
        self.tell("processes", phase=phase, pids=pids, known=len(known), within=seconds)

    def _arm(self, name: str, description: str) -> None:
        if name not in self._armed:
            self._armed[name] = self._run.lab.inject(name, description)

    def _fire(self, name: str, call: int) -> None:
        if (name, call) not in self._fired:
            self._fired.add((name, call))
            self._armed[name].fire(call=call)


def bench() -> PoolBench:
    """Return the bench of the current run, set up when it is first asked for."""
    run = current_run()
    if "bench" not in run.state:
        run.state["bench"] = PoolBench(run)
    return cast("PoolBench", run.state["bench"])
