"""Several processes on one address: a supervisor that starts, replaces and ends them, and serves nothing itself.

Theory of operation.  The supervisor holds the listening sockets and never accepts from them; its workers, which it
starts afresh so that they run the code of the day, all accept from the same ones. So a connection is taken by a worker
that has time for it, a worker that leaves resets nobody, and as long as one of them lives nobody waits in vain. Told
to stop, the supervisor gives its sockets up at once: when the last worker has shut its door, nobody listens any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.patterns.server import _post, _signals
from pytest_prodpatterns.patterns.server._metrics import DIRECTORY, forget

log = logging.getLogger("pytest_prodpatterns.server")
TAKEN: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
REST: Final = 1.0
PAUSE: Final = 0.5
"""Seconds before a worker that died young is replaced."""
BOOT_FAILURES: Final = 3
"""Workers in a row that may die before they are ready."""
PATIENCE: Final = 1.0
"""Seconds behind its time after which a worker is ended, and that it has to write down its stacks."""
UNHEARD: Final = 2.0
"""Seconds that a worker has to react to a second signal."""


@dataclass(slots=True, eq=False)
class Worker:
    """One worker, seen by the supervisor."""

    pid: int
    channel: socket.socket
    replaces: Worker | None = None
    hearing: bool = False
    ready: bool = False
    deaf: bool = False  # its end of the channel is closed
    told: bool = False  # to stop
    end_at: float | None = None  # when it is ended, and at last killed
    ended: bool = False

    def tell(self, order: bytes) -> None:
        """Give an order; a worker that is gone needs none."""
        with contextlib.suppress(OSError):
            self.channel.send(order)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; it was not waited for yet, so that the pid is its own."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Supervisor:
    """The supervisor.

    Args:
        number: How many workers there are.
        source: Who emits events.
        budget: Seconds that a worker takes at most to stop.
        cleanup: Seconds that its cleanup takes at most.
        metrics: Whether they count together.
    """

    def __init__(self, number: int, *, source: str, budget: float, cleanup: float, metrics: bool) -> None:
        self._number = number
        self._source = source
        self._budget = budget
        self._cleanup = cleanup
        self._metrics = metrics
        self._directory: str | None = None
        self._listeners: list[socket.socket] = []
        self._workers: list[Worker] = []
        self._outdated: list[Worker] = []
        self._spawn_at = 0.0
        self._failures = 0
        self._stopping = False
        self._unclean = False

    def run(self, listeners: list[socket.socket]) -> int:
        """Supervise until a signal comes and every worker is gone; return the exit code.

        Args:
            listeners: What to accept from; bound, and closed in the end.
        """
        self._listeners = listeners
        if self._metrics and not os.environ.get(DIRECTORY):
            self._directory = tempfile.mkdtemp(prefix="prodpatterns-metrics-")
        try:
            with _signals.caught(TAKEN) as bell:
                while not (self._stopping and not self._workers):
                    for number in self._wait(bell):
                        self._take(number)
                    self._look()
        finally:
            self._close()
            for worker in self._workers:
                worker.channel.close()
            if self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)
        return int(self._unclean)

    # -- what happens ---------------------------------------------------------------------------------------------

    def _wait(self, bell: socket.socket) -> Iterable[signal.Signals]:
        """Wait until there is something to do, and return the signals that came."""
        poll = select.poll()
        poll.register(bell, select.POLLIN)
        for worker in self._workers:
            if not worker.deaf:
                poll.register(worker.channel, select.POLLIN)
        times = [each.end_at for each in self._workers if each.end_at is not None]
        if not self._stopping and len(self._workers) < self._number:
            times.append(self._spawn_at)
        rest = min([*(each - time.monotonic() for each in times), REST])
        poll.poll(max(0.0, rest) * 1000)
        with contextlib.suppress(BlockingIOError):
            return [signal.Signals(each) for each in bell.recv(64, socket.MSG_DONTWAIT) if each in TAKEN]
        return ()

    def _take(self, number: signal.Signals) -> None:
        if number == signal.SIGCHLD:
            return
        emit(self._source, "signalled", signal=number.name)
        if number == signal.SIGHUP:
            self._outdated = [each for each in self._workers if not each.told]
        elif self._stopping:
            self._unclean = True
            for worker in self._workers:
                worker.tell(_post.FORCE)
                self._hurry(worker, UNHEARD)
        else:
            self._stop_all(_post.LAME_DUCK if number == signal.SIGTERM else _post.STOP)

    def _look(self) -> None:
        """Do everything that is due."""
        for worker in [*self._workers]:
            self._listen_to(worker)
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._bury(worker, os.waitstatus_to_exitcode(status))
            elif worker.end_at is not None and time.monotonic() >= worker.end_at:
                self._end(worker)
        if not self._stopping:
            while sum(each.replaces is None for each in self._workers) < self._number and self._due():
                self._spawn()
            self._roll()

    def _due(self) -> bool:
        return time.monotonic() >= self._spawn_at

    def _listen_to(self, worker: Worker) -> None:
        try:
            words = worker.channel.recv(16)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        worker.deaf = worker.deaf or not words
        if _post.HEARING in words:
            worker.hearing = True
            if worker.told:
                worker.end_at = time.monotonic() + self._budget + PATIENCE
        if _post.FORCED in words:
            worker.end_at = time.monotonic() + self._cleanup + UNHEARD
        if _post.READY in words:
            worker.ready, self._failures = True, 0
            emit(self._source, "worker-ready", pid=worker.pid)
            old, worker.replaces = worker.replaces, None
            if old is not None and old in self._workers:
                self._stop(old, _post.RETIRE)

    # -- workers come and go --------------------------------------------------------------------------------------

    def _spawn(self, replaces: Worker | None = None) -> None:
        try:
            pid, channel = _post.start(self._listeners, self._directory)
        except OSError as error:
            log.error("a worker cannot be started: %s", error)  # noqa: TRY400 - the reason is in it
            self._failed(replaces)
            return
        self._workers.append(Worker(pid, channel, replaces))
        emit(self._source, "worker-started", pid=pid)

    def _bury(self, worker: Worker, code: int) -> None:
        self._workers.remove(worker)
        worker.channel.close()
        for each in self._workers:
            if each.replaces is worker:
                each.replaces = None
        emit(self._source, "worker-left", pid=worker.pid, exitcode=code)
        if self._directory is not None:
            forget(worker.pid, self._directory)
        if worker.told:
            self._unclean = self._unclean or (self._stopping and code != 0 and worker.hearing)
            return
        log.error("worker %d ended with %d and was not told to", worker.pid, code)
        if not worker.ready:
            self._failed(worker.replaces)

    def _failed(self, replaces: Worker | None) -> None:
        """Note that a worker did not get ready: one that replaces a good one is not missed."""
        if replaces is not None:
            log.error("the restart is given up, the workers that are there stay")
            self._outdated.clear()
            return
        self._spawn_at = time.monotonic() + PAUSE
        self._failures += 1
        if self._failures >= BOOT_FAILURES:
            log.error("%d workers in a row died before they were ready", self._failures)
            self._unclean = True
            self._stop_all(_post.STOP)

    def _roll(self) -> None:
        """Begin to replace the next outdated worker, when nothing else is under way."""
        under_way = any(not each.ready or each.told for each in self._workers)
        if not self._outdated or under_way or len(self._workers) != self._number:
            return
        old = self._outdated.pop(0)
        if old in self._workers:
            self._spawn(replaces=old)

    def _stop_all(self, order: bytes) -> None:
        self._stopping = True
        self._close()
        for worker in self._workers:
            self._stop(worker, order)

    def _stop(self, worker: Worker, order: bytes) -> None:
        worker.told = True
        worker.tell(order)
        if worker.hearing:
            self._hurry(worker, self._budget + PATIENCE)
        else:  # it still imports, and hears nothing but signals
            worker.signal(signal.SIGTERM)
            self._hurry(worker, PATIENCE)

    def _hurry(self, worker: Worker, seconds: float) -> None:
        end = time.monotonic() + seconds
        worker.end_at = end if worker.end_at is None else min(worker.end_at, end)

    def _end(self, worker: Worker) -> None:
        """Have a worker write its stacks to stderr, and kill it if that does not end it."""
        if not worker.ended:
            log.error("worker %d does not end, and is ended; what it was doing:", worker.pid)
        worker.signal(signal.SIGABRT if worker.hearing and not worker.ended else signal.SIGKILL)
        worker.ended = True
        worker.end_at = time.monotonic() + PATIENCE

    def _close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []
