"""What a pool leaves on a dask cluster: a plugin of the scheduler, and one of the nannies.

Dask runs the tasks of a dead worker again, by itself and without a word. A pool promises more: a task runs at
most once unless it was told otherwise, and whoever waits hears which process died, and how. So a task of a
pool asks the scheduler's plugin for leave before it begins. The plugin grants it once for each key, tells the
pool, and remembers on which worker. When that worker goes, the plugin tells the pool what died with it, with
the exit code, which only the nanny knows; and when dask runs the key again, the second one gets no leave.

Answers go the same way, ahead of dask's own word that the task has ended. So an answer that dask knows of is
never lost with the worker that gave it, and needs no second trip to be fetched.

Only the pool's own messages pass here. They are not kept: `Scheduler.log_event` would remember each.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from time import monotonic, time
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin

from pytest_prodpatterns.patterns.pool._dask_flights import Key
from pytest_prodpatterns.patterns.pool._dask_worker import ANSWER

NAME: Final = "prodpatterns-pools-1"
"""Under which the plugins are registered; the number is that of the protocol."""
EXIT_WAIT: Final = 2.0
"""Seconds that the news of a death waits for its exit code."""
LAST_WAIT: Final = 2.0
"""Seconds that a nanny waits for a killed process to be gone."""
STEP: Final = 0.01


class Seat(NamedTuple):
    """A worker, as the pools know it."""

    address: str
    pid: int
    threads: int
    nanny: str | None

    @property
    def can_be_ended(self) -> bool:
        """Whether it has a nanny that ends and replaces it, and one thread, so that nothing else ends with it."""
        return self.nanny is not None and self.threads == 1


class _Death(NamedTuple):
    seat: Seat
    lost: set[Key]
    timer: asyncio.TimerHandle


class PoolRegistry(SchedulerPlugin):
    """Grant leave to begin, once for each key; pass on what happens to the pools' tasks and workers."""

    name = NAME
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Answer to workers and pools from now on."""
        self._scheduler = scheduler
        self._clients: dict[str, str] = {}  # by pool
        self._begun: WeakSet[Any] = WeakSet()  # dask's tasks that got leave, until dask forgets them
        self._seats: dict[str, Seat] = {}  # from here on by the worker's address
        self._running: dict[str, set[Key]] = {}  # what got leave and did not answer yet
        self._condemned: dict[str, asyncio.Event] = {}  # who is being ended: nothing begins there meanwhile
        self._dying: dict[str, _Death] = {}  # whose exit code is not known yet
        self._exits: dict[str, int] = {}  # whose connection has not broken yet
        for address in scheduler.workers:
            self._seat(address)
        scheduler.handlers.update(
            prodpatterns_join=self.join,
            prodpatterns_leave=self.leave,
            prodpatterns_begin=self.begin,
            prodpatterns_end=self.end,
            prodpatterns_exited=self.exited,
        )
        scheduler.stream_handlers[ANSWER] = self.answer

    # -- for pools ------------------------------------------------------------------------------------------

    def join(self, pool: str, client: str) -> None:
        """Send a pool's news to its client from now on; the first tells the workers that are there."""
        self._clients[pool] = client
        self._tell(pool, kind="welcome", seats=[list(seat) for seat in self._seats.values()])

    def leave(self, pool: str) -> None:
        """Forget a pool."""
        self._clients.pop(pool, None)

    async def end(self, key: Key, worker: str, grace: float) -> bool:
        """Let its nanny end a worker's process, if it still runs that key; it begins nothing meanwhile.

        Returns:
            Whether the process is gone by that.
        """
        seat = self._seats.get(worker)
        if seat is None or not seat.can_be_ended or self._running.get(worker) != {key}:
            return False  # it has answered; where another has begun, the answer of the first is on its way
        self._condemned.setdefault(worker, asyncio.Event())
        gone = False
        try:
            gone = bool(await self._scheduler.rpc(seat.nanny).prodpatterns_end(pid=seat.pid, grace=grace))
        finally:
            if not gone:
                self._acquit(worker)
        return gone

    # -- for tasks ------------------------------------------------------------------------------------------

    async def begin(self, key: Key, worker: str) -> bool:
        """Return whether a task may begin: nobody has begun it, and somebody still wants it.

        Raises:
            LookupError: When the pool is unknown: the scheduler was restarted, or the pool's client is gone.
        """
        if worker in self._condemned:
            await self._condemned[worker].wait()
        pool = key[0]
        if pool not in self._clients:
            raise LookupError(f"the scheduler knows no pool {pool!r}")
        state = self._scheduler.tasks.get(key)
        if state is None or state in self._begun or worker not in self._seats:
            return False
        self._begun.add(state)
        self._running.setdefault(worker, set()).add(key)
        self._tell(pool, kind="begun", key=key, worker=worker)
        return True

    def answer(self, key: Key, worker: str, **answer: Any) -> None:
        """Pass an answer on."""
        self._running.get(worker, set()).discard(key)
        self._tell(key[0], kind="answered", key=key, worker=worker, **answer)

    # -- for nannies ----------------------------------------------------------------------------------------

    def exited(self, worker: str, exitcode: int) -> None:
        """Note how a worker's process ended."""
        if worker in self._seats:
            self._exits[worker] = exitcode
        else:
            self._report(worker, exitcode)

    # -- called by the scheduler ------------------------------------------------------------------------------

    def add_worker(self, scheduler: Any, worker: str) -> None:  # noqa: ARG002
        """Tell every pool of a new worker."""
        self._exits.pop(worker, None)
        seat = self._seat(worker)
        self._tell_all(kind="joined", seat=list(seat))

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:  # noqa: ARG002
        """Tell every pool that a worker is gone; how it ended follows, as soon as that is known."""
        seat = self._seats.pop(worker, None)
        if seat is None:
            return
        self._acquit(worker)
        self._tell_all(kind="left", worker=worker)
        self._report(worker, None)  # of one that had this address before
        exitcode = self._exits.pop(worker, None)
        wait = 0.0 if seat.nanny is None or exitcode is not None else EXIT_WAIT
        timer = asyncio.get_running_loop().call_later(wait, self._report, worker, exitcode)
        self._dying[worker] = _Death(seat, self._running.pop(worker, set()), timer)

    def remove_client(self, scheduler: Any, client: str) -> None:  # noqa: ARG002
        """Forget the pools of a client that is gone."""
        for pool in [pool for pool, owner in self._clients.items() if owner == client]:
            self.leave(pool)

    def _report(self, worker: str, exitcode: int | None) -> None:
        death = self._dying.pop(worker, None)
        if death is None:
            return
        death.timer.cancel()
        pid = death.seat.pid
        self._tell_all(kind="died", worker=worker, pid=pid, exitcode=exitcode)
        for key in death.lost:
            self._tell(key[0], kind="lost", key=key, pid=pid, exitcode=exitcode)

    def _acquit(self, worker: str) -> None:
        event = self._condemned.pop(worker, None)
        if event is not None:
            event.set()

    def _seat(self, address: str) -> Seat:
        state = self._scheduler.workers[address]
        seat = self._seats[address] = Seat(address, state.pid, state.nthreads, state.nanny)
        return seat

    def _tell_all(self, **news: Any) -> None:
        for pool in self._clients:
            self._tell(pool, **news)

    def _tell(self, pool: str, **news: Any) -> None:
        if pool in self._clients:
            message = {"op": "event", "topic": pool, "event": [time(), news]}
            self._scheduler.client_send(self._clients[pool], message)


class ExitWatch(NannyPlugin):
    """Tell the registry how workers end, and end those that a pool wants to end."""

    name = NAME
    idempotent = True

    def setup(self, nanny: Any) -> None:
        """Answer to the scheduler, and listen to the nanny."""
        reports: set[asyncio.Future[None]] = set()

        async def end(pid: int, grace: float) -> bool:
            return await _end(nanny, pid, grace)

        nanny.handlers["prodpatterns_end"] = end
        # There is no public hook for the end of a worker's process. Without this one, exit codes are unknown.
        heard = getattr(nanny, "_on_worker_exit_sync", None)
        if heard is None:
            return

        def hear(exitcode: int) -> None:
            report = asyncio.ensure_future(_report(nanny, nanny.worker_address, exitcode))
            reports.add(report)
            report.add_done_callback(reports.discard)
            heard(exitcode)

        nanny._on_worker_exit_sync = hear  # noqa: SLF001 - for a worker to come
        if nanny.process is not None:
            nanny.process.on_exit = hear


async def _report(nanny: Any, worker: str, exitcode: int) -> None:
    with suppress(Exception):  # the scheduler is gone as well
        await nanny.scheduler.prodpatterns_exited(worker=worker, exitcode=exitcode)


async def _end(nanny: Any, pid: int, grace: float) -> bool:
    """End a nanny's worker as a local pool does: SIGTERM, grace, SIGKILL; return whether it is gone."""
    for signum, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, LAST_WAIT)):
        end = monotonic() + seconds
        if nanny.pid == pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)
        while nanny.pid == pid and monotonic() < end:  # noqa: ASYNC110 - the nanny has no event for it
            await asyncio.sleep(STEP)
    return bool(nanny.pid != pid)
