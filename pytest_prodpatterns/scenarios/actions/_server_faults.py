"""What happens to a server: its start, signals, killed workers, missing descriptors, its end."""

from __future__ import annotations

import time
from typing import Literal

from pytest_prodpatterns.faults import processes
from pytest_prodpatterns.scenarios._run import NotApplicable, NotInjected
from pytest_prodpatterns.scenarios.actions._server_bench import (
    PAUSE,
    bench,
    helps,
    refuse_too_many,
)
from pytest_prodpatterns.scenarios.probes._server_history import life
from pytest_prodpatterns.targets._host_errors import HostFailed

MEGABYTE = 1_000_000
EFFECT = 0.5
"""Seconds that the first signal has to show that it alone ends the server."""


def start_server(readiness: bool = False, nofile: int | None = None) -> None:
    """Start the server, wait until it is ready, and watch its listener from then on, through the kernel alone.

    Args:
        readiness: Whether to ask again and again whether it is ready.
        nofile: How many files it may have open.

    Raises:
        NotInjected: It does not come up.
    """
    here = bench()
    here.start(nofile=nofile)
    here.driver.watch(listener=True, readiness=here.path("readiness") if readiness else None)


def signal_while_it_starts(moments: list[float], signal: str = "SIGTERM", within: float = 2.0) -> None:
    """Measure how long the server takes to start; then start it again and again, and send it a signal meanwhile.

    Args:
        moments: When the signals come, as parts of the time that the first start took.
        signal: The name of the signal.
        within: Seconds that the end may take.

    Raises:
        NotInjected: It does not come up, or ends before the signal.
    """
    here = bench()
    here.start()
    took = float(life().of_server("ready")[-1].attributes["took"])
    for part in moments:
        here.start(await_ready=False)
        time.sleep(took * part)  # the moment itself
        if not here.driver.alive:
            raise NotInjected(f"the server ended by itself at {part:.0%} of its start")
        here.tell("moment", part=part)
        here.driver.signal(signal)
        here.end(here.patience(within))


def send_signal(
    signal: str = "SIGTERM",
    target: Literal["leader", "group", "tree"] = "leader",
    after: float = 0.0,
    into_drain: float | None = None,
) -> None:
    """Send a signal to the server.

    Args:
        signal: The name of the signal.
        target: Who gets it: the `leader`, as an orchestrator does it, the `group`, as a terminal does, or the `tree`.
        after: Seconds to let pass before.
        into_drain: The same, counted from the end of the lame duck.

    Raises:
        NotInjected: The server has ended before.
    """
    here = bench()
    pause = after if into_drain is None else here.behind_lame_duck(into_drain)
    if here.driver.await_exit(pause) is not None or not here.driver.alive:
        raise NotInjected(f"the server had ended before {signal}: {_how()}")
    here.driver.signal(signal, target)


def be_quiet(seconds: float = 0.3) -> None:
    """Wait until the server has no connection, and leave it alone for a while.

    Args:
        seconds: For how long.
    """
    here = bench()
    here.await_connections(0, 2.0)
    here.driver.await_exit(seconds)  # that nothing happens takes its time


def kill_worker(within: float = 5.0) -> None:
    """SIGKILL a worker process, look whether somebody waits for it, and wait until another one is there.

    Args:
        within: Seconds that the new one may take.

    Raises:
        NotInjected: There is no worker.
    """
    here = bench()
    driver = here.driver
    before = set(driver.note_workers())
    workers = [pid for pid in before if not helps(pid)]
    if not workers:
        raise NotInjected("the server has no worker process")
    try:
        processes.kill(min(workers))
    except (ProcessLookupError, processes.NoEffect) as error:
        raise NotInjected(f"the worker {min(workers)} could not be killed: {error}") from error
    driver.note_zombies()
    until = time.monotonic() + within
    while time.monotonic() < until:
        now = set(here.pids()) - {driver.pid}
        if len(now) >= len(before) and now - before:
            break
        time.sleep(PAUSE)
    driver.note_workers()


def exhaust_descriptors(phase: str, extra: int = 5, connections: int = 40, seconds: float = 1.0) -> None:
    """Take the file descriptors away from the server: it may open a few more, and many clients come.

    The clients hang up after a while; then the limit is taken back.

    Args:
        phase: What the history calls the connections.
        extra: How many files it may open yet.
        connections: How many clients come.
        seconds: For how long.

    Raises:
        NotApplicable: Its processes are not ours to limit.
        NotInjected: It has taken all connections.
    """
    here = bench()
    refuse_too_many(connections)
    try:
        here.driver.limit_files(extra)
    except HostFailed as failed:
        if failed.error != "PermissionError":
            raise
        raise NotApplicable("its processes run as another user, whose limits cannot be set here") from None
    here.driver.send(here.request("quick", "silent", None, hang_up=float(seconds)), phase, connections)
    here.driver.await_answers(phase, seconds * 0.6)  # those that it throws out come to an end before
    taken = here.connections(accepted=True)
    if taken is None:
        here.tell("not-observed", what="descriptors", why="this machine does not tell who was accepted")
    elif taken >= connections:
        raise NotInjected(
            f"the server took all {connections} connections, and was to open {extra} files more"
        )
    here.driver.await_answers(phase, seconds + 5.0)
    here.driver.free_files()


def wait_for_exit(within: float = 2.0, drain: bool = False, survivors_within: float = 1.0) -> None:
    """Wait for the end of the server; one that does not come to an end is asked for its stacks and killed.

    Args:
        within: Seconds that it may take; the lame duck comes on top, and some more, so that it is seen how late it is.
        drain: Whether the time for its drain comes on top.
        survivors_within: Seconds that its other processes may live longer.
    """
    here = bench()
    here.end(here.patience(within, drain=drain), survivors_within)


def force_an_end(within: float = 2.0) -> None:
    """Send further signals to a server that does not end: once more the same, then SIGINT; then wait for its drain.

    Args:
        within: Seconds to wait for the effect of each.
    """
    here = bench()
    here.driver.await_exit(EFFECT)
    for signal in ("SIGTERM", "SIGINT"):
        if here.driver.alive:
            here.driver.signal(signal)
            here.driver.await_exit(within)
    here.end(here.patience(within, drain=True) if here.driver.alive else 0.0)


def look_at_address() -> None:
    """Try to listen where the server did."""
    here = bench()
    free, holders = here.address_is_free()
    here.tell("port", free=free, holders=holders)


def count_connections(at_most: int = 0, within: float = 0.0) -> None:
    """Count the connections of the server, by the kernel.

    Args:
        at_most: Wait until there are no more.
        within: Seconds to wait for that.
    """
    here = bench()
    found = here.await_connections(at_most, float(within))
    if found is None:
        here.tell("not-observed", what="connections", why="this machine does not tell them")
    else:
        here.tell("measured", what="connections", value=found, within=float(within))


def measure_output() -> None:
    """Measure how much the server has written."""
    here = bench()
    here.tell("measured", what="output", value=round(here.driver.output.stat().st_size / MEGABYTE, 3))


def _how() -> str:
    end = life().end()
    return str(end.attributes["how"]) if end is not None else "it is gone"
