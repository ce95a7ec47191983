"""What scenarios do to a worker pool.

The pool lives in a host process of its own, which is also the caller; time is real.  A *phase* names a group of
calls; the promises speak of phases.  Waits have generous deadlines and end as soon as their evidence is there.
The tasks are those of `targets.pool._tasks`.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from pytest_prodpatterns.scenarios._run import NotInjected, current_run
from pytest_prodpatterns.scenarios.actions._pool_bench import bench
from pytest_prodpatterns.scenarios.probes._pool_history import Phases
from pytest_prodpatterns.targets.pool._driver import NoSuchWorker
from pytest_prodpatterns.targets.pool._protocol import PoolSettings

CALM = 20.0
"""Seconds without an answer that count as a hang, when a storm is over: some pools need long to recover."""


def make_pool(  # noqa: PLR0917 - a file names its arguments, never counts them
    workers: int = 2,
    queue_size: int | None = None,
    when_full: Literal["block", "reject"] = "block",
    queue_timeout: float | None = None,
    task_timeout: float | None = None,
    retries: int = 0,
    initializer: Literal["notes", "fails", "slow"] | None = None,
    drain_on_sigterm: float | None = None,
    within: float = 30.0,
) -> None:
    """Make a new pool in a host process of its own; calls go to it from now on.

    A library uses those of the settings that it knows; `requires` names the ones without which the scenario
    means nothing.

    Args:
        workers: How many worker processes.
        queue_size: How many accepted tasks may wait beside the running ones.
        when_full: What a submit does that finds the queue full: `block` or `reject`.
        queue_timeout: Seconds that a blocking submit waits for a place.
        task_timeout: Seconds after which a running task is ended.
        retries: How often the task of a worker that died may run again.
        initializer: `notes`, `fails` or `slow`.
        drain_on_sigterm: Seconds that the parent may drain when it gets SIGTERM.
        within: Seconds that making it may take.
    """
    settings = PoolSettings(
        workers=workers,
        queue_size=queue_size,
        when_full=when_full,
        queue_timeout=queue_timeout,
        task_timeout=task_timeout,
        retries=retries,
        initializer=initializer,
        drain_on_sigterm=drain_on_sigterm,
    )
    bench().start(settings, within)


def submit(  # noqa: PLR0917
    task: str,
    phase: str,
    times: int = 1,
    arguments: list[Any] | None = None,
    callers: int = 1,
    patience: float = 10.0,
) -> None:
    """Submit a task, and wait until each submit returned or raised, or until patience ends.

    Args:
        task: The name of a function of `targets.pool._tasks`.
        phase: What the history calls the calls.
        times: How many calls, by each caller.
        arguments: What the task gets.
        callers: How many threads call at the same time.
        patience: Seconds to wait for submits that block; those behind them wait as well.
    """
    if not _unmade():
        bench().submit(task, times, phase, *(arguments or ()), callers=callers, patience=float(patience))


def hold_workers(phase: str, workers: int = 2, within: float = 20.0) -> None:
    """Let each of so many workers hold a task at the same time, until `let_go`.

    Args:
        phase: What the history calls the calls.
        workers: How many.
        within: Seconds that it may take.

    Raises:
        NotInjected: Fewer workers took one.
    """
    bench().submit("hold", workers, phase, patience=within)
    wait_until_inside(phase, workers, within)


def wait_until_inside(phase: str, count: int = 1, within: float = 20.0) -> None:
    """Wait until calls of a phase have entered a worker.

    Args:
        phase: The phase.
        count: How many calls.
        within: Seconds that it may take.

    Raises:
        NotInjected: Fewer did.
    """
    entered = bench().driver.await_entered(phase, count, deadline=float(within))
    bench().notice()
    if entered < count:
        raise NotInjected(f"{entered} of {count} tasks came into a worker {phase}, in {within:g} s")


def wait_until_left(phase: str, count: int = 1, within: float = 20.0) -> None:
    """Wait until calls of a phase have left their worker.

    Args:
        phase: The phase.
        count: How many calls.
        within: Seconds that it may take.

    Raises:
        NotInjected: Fewer did.
    """
    left = bench().driver.await_left(phase, count, deadline=float(within))
    if left < count:
        raise NotInjected(f"{left} of {count} tasks left their worker {phase}, in {within:g} s")


def wait_for_answers(phase: Phases, within: float | None = None) -> None:
    """Wait until every caller of the phases has an answer; who has none by then, hangs.

    Args:
        phase: The phases.
        within: Seconds without an answer that count as a hang; by default the patience of the driver.
    """
    if not _unmade():
        bench().wait(phase, within)


def let_go(phase: str) -> None:
    """Let the tasks of a phase that hold go on, and those that enter later too.

    Args:
        phase: The phase.
    """
    bench().driver.release(phase)


def warm_up(phase: str, workers: int = 2, within: float = 20.0) -> None:
    """Let each of so many workers do something, so that they are there and known.

    Args:
        phase: What the history calls the calls.
        workers: How many.
        within: Seconds that it may take.

    Raises:
        NotInjected: Fewer workers came, or somebody was not answered.
    """
    held = bench().driver.await_strength(workers, phase, deadline=float(within))
    if held < workers or not bench().wait(phase, within):
        raise NotInjected(f"{held} of {workers} workers could be put to work {phase}, in {within:g} s")


def use_all_workers(phase: str, workers: int = 2, within: float | None = None) -> None:
    """Wait until so many workers are in a task at the same time, let them go, and wait for the answers.

    Nothing is asked of the pool here: the promise `inside_at_once` judges how many came.

    Args:
        phase: What the history calls the calls.
        workers: How many.
        within: Seconds without an answer that count as a hang; by default the patience of the driver.
    """
    if not _unmade():
        bench().use_all(phase, workers, within)


def kill(
    which: Literal["busy", "idle", "random", "all"] = "busy",
    phase: str | None = None,
    signal: str = "SIGKILL",
) -> None:
    """Send a signal to a worker, and wait until it took effect.

    Args:
        which: `busy` (one that is in a task), `idle`, `random` (by the seed), or `all`.
        phase: Only workers in a task of that phase.
        signal: The name of the signal.

    Raises:
        NotInjected: No worker is like that.
    """
    try:
        bench().driver.kill(which, phase=phase, signal=signal)
    except NoSuchWorker as error:
        raise NotInjected(str(error)) from error


def kill_idle_workers() -> None:
    """SIGKILL all workers that are known and in no task.

    Raises:
        NotInjected: There is none.
    """
    here = bench()
    try:
        for pid in here.driver.idle_workers():
            here.driver.kill(pid)
    except NoSuchWorker as error:
        raise NotInjected(str(error)) from error


def kill_idle_again_and_again(
    phase: str, rounds: int = 4, times: int = 10, within: float | None = None
) -> None:
    """Kill an idle worker and submit work at once; and again, when the work is answered.

    A pool that broke stays broken, so the first round without a live idle worker is the last.

    Args:
        phase: What the history calls the calls.
        rounds: How often.
        times: How many calls after each kill.
        within: Seconds without an answer that count as a hang; by default the patience of the driver.
    """
    here = bench()
    for number in range(rounds):
        try:
            here.driver.kill("idle")
        except NoSuchWorker as error:
            if not number:
                raise NotInjected(str(error)) from error
            return
        here.submit("work", times, phase, patience=here.patience(within))
        if not here.wait(phase, within):
            return
        use_all_workers(f"between the kills {number + 1}", within=within)


def kill_while_writing(phase: str, size: int = 20_000_000, within: float = 20.0) -> None:
    """SIGKILL a worker that is in the middle of sending a large result.

    Args:
        phase: What the history calls the call.
        size: Bytes of the result.
        within: Seconds that it may take to catch a worker in the act.

    Raises:
        NotInjected: None could be caught.
    """
    if bench().driver.kill_while_writing(phase, size, deadline=float(within)) is None:
        raise NotInjected(f"no worker could be caught while it wrote its result, in {within:g} s")


def freeze(phase: str) -> None:
    """SIGSTOP the worker that is in a task of a phase; `thaw` continues it, the end of the run at the latest.

    Args:
        phase: The phase.

    Raises:
        NotInjected: No worker is in such a task.
    """
    try:
        current_run().state["frozen"] = bench().driver.stop("busy", phase=phase)
    except NoSuchWorker as error:
        raise NotInjected(str(error)) from error


def thaw() -> None:
    """Continue the worker that was frozen last."""
    bench().driver.cont(current_run().state["frozen"])


def storm(  # noqa: PLR0917
    phase: str,
    tasks: int = 2000,
    kills: int = 200,
    every: int = 10,
    milliseconds: float = 3.0,
    window: int = 64,
    within: float = 40.0,
) -> None:
    """Kill a random worker again and again, while callers keep the pool busy.

    Args:
        phase: What the history calls the calls.
        tasks: How many calls.
        kills: How many workers are killed at most.
        every: After how many answers the next one is killed.
        milliseconds: How long each task takes.
        window: How many calls are under way at once.
        within: Seconds after which the storm ends, wherever it stands.

    Raises:
        NotInjected: No worker could be killed.
    """
    here = bench()
    killed = here.driver.storm(
        tasks,
        phase,
        milliseconds=milliseconds,
        window=window,
        kills=kills,
        every=every,
        deadline=float(within),
        calm=here.patience(CALM),
    )
    if not killed:
        raise NotInjected("no worker could be killed")


def watch_event_loop(phase: str, times: int = 20, seconds: float = 1.5) -> None:
    """Submit `work` on a running event loop, and measure for how long the loop stands still.

    Args:
        phase: What the history calls the calls.
        times: How many calls.
        seconds: For how long.
    """
    bench().driver.loop_lag("work", times, phase, seconds=float(seconds))


def watch_starts(seconds: float = 1.0) -> None:
    """Watch for so long whether workers are started again and again.

    Args:
        seconds: For how long.
    """
    time.sleep(seconds)  # that nothing happens takes its time
    bench().notice()


def shut_down(
    deadline: float | None = None,
    cancel: bool = False,
    within: float | None = None,
    where_it_can: bool = False,
) -> None:
    """Shut the pool down.

    Args:
        deadline: Seconds that the pool gets; after that it may use force, where it has such an option.
        cancel: Whether to drop what has not begun.
        within: Seconds after which it counts as hung.
        where_it_can: Do it only where the library can end by force; `requires` is too strong where the rest of
            the scenario applies to all.
    """
    here = bench()
    if where_it_can and (reason := current_run().target.missing("shutdown-deadline")) is not None:
        here.tell("spared", what="shutdown", why=reason)
        return
    here.shut_down(cancel=cancel, deadline=deadline, within=within)


def look_for_processes(phase: str | None = None, within: float | None = None) -> None:
    """Wait until the workers have ended, and note which live.

    Args:
        phase: Only the workers that are in a task of this phase; None for all that are known.
        within: Seconds that they get; by default the patience of the driver.
    """
    if not current_run().lab.timeline.where("target", "spared"):  # without a shutdown nobody has to end
        bench().await_deaths(phase, within)


def kill_parent(within: float | None = None) -> None:
    """SIGKILL the process that owns the pool, and note which processes of the pool outlive it.

    Args:
        within: Seconds that they get; by default the patience of the driver.
    """
    fault = current_run().lab.inject("parent", "is killed by SIGKILL")
    bench().driver.kill_host()
    fault.fire(signal="SIGKILL")
    bench().driver.orphans(bench().patience(within))


def terminate_parent(within: float = 15.0, orphans_within: float | None = None) -> None:
    """Send SIGTERM to the process that owns the pool, wait until it ended, and note which processes outlive it.

    Args:
        within: Seconds that the parent gets.
        orphans_within: Seconds that its children get after that; by default the patience of the driver.
    """
    fault = current_run().lab.inject("parent", "gets SIGTERM")
    how = bench().driver.signal_host("SIGTERM", deadline=float(within))
    fault.fire(signal="SIGTERM")
    if how is not None:
        bench().driver.orphans(bench().patience(orphans_within))


def _unmade() -> bool:
    """A pool that could not be made is not called: that it refused is what its caller gets."""
    return not bench().driver.made
