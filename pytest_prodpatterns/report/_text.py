"""A timeline told as text: one line an event, the newest faults and transitions first in line for a place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pytest_prodpatterns.lab._timeline import told

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_prodpatterns.lab import Event

TELLING: Final = frozenset({"armed", "fired", "undone", "rollback-failed", "transition"})
"""Kinds that explain a failure; others give way to them when there is no room for all."""

SAME_CLOCK: Final = 0.25
"""An event whose two times are that close (seconds) happened on the machine's clock."""

LONGEST: Final = 120
"""Details are cut behind so many characters."""


def render(events: Iterable[Event], limit: int = 60) -> str:
    """Return the events as lines of text in readable columns.

    Real times are told as seconds since the first event (`t+0.123s`), times of a virtual clock as that clock's
    own (`v=60.000s`). The process id is shown when there is more than one process.

    Args:
        events: The events, in order.
        limit: How many of them are shown at most; the first line says how many were left out.
    """
    everything = list(events)
    if not everything:
        return "nothing happened: no event was recorded"
    shown = select(everything, limit)
    several = len({event.process for event in everything}) > 1
    times = dict(zip((event.seq for event in everything), _times(everything), strict=True))
    rows = [
        [
            times[event.seq],
            *([f"[{event.process}]"] if several else []),
            event.source,
            event.kind,
            _details(event),
        ]
        for event in shown
    ]
    return "\n".join([_heading(len(everything), len(shown), times.values()), *_columns(rows)])


def select(events: Sequence[Event], limit: int) -> list[Event]:
    """Return at most `limit` events, in order: the newest telling ones, then the newest others.

    Args:
        events: The events, in order.
        limit: How many to keep.
    """
    newest = sorted(events, key=lambda event: (event.kind in TELLING, event.seq), reverse=True)
    return sorted(newest[:limit], key=lambda event: event.seq)


def _heading(total: int, shown: int, times: Iterable[str]) -> str:
    heading = "1 event" if total == 1 else f"{total} events"
    if shown < total:
        heading += f", {total - shown} of them left out"
    if any(time.startswith("v=") for time in times):
        heading += " (t+ since the first event in real time, v= on the virtual clock)"
    return heading


def _times(events: Sequence[Event]) -> list[str]:
    """Return each event's time; that of a child process is on the clock of the event before it."""
    first, home = events[0].real, events[0].process
    times, virtual = [], False
    for event in events:
        if event.process == home:
            virtual = abs(event.at - event.real) > SAME_CLOCK
        times.append(f"v={event.at:.3f}s" if virtual else f"t+{event.real - first:.3f}s")
    return times


def _details(event: Event) -> str:
    attributes = dict(event.attributes)
    start = ""
    if event.kind == "transition" and {"previous", "state"} <= attributes.keys():
        start = f"{attributes.pop('previous')} -> {attributes.pop('state')}"
    parts = [start, *(f"{name}={_plain(value)}" for name, value in attributes.items() if value is not None)]
    text = " ".join(filter(None, parts))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _plain(value: object) -> str:
    if isinstance(value, str):
        text = value if value.isidentifier() else json.dumps(value, ensure_ascii=False)
    else:
        text = told(value).replace("\n", " ")
    return text.encode(errors="backslashreplace").decode()  # no report takes a lone surrogate


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
