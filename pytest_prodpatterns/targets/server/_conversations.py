"""What a client says in each kind of request, and which word it has for what comes of it: no sockets, no time.

Theory of operation.  A `Conversation` hears of everything that can happen to its connection: bytes came, the
server closed it (FIN) or reset it (RST), or the observation is over.  It answers with an `Ending` when that
is the end, one word of OUTCOMES with a detail; None when it goes on.  All judgement is here and in `_streams`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pytest_prodpatterns.targets.server._address import Address
from pytest_prodpatterns.targets.server._heads import parts_of
from pytest_prodpatterns.targets.server._protocol import Request
from pytest_prodpatterns.targets.server._wire import Reading

AGAIN: Final = 0.05
"""Seconds between two requests on one connection."""
_FAILED: Final = 500


class Ending(NamedTuple):
    """How it ended: a word of OUTCOMES, and what else can be said."""

    outcome: str
    detail: str = ""


class Conversation:
    """A request and its response; the base of all kinds.

    Args:
        request: The request.
        address: Where it goes.

    Attributes:
        reading: The response.
        inside: Whether what came proves that the server has the request.
        pause: Seconds until there is `more` to send; None for nothing.
        reply: What is to be sent at once.
    """

    def __init__(self, request: Request, address: Address) -> None:
        self.request = request
        self.address = address
        self.reading = Reading(request.method)
        self.inside = False
        self.pause: float | None = None
        self.reply = b""

    def opening(self) -> list[bytes]:
        """Return what is sent at first."""
        return parts_of(self.request, self.address)

    def more(self) -> list[bytes]:
        """Return what is sent now that the pause is over."""
        return []

    def received(self, data: bytes) -> Ending | None:
        """Hear that bytes came."""
        self.reading.feed(data)
        self.inside = True
        return self._judged()

    def lost(self, *, reset: bool) -> Ending:
        """Hear that the server closed the connection, or reset it."""
        if reset:
            return Ending("reset", self.reading.place)
        self.reading.end()
        if self.reading.whole:
            return self._answered()
        return Ending("truncated", self.reading.place) if self.reading.started else self._closed_silently()

    def no_more(self) -> Ending | None:
        """Hear that nothing new is to be begun."""
        return None

    def unfinished(self) -> Ending:
        """Hear that nobody waits any longer."""
        if self.reading.started:
            return Ending("truncated", f"no more came, {self.reading.place}")
        return self._left_silent()

    def facts(self) -> dict[str, Any]:
        """Return what the history tells of the response."""
        return self.reading.facts()

    def _judged(self) -> Ending | None:
        if self.reading.broken is not None:
            return Ending("truncated", self.reading.broken)
        return self._whole() if self.reading.whole else None

    def _whole(self) -> Ending | None:
        return self._answered()

    def _answered(self) -> Ending:
        if self.reading.status >= _FAILED:
            return Ending("5xx")
        return Ending("completed-with-close" if self.reading.close else "completed")

    def _closed_silently(self) -> Ending:
        return Ending("eof")

    def _left_silent(self) -> Ending:
        return Ending("never-answered")


class Held(Conversation):
    """A connection without a request: nothing, or a part of one, was sent."""

    def opening(self) -> list[bytes]:
        """Return what is sent at first."""
        if self.request.kind == "slow-headers":
            self.pause = self.request.pace
        return super().opening()

    def more(self) -> list[bytes]:
        """Return the next byte of a header that never ends."""
        return [b"a"]

    def _closed_silently(self) -> Ending:
        return Ending("closed")

    def _left_silent(self) -> Ending:
        return Ending("open")


class Kept(Conversation):
    """A connection that is kept behind its response: idle, or for one request after the other."""

    def __init__(self, request: Request, address: Address) -> None:
        super().__init__(request, address)
        self._number = 1
        self._waiting = False  # between two requests: nothing is in flight
        self._unasked = 0
        self._again = request.again

    def more(self) -> list[bytes]:
        """Return the next request."""
        self.pause, self._waiting = None, False
        self._number += 1
        self.reading = Reading(self.request.method)
        return parts_of(self.request, self.address)

    def received(self, data: bytes) -> Ending | None:
        """Hear that bytes came; those that nobody asked for are counted."""
        if self._waiting:
            self._unasked += len(data)
            return None
        inside = self.inside
        ending = super().received(data)
        self.inside = inside or self.reading.whole or ending is not None
        return ending

    def lost(self, *, reset: bool) -> Ending:
        """Hear that the server closed the connection, or reset it."""
        if self._waiting:
            return Ending("reset" if reset else "closed", self._while_waiting())
        return self._told(super().lost(reset=reset))

    def no_more(self) -> Ending | None:
        """Hear that nothing new is to be begun: the last response was the end."""
        ended = self._again and self._waiting
        self._again, self.pause = False, None
        return Ending("completed", self._while_waiting()) if ended else None

    def unfinished(self) -> Ending:
        """Hear that nobody waits any longer."""
        return Ending("open", self._while_waiting()) if self._waiting else self._told(super().unfinished())

    def _whole(self) -> Ending | None:
        ending = self._answered()
        if ending.outcome != "completed" or (self.request.again and not self._again):
            return self._told(ending)
        self._waiting, self._unasked = True, len(self.reading.surplus)
        self.pause = AGAIN if self._again else None
        return None

    def _told(self, ending: Ending) -> Ending:
        if self._number == 1:
            return ending
        which = f"request {self._number} on its connection"
        return ending._replace(detail=f"{which}, {ending.detail}" if ending.detail else which)

    def _while_waiting(self) -> str:
        words = "idle behind its response" if self._number == 1 else f"idle behind {self._number} requests"
        return f"{words}; {self._unasked} bytes came unasked" if self._unasked else words


__all__ = ["AGAIN", "Conversation", "Ending", "Held", "Kept"]
