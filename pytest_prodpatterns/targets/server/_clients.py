"""The clients of a server under test: requests on connections of their own, each with one word for its end.

Theory of operation.  All connections live on one event loop in a thread of its own, which starts with the first
request and ends with `close`.  That loop is nobody else's: virtual time, which changes the loop of a test, does not
reach it, and all times are the machine's.  Whoever drives asks from other threads; what changes is asked of the
loop and waited for, what is only looked at is read where it stands.

The history gets `called` before a connection is begun, `entered` at most once, and `returned` exactly once, each
at its instant; whoever waits for a call is woken behind its `returned`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.targets.server import _file_limit
from pytest_prodpatterns.targets.server._address import Address
from pytest_prodpatterns.targets.server._connection import Way
from pytest_prodpatterns.targets.server._exchange import Exchange, Stage
from pytest_prodpatterns.targets.server._heads import path_of
from pytest_prodpatterns.targets.server._loop import LoopThread
from pytest_prodpatterns.targets.server._protocol import Request
from pytest_prodpatterns.targets.server._rounds import Poll, Route

_AT_ONCE: Final = 50
"""Connections that are begun in one turn of the loop; then it looks at those that are there."""


class Clients:
    """Makes requests of one server.

    Args:
        address: A port on loopback, or the path of a unix socket.
        connect_within: Seconds in which a connection must be made.
        numbers: Where the numbers of the calls come from; by default from 1.
    """

    def __init__(
        self, address: Address, *, connect_within: float = 5.0, numbers: Iterator[int] | None = None
    ) -> None:
        self.address = address
        self._within = connect_within
        self._thread = LoopThread("clients of a server under test")
        self._numbers = itertools.count(1) if numbers is None else numbers
        self._calls: dict[int, Exchange] = {}
        self._phases: dict[str, list[int]] = {}
        self._pending: dict[str, dict[int, None]] = {}  # phase -> its calls that did not return yet, in order
        self._entered: set[int] = set()
        self._routes: dict[Route, str] = {}  # what goes on by itself -> its phase
        self._polls: set[Poll] = set()
        self._changed = threading.Condition()  # notified behind each `returned` and each end of a route

    # -- doing ---------------------------------------------------------------------------------------------------

    def send(self, request: Request, phase: str) -> list[int]:
        """Begin a request, `request.times` times, and return the numbers of the calls.

        Args:
            request: What is asked.
            phase: What the history calls the calls.
        """
        _file_limit.make_room(self, request.times)
        way, calls = self._way, list[int]()
        while len(calls) < request.times:
            some = min(_AT_ONCE, request.times - len(calls))
            calls += self._thread.ask(lambda: [self._begin(way, request, phase) for _ in range(some)])  # noqa: B023
        return calls

    def route(self, request: Request, phase: str, seconds: float, every: float = 0.01) -> None:
        """Begin to make the request on a new connection again and again, in the background.

        Args:
            request: What is asked.
            phase: What the history calls the calls.
            seconds: For how long.
            every: Seconds between two of them; longer when there would be too many.
        """
        way = self._way
        route = Route(way.loop, seconds, every, lambda: self._begin(way, request, phase), self._route_ended)
        _file_limit.make_room(self, route.times)
        self._routes[route] = phase
        self._thread.ask(route.begin)

    def poll(self, path: str, every: float, tell: Callable[[int, float], None]) -> Callable[[], None]:
        """Ask for a path again and again, each time on a new connection, until it is stopped; no events.

        Args:
            path: The path.
            every: Seconds between an answer and the next question.
            tell: Gets each answer, in the clients' thread: its status, 0 for none, and the instant.

        Returns:
            What stops it; nothing is told any more when it has returned.
        """
        poll = Poll(self._way, path, every, tell)
        self._polls.add(poll)
        self._thread.ask(poll.begin)
        return lambda: self._stop(poll)

    def finish(self, grace: float = 0.2) -> None:
        """End the observation: whatever has not ended gets its last word.

        Args:
            grace: Seconds that are waited for what is under way.
        """
        if self._thread.started:
            self._thread.ask(self._begin_no_more)
            self.wait(list(self._phases), grace)
            self._thread.ask(self._end_all)

    def close(self) -> None:
        """End everything, and the thread; may be called twice."""
        try:
            self._thread.close(self._end_all)
        finally:
            _file_limit.leave(self)

    # -- looking -------------------------------------------------------------------------------------------------

    def wait(self, phases: str | Iterable[str], deadline: float) -> bool:
        """Wait until every call of these phases has returned, and return whether all have.

        Args:
            phases: One phase or more; a route counts until its last call has returned.
            deadline: Seconds.
        """
        names = [phases] if isinstance(phases, str) else list(phases)
        until = time.monotonic() + deadline
        with self._changed:
            while not (returned := all(map(self._returned, names))):
                rest = until - time.monotonic()
                if rest <= 0:
                    break
                self._changed.wait(rest)
        return returned

    def open(self, phase: str) -> list[int]:
        """Return the calls of a phase that have not returned."""
        return list(self._pending.get(phase, {}))

    def states(self, phase: str) -> dict[int, Stage]:
        """Return how far each call of a phase is."""
        return {call: self._calls[call].stage for call in self._of(phase)}

    def ports(self, phase: str) -> dict[int, int]:
        """Return the local ports of the connections of a phase that live; none for unix sockets."""
        found = {call: self._calls[call].port for call in self._of(phase)}
        return {call: port for call, port in found.items() if port}

    def read_by_server(self, phase: str) -> set[int]:
        """Return the calls of a phase of which the other end has read all that was sent; unix sockets only."""
        calls = self._of(phase)
        found: set[int] = self._thread.ask(
            lambda: {call for call in calls if self._calls[call].read_by_server}
        )
        return found

    def kind(self, call: int) -> str:
        """Return the kind of a call."""
        return self._calls[call].request.kind

    def note_entered(self, call: int, phase: str, how: str) -> None:
        """Tell that the server has a call, unless that was told."""
        self._thread.ask(lambda: self._tell_entered(call, phase, how))

    @property
    def _way(self) -> Way:
        return Way(self._thread.loop, self.address, self._within)

    def _of(self, phase: str) -> list[int]:
        return list(self._phases.get(phase, ()))

    def _returned(self, phase: str) -> bool:
        return not self._pending.get(phase) and phase not in list(self._routes.values())

    def _stop(self, poll: Poll) -> None:
        if self._thread.started:
            self._thread.ask(poll.stop)
        self._polls.discard(poll)

    # -- in the thread of the loop -------------------------------------------------------------------------------

    def _begin(self, way: Way, request: Request, phase: str) -> int:
        call = next(self._numbers)
        exchange = Exchange(
            way,
            request,
            lambda _: self._tell_entered(call, phase, "first byte"),
            lambda ended: self._tell_returned(call, phase, ended),
        )
        self._calls[call] = exchange
        self._phases.setdefault(phase, []).append(call)
        self._pending.setdefault(phase, {})[call] = None
        known = {"phase": phase, "method": request.method, "path": path_of(request)}
        emit(f"client:{request.kind}", "called", call=call, **known)
        exchange.begin()
        return call

    def _tell_entered(self, call: int, phase: str, how: str) -> None:
        if call not in self._entered:
            self._entered.add(call)
            emit(f"client:{self.kind(call)}", "entered", call=call, phase=phase, how=how)

    def _tell_returned(self, call: int, phase: str, ended: Exchange) -> None:
        assert ended.ending is not None  # it says so itself
        outcome, detail = ended.ending
        facts = ended.facts() | ({"detail": detail} if detail else {})
        took = round(ended.took, 4)
        emit(
            f"client:{ended.request.kind}",
            "returned",
            call=call,
            phase=phase,
            outcome=outcome,
            took=took,
            **facts,
        )
        with self._changed:
            del self._pending[phase][call]
            self._changed.notify_all()

    def _route_ended(self, route: Route) -> None:
        with self._changed:
            self._routes.pop(route, None)
            self._changed.notify_all()

    def _begin_no_more(self) -> None:
        for route in list(self._routes):
            route.stop()
        for poll in list(self._polls):
            poll.stop()
        self._polls.clear()
        for exchange in self._living():
            exchange.no_more()

    def _end_all(self) -> None:
        self._begin_no_more()
        for exchange in self._living():
            exchange.finish()

    def _living(self) -> list[Exchange]:
        return [self._calls[call] for calls in self._pending.values() for call in calls]


__all__ = ["Clients"]
