"""The life of a server as a table: no I/O, no clock, no way that is not written here."""

from __future__ import annotations

import enum
from typing import Final


class ServerState(enum.StrEnum):
    """Where a server stands in its life; only `READY` answers 200 on `/ready`."""

    STARTING = "starting"
    READY = "ready"
    LAME_DUCK = "lame_duck"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"


class LifeEvent(enum.StrEnum):
    """What happens to a server."""

    STARTED = "started"
    WARNED = "warned"
    """Told to stop, and to be a lame duck first."""
    TOLD = "told"
    """Told to stop at once, or the lame duck's time is over."""
    EMPTIED = "emptied"
    """The drain is over, however it ended."""
    CLEANED = "cleaned"


_S, _E = ServerState, LifeEvent
_TABLE: Final = {
    (_S.STARTING, _E.STARTED): _S.READY,
    (_S.STARTING, _E.EMPTIED): _S.STOPPING,
    (_S.READY, _E.WARNED): _S.LAME_DUCK,
    (_S.READY, _E.TOLD): _S.DRAINING,
    (_S.LAME_DUCK, _E.TOLD): _S.DRAINING,
    (_S.DRAINING, _E.EMPTIED): _S.STOPPING,
    (_S.STOPPING, _E.CLEANED): _S.STOPPED,
}


def advance(state: ServerState, event: LifeEvent) -> ServerState:
    """Return the state behind the event.

    Raises:
        ValueError: When the event cannot happen in that state.
    """
    try:
        return _TABLE[state, event]
    except KeyError:
        raise ValueError(f"a server that is {state} cannot be {event}") from None
