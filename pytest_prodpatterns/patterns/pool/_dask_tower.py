"""What a pool over dask does on the client's loop: it hears the news, and decides what becomes of the tasks.

The news arrives in the order in which it happened, for one stream brings all of it: a worker joined, began a
task, answered it, left, died with exit code 3, and this was lost with it. Of dask's own futures only two things
are taken: that dask gave a key up, and that the cluster is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed.scheduler import KilledWorker

from pytest_prodpatterns.patterns.pool import _wire
from pytest_prodpatterns.patterns.pool._answers import run_quietly, settle_answer
from pytest_prodpatterns.patterns.pool._dask_cluster import Seat
from pytest_prodpatterns.patterns.pool._dask_link import ClusterLink
from pytest_prodpatterns.patterns.pool._errors import PoolBroken, PoolClosed, PoolError
from pytest_prodpatterns.patterns.pool._state import TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_prodpatterns.patterns.pool._books import State
    from pytest_prodpatterns.patterns.pool._dask_books import Books
    from pytest_prodpatterns.patterns.pool._dask_flights import Flight, Key
    from pytest_prodpatterns.patterns.pool._gate import Gate
    from pytest_prodpatterns.patterns.pool._settings import Settings


class Tower:
    """Sees a pool's tasks off, and hears what becomes of them.

    Args:
        client: A connected client.
        pool: What the cluster calls the pool; unique.
        settings: The pool's settings.
        gate: Its places.
        books: Its books.
        ended: Called at the end, once.
    """

    def __init__(
        self,
        client: Any,
        pool: str,
        settings: Settings,
        *,
        gate: Gate,
        books: Books,
        ended: Callable[[], object],
    ) -> None:
        self.link = ClusterLink(client, pool, settings.places, self._hear)
        self._settings = settings
        self._gate = gate
        self._books = books
        self._tell_end = ended
        self._leaving = False

    # -- called by any thread -----------------------------------------------------------------------------------

    def send(self, flight: Flight) -> None:
        """Hand a task to dask, under the key that it goes by at present."""
        key = flight.key
        try:
            future = self.link.submit(key, flight.task.message)
        except Exception as error:  # noqa: BLE001 - the client was closed, above all
            self._refused(flight, error)
            return
        with self._books.lock:
            wanted = self._books.find(key) is flight
            if wanted:
                flight.future = future
        if wanted:
            self.link.post(self._follow, flight, key, future)
        else:
            future.release()

    def let_go(self, ended: Iterable[Flight]) -> None:
        """Let dask forget tasks that have ended here, and end the workers that still run one."""
        for flight in ended:
            if flight.future is not None:
                flight.future.release()
            self.link.post(self._land, flight)
        self.link.post(self.leave_if_done)

    def settle(self, doomed: Iterable[tuple[Flight, BaseException]]) -> None:
        """Fail the futures of tasks whose end is in the books."""
        pairs = [*doomed]
        self.let_go(flight for flight, _ in pairs)
        self._gate.give(len(pairs))
        for flight, error in pairs:
            run_quietly(flight.task.future.settle_error, error)

    def break_down(self, reason: str, *causes: BaseException) -> None:
        """Give up: there is no cluster any more."""
        books = self._books
        with books.lock:
            if books.state in {"new", "ended"}:
                return
            books.broken = broken = PoolBroken(name=self._settings.name, causes=causes, reason=reason)
            books.state = "ended"
            doomed = books.fail_all()
            books.emit("broken", reason=reason)
        self._gate.close(self.refusal)
        self.settle((flight, broken) for flight in doomed)
        self._end()

    def refusal(self) -> PoolError:
        """Return why no task is taken."""
        return self._books.broken or PoolClosed(name=self._settings.name)

    async def leave_if_done(self) -> None:
        """Leave the cluster, if the pool is closed and its last task has ended."""
        books = self._books
        with books.lock:
            if self._leaving or books.flights or books.state not in {"draining", "killing"}:
                return
            self._leaving = True
        await self.link.leave()
        if self._to("ended"):
            self._end()

    def _to(self, state: State) -> bool:
        """Change the state; return whether it was another."""
        with self._books.lock:
            before, self._books.state = self._books.state, state
        return before != state

    def _end(self) -> None:
        self._books.emit("closed")
        self._tell_end()

    def _refused(self, flight: Flight, error: Exception) -> None:
        if not self.link.connected:
            self.break_down("its client was closed", error)
            return
        with self._books.lock:
            wanted = self._books.find(flight.key) is flight
            if wanted:
                self._books.fail(flight, reason=repr(error))
        if wanted:
            self.settle([(flight, _could_not_run(flight, error))])

    # -- dask's futures, on the client's loop -------------------------------------------------------------------

    async def _follow(self, flight: Flight, key: Key, future: Any) -> None:
        """Wait until dask is done with a key, and see to it if dask gave it up."""
        error = await future.exception()
        if error is None and future.cancelled():
            error = PoolError("it was cancelled")
        gone = not self.link.connected
        books = self._books
        with books.lock:
            if error is None or books.find(key) is not flight:
                return  # it was answered, or had no leave to begin: the news tells of both
            killed = isinstance(error, KilledWorker)
            if killed and flight.task.state is TaskState.SENT:
                return  # the news tells how
            if not gone and not killed:
                books.fail(flight, reason=repr(error))
        if gone:
            self.break_down("its client lost the connection to the scheduler")
        elif killed:
            self._send_again(flight)
        else:
            self.settle([(flight, _could_not_run(flight, error))])

    def _send_again(self, flight: Flight) -> None:
        with self._books.lock:
            future = flight.rename()
        self._stop_timer(flight)
        if future is not None:
            future.release()
        self.send(flight)

    def _land(self, flight: Flight) -> None:
        self._stop_timer(flight)
        self.link.end(flight.member, flight.key, self._settings.kill_grace)

    def _stop_timer(self, flight: Flight) -> None:
        if flight.timer is not None:
            flight.timer.cancel()
            flight.timer = None

    def _time_out(self, key: Key) -> None:
        with self._books.lock:
            flight = self._books.find(key)
            if flight is None:
                return
            error = self._books.timed_out(flight)
        self.settle([(flight, error)])

    # -- news, on the client's loop -----------------------------------------------------------------------------

    def _hear(self, news: dict[str, Any]) -> None:
        details = {name: value for name, value in news.items() if name != "kind"}
        getattr(self, f"_on_{news['kind']}")(**details)

    def _on_welcome(self, seats: Iterable[Iterable[Any]]) -> None:
        with self._books.lock:
            for seat in seats:
                self._books.joined(Seat(*seat))

    def _on_joined(self, seat: Iterable[Any]) -> None:
        with self._books.lock:
            self._books.joined(Seat(*seat))

    def _on_left(self, worker: str) -> None:
        with self._books.lock:
            self._books.left(worker)

    def _on_died(self, worker: str, pid: int, exitcode: int | None) -> None:
        with self._books.lock:
            self._books.died(worker, pid, exitcode)

    def _on_begun(self, key: Key, worker: str) -> None:
        with self._books.lock:
            flight = self._books.begun(key, worker)
            member = self._books.crew.get(worker)
        if flight is None:
            self.link.end(member, key, self._settings.kill_grace)
        elif (timeout := flight.task.options.timeout) is not None:
            flight.timer = self.link.call_later(timeout, self._time_out, key)

    def _on_answered(self, key: Key, worker: str, ok: bool, seconds: float, parts: list[bytes]) -> None:
        with self._books.lock:
            flight = self._books.answered(key, worker, seconds, ok=ok)
        if flight is None:
            return
        self.let_go([flight])
        self._gate.give()
        body, *buffers = [memoryview(part) for part in parts]
        kind = _wire.VALUE if ok else _wire.ERROR
        settle_answer(flight.task, _wire.Frame(kind, 0, seconds, body, buffers))

    def _on_lost(self, key: Key, pid: int, exitcode: int | None) -> None:
        with self._books.lock:
            flight = self._books.find(key)
            if flight is None:
                return
            error = self._books.crashed(flight, pid, exitcode)
        if error is None:
            self._send_again(flight)
        else:
            self.settle([(flight, error)])


def _could_not_run(flight: Flight, error: BaseException) -> PoolError:
    failure = PoolError(f"dask could not run {flight.task.id} ({flight.task.name}): {error!r}")
    failure.__cause__ = error
    return failure
