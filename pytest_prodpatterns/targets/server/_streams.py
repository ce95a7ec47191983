"""Conversations that have no end of their own: event streams and websockets.  No sockets, no time."""

from __future__ import annotations

from typing import Any, Final

from pytest_prodpatterns.targets.server import _websocket
from pytest_prodpatterns.targets.server._address import Address
from pytest_prodpatterns.targets.server._conversations import Conversation, Ending
from pytest_prodpatterns.targets.server._heads import parts_of
from pytest_prodpatterns.targets.server._protocol import Request

_OK: Final = 200
_SWITCHED: Final = 101


class Sse(Conversation):
    """An endless event stream: its end is no completion, but it can be orderly."""

    def opening(self) -> list[bytes]:
        """Return what is sent at first."""
        return parts_of(self.request, self.address, Accept="text/event-stream", Cache_Control="no-cache")

    def lost(self, *, reset: bool) -> Ending:
        """Hear that the server closed the connection, or reset it."""
        if not self._streams():
            return super().lost(reset=reset)
        if reset:
            return Ending("truncated", f"reset {self.reading.place}")
        if "chunked" in self.reading.headers.get("transfer-encoding", "").lower():  # RFC 9112, section 8
            return Ending("truncated", f"without its last chunk, {self.reading.place}")
        if self.reading.event_ended:
            return Ending("cancelled", "the connection was closed between two events")
        return Ending("truncated", f"inside an event, {self.reading.place}")

    def unfinished(self) -> Ending:
        """Hear that nobody waits any longer."""
        return Ending("open", "it streams on") if self._streams() else super().unfinished()

    def _whole(self) -> Ending:
        return Ending("cancelled", "the stream was ended") if self._streams() else self._answered()

    def _streams(self) -> bool:
        return self.reading.status == _OK and "content-length" not in self.reading.headers


class WebSocket(Conversation):
    """A websocket that listens, answers pings, and takes leave when the server does."""

    def __init__(self, request: Request, address: Address) -> None:
        super().__init__(request, address)
        self._key = _websocket.new_key()
        self._frames: _websocket.Frames | None = None

    def opening(self) -> list[bytes]:
        """Return the handshake."""
        fields = {"Sec_WebSocket_Key": self._key, "Sec_WebSocket_Version": "13"}
        return parts_of(self.request, self.address, Connection="Upgrade", Upgrade="websocket", **fields)

    def received(self, data: bytes) -> Ending | None:
        """Hear that bytes came."""
        return super().received(data) if self._frames is None else self._heard(data)

    def lost(self, *, reset: bool) -> Ending:
        """Hear that the server closed the connection, or reset it."""
        if self._frames is None:
            return super().lost(reset=reset)
        where = "inside a frame" if self._frames.in_frame else "between two frames"
        return Ending("reset", where) if reset else Ending("truncated", f"no close frame, {where}")

    def unfinished(self) -> Ending:
        """Hear that nobody waits any longer."""
        return super().unfinished() if self._frames is None else Ending("open")

    def facts(self) -> dict[str, Any]:
        """Return what the history tells: of the handshake, and of the messages."""
        if self._frames is None:
            return super().facts()
        sample = self._frames.sample
        return super().facts() | {"bytes": sample.size, "text": sample.text}

    def _whole(self) -> Ending | None:
        if self.reading.status != _SWITCHED:
            return self._answered()
        if self.reading.headers.get("sec-websocket-accept") != _websocket.accepting(self._key):
            return Ending("truncated", "the handshake does not answer the key")
        self._frames = _websocket.Frames()
        return self._heard(self.reading.surplus)

    def _heard(self, data: bytes) -> Ending | None:
        frames = self._frames
        assert frames is not None  # the handshake is done
        self.reply += frames.feed(data)
        if frames.broken is not None:
            return Ending("truncated", frames.broken)
        if frames.closed is None:
            return None
        return Ending("cancelled", f"close {frames.closed} {frames.reason}".rstrip())


__all__ = ["Sse", "WebSocket"]
