"""One request from its call to its end: a conversation on a connection, with its times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from pytest_prodpatterns.targets.server._address import Address
from pytest_prodpatterns.targets.server._connection import Connection, Way
from pytest_prodpatterns.targets.server._conversations import Conversation, Ending, Held, Kept
from pytest_prodpatterns.targets.server._protocol import Request
from pytest_prodpatterns.targets.server._streams import Sse, WebSocket

Stage: TypeAlias = Literal["connecting", "connected", "sent", "answering", "done"]


class Exchange:
    """One request; but for the attributes, all of it happens in the thread of the loop.

    Args:
        way: How its connection is made.
        request: What is asked.
        entered: Called once, when an answer proves that the server has it.
        returned: Called once, at its end.

    Attributes:
        request: What is asked.
        stage: How far it is.
        began: The instant of its call.
        first_byte: The instant at which the first byte came, or None.
        ending: How it ended, or None.
    """

    def __init__(
        self,
        way: Way,
        request: Request,
        entered: Callable[[Exchange], None],
        returned: Callable[[Exchange], None],
    ) -> None:
        self.request = request
        self.stage: Stage = "connecting"
        self.began = 0.0
        self.first_byte: float | None = None
        self.ending: Ending | None = None
        self.took = 0.0
        self._loop = way.loop
        self._entered = entered
        self._returned = returned
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._conversation = converse(request, way.address)
        self._connection = Connection(way, self)

    def begin(self) -> None:
        """Begin to connect."""
        self.began = time.monotonic()
        self._connection.open()

    def no_more(self) -> None:
        """Begin nothing new on its connection."""
        if (more := self._timers.pop("more", None)) is not None:
            more.cancel()
        ending = self._conversation.no_more()
        if ending is not None:
            self._end(ending)

    def finish(self) -> None:
        """End it with what can be said of it now."""
        if self.stage == "connecting":
            self._end(Ending("unreachable", "not connected when the observation ended"))
        else:
            self._end(self._conversation.unfinished())

    @property
    def port(self) -> int:
        """The local port of its connection; 0 where there is none, or none any more."""
        return 0 if self.stage == "done" else self._connection.port

    @property
    def read_by_server(self) -> bool:
        """Whether all that was sent was read, as far as this end can know."""
        return self.stage == "sent" and self.request.kind != "silent" and self._connection.unread() == 0

    def facts(self) -> dict[str, Any]:
        """Return what the history tells of it."""
        return self._conversation.facts()

    # -- what the connection tells -----------------------------------------------------------------------------

    def connected(self) -> None:
        """It is connected: say what there is to say."""
        self.stage = "connected"
        if self.request.hang_up is not None:
            self._later("hang up", self.request.hang_up, self._hang_up)
        parts = self._conversation.opening()
        self._pause()
        self._connection.send(parts)

    def flushed(self) -> None:
        """It is sent."""
        if self.stage == "connected":
            self.stage = "sent"

    def failed(self, outcome: str, detail: str) -> None:
        """There is no connection."""
        self._end(Ending(outcome, detail))

    def received(self, data: bytes) -> None:
        """Bytes came."""
        if self.first_byte is None:
            self.first_byte = time.monotonic()
        ending = self._conversation.received(data)
        if self._conversation.reply:
            reply, self._conversation.reply = self._conversation.reply, b""
            self._connection.send([reply])
        if self._conversation.inside and self.stage != "answering":
            self.stage = "answering"
            self._entered(self)
        if ending is not None:
            self._end(ending)
        else:
            self._pause()

    def lost(self, *, reset: bool) -> None:
        """The server ended the connection."""
        self._end(self._conversation.lost(reset=reset))

    # -- time ------------------------------------------------------------------------------------------------------

    def _pause(self) -> None:
        if self._conversation.pause is not None and "more" not in self._timers:
            self._later("more", self._conversation.pause, self._more)

    def _more(self) -> None:
        del self._timers["more"]
        self._connection.look()  # its end may have come meanwhile
        if self.stage != "done":
            self._connection.send(self._conversation.more())
            self._pause()

    def _hang_up(self) -> None:
        self._end(Ending("abandoned"))

    def _later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self._timers[name] = self._loop.call_later(seconds, call)

    def _end(self, ending: Ending) -> None:
        if self.ending is not None:
            return
        self.took = time.monotonic() - self.began
        self.ending = ending
        for timer in self._timers.values():
            timer.cancel()
        self._connection.close()
        self.stage = "done"
        self._returned(self)


def converse(request: Request, address: Address) -> Conversation:
    """Return the conversation that a request is.

    Args:
        request: The request.
        address: Where it goes.
    """
    if request.kind in {"silent", "half-headers", "half-body", "slow-headers"}:
        return Held(request, address)
    if request.kind == "idle" or request.again:
        return Kept(request, address)
    kinds = {"sse": Sse, "websocket": WebSocket}
    return kinds.get(request.kind, Conversation)(request, address)


__all__ = ["Exchange", "Stage", "converse"]
