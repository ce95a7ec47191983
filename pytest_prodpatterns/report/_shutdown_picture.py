"""The end of a server as a picture: who was alive, who listened, who was ready, and what became of each request.

Theory of operation.  Everything is a bar on one axis, the seconds since the first signal.  A row is the process, its
listener, its readiness, or one group of requests; in a group each request is a thin bar from the call to its end, in
the colour of what came of it.  The history is all there is: a picture can be drawn of any run, also of one read back
from a file.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_prodpatterns.lab import Event

WIDTH: Final = 960
LEFT: Final = 190
RIGHT: Final = 30
ROW: Final = 22
GAP: Final = 8
HEAD: Final = 56
BEFORE: Final = 0.4
"""Seconds before the first signal that are shown at most."""
MOST_LINES: Final = 24
"""Lines of a group at most."""
_CHARACTER: Final = 7
"""Pixels that a character of a label takes."""

GOOD, TOLD, BAD, SAFE, NEUTRAL = "#2e7d4f", "#7fb08f", "#c0392b", "#d9a441", "#9aa5b1"
COLOURS: Final = {
    "completed": GOOD,
    "completed-with-close": GOOD,
    "closed": TOLD,
    "cancelled": TOLD,
    "refused": SAFE,
    "abandoned": NEUTRAL,
    "open": NEUTRAL,
}
"""Outcome -> colour; whatever is not here was lost."""
LEGEND: Final = (
    (GOOD, "answered"),
    (TOLD, "closed, or told to end"),
    (SAFE, "refused, or 503: safe to try again"),
    (BAD, "lost"),
    (NEUTRAL, "no verdict"),
)
_RETRY: Final = 503


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time.

    Attributes:
        begin: Seconds since the signal.
        end: The same.
        colour: Of the bar.
        text: What a pointer over it tells.
        label: Whether that stands in it as well.
    """

    begin: float
    end: float
    colour: str
    text: str
    label: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of bars.

    Attributes:
        label: What stands left of it.
        lines: Bars, in lines one below the other.
        height: Of a line, in pixels.
    """

    label: str
    lines: Sequence[Sequence[Bar]]
    height: float


def shutdown_picture(events: Iterable[Event], title: str = "") -> str:
    """Return the picture of how a server ended, as SVG.

    Args:
        events: A history with the events of one server, for example `ShutdownReport.events`.
        title: What stands above it.

    Raises:
        ValueError: No signal was sent to a server in this history.
    """
    history = list(events)
    signals = [event for event in history if event.kind == "signalled"]
    if not signals:
        raise ValueError("there is no picture of an end without a signal: no server got one in these events")
    zero = signals[0].real
    last = max(event.real for event in history) - zero
    first = max(min(event.real for event in history) - zero, -BEFORE)
    rows = [row for row in _rows(history, zero, last) if any(row.lines)]
    marks = [(event.real - zero, f"{event.attributes['signal']}") for event in signals]
    return _Drawing(first, max(last, 0.1), title).draw(rows, marks)


def _rows(history: Sequence[Event], zero: float, last: float) -> Iterator[Row]:
    yield Row("process", [list(_process(history, zero, last))], ROW - GAP)
    yield Row("listener", [list(_states(history, zero, last, "listener"))], ROW - GAP)
    yield Row("readiness", [list(_states(history, zero, last, "readiness"))], ROW - GAP)
    phases = dict.fromkeys(event.attributes["phase"] for event in history if event.kind == "called")
    for phase in phases:
        bars = list(_requests(history, zero, last, phase))
        lines = _packed(bars, (last + BEFORE) / WIDTH)
        yield Row(f"{phase} ({len(bars)})", lines, max(3.0, min(8.0, 60 / max(1, len(lines)))))


def _packed(bars: Sequence[Bar], apart: float) -> list[list[Bar]]:
    """Return bars in as few lines as they need so that none covers another; the last line takes what is over."""
    lines: list[list[Bar]] = []
    for bar in bars:
        free = next((line for line in lines if line[-1].end + apart <= bar.begin), None)
        if free is None and len(lines) == MOST_LINES:
            free = lines[-1]
        if free is None:
            lines.append([bar])
        else:
            free.append(bar)
    return lines


def _process(history: Sequence[Event], zero: float, last: float) -> Iterator[Bar]:
    begun = [event for event in history if event.kind == "started" and event.source.startswith("server:")]
    ended = [event for event in history if event.kind == "exited"]
    if begun:
        how = ended[-1].attributes["how"] if ended else "it still lived"
        code = ended[-1].attributes["code"] if ended else None
        end = ended[-1].real - zero if ended else last
        colour = GOOD if code == 0 else BAD if code is None else SAFE
        yield Bar(begun[-1].real - zero, end, colour, how, label=True)


def _states(history: Sequence[Event], zero: float, last: float, kind: str) -> Iterator[Bar]:
    told = [event for event in history if event.kind == kind]
    ends = [event.real - zero for event in told[1:]] + [last]
    for event, end in zip(told, ends, strict=False):  # nothing was told: then there is no end either
        colour, text = _state(event)
        if colour:
            yield Bar(event.real - zero, end, colour, text)


def _state(event: Event) -> tuple[str, str]:
    known = event.attributes
    if event.kind == "readiness":
        status = known["status"]
        return (GOOD if known["ready"] else SAFE if status else ""), f"answers {status}"
    if known["state"] == "closed":
        return "", "closed"
    waiting = known["backlog"]
    return (SAFE if waiting else GOOD), f"{known['state']}, {waiting} waiting" if waiting else known["state"]


def _requests(history: Sequence[Event], zero: float, last: float, phase: str) -> Iterator[Bar]:
    of_phase = [event for event in history if event.attributes.get("phase") == phase]
    ends = {event.attributes["call"]: event for event in of_phase if event.kind == "returned"}
    for event in of_phase:
        if event.kind == "called":
            call, end = event.attributes["call"], ends.get(event.attributes["call"])
            if end is None:
                yield Bar(event.real - zero, last, BAD, f"{call}: no end")
                continue
            outcome, status = end.attributes["outcome"], end.attributes.get("status")
            colour = SAFE if status == _RETRY else COLOURS.get(outcome, BAD)
            words = f"{call}: {outcome}{f' {status}' if status else ''}"
            yield Bar(event.real - zero, end.real - zero, colour, words)


class _Drawing:
    """The axis of one picture.

    Args:
        first: The first second that is shown.
        last: The last one.
        title: What stands above it.
    """

    def __init__(self, first: float, last: float, title: str) -> None:
        self._first, self._last, self._title = first, last, title
        self._scale = (WIDTH - LEFT - RIGHT) / (last - first)

    def draw(self, rows: Sequence[Row], marks: Sequence[tuple[float, str]]) -> str:
        body: list[str] = []
        top = float(HEAD)
        for row in rows:
            body += self._row(row, top)
            top += max(ROW - GAP, row.height * len(row.lines)) + GAP
        axis = top + 4
        inside = [*self._ticks(axis), *body, *self._marks(marks, axis), *_legend(axis + 44)]
        height = axis + 60
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
            f'height="{height:.0f}" font-family="system-ui, sans-serif" font-size="12" role="img">'
        )
        frame = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
        title = _text(LEFT, 18, self._title, "start", weight="bold") if self._title else ""
        return "\n".join([head, frame, title, *inside, "</svg>", ""])

    def _x(self, second: float) -> float:
        return LEFT + (min(max(second, self._first), self._last) - self._first) * self._scale

    def _row(self, row: Row, top: float) -> Iterator[str]:
        yield _text(LEFT - 10, top + 11, row.label, "end")
        for number, line in enumerate(row.lines):
            for bar in line:
                begin, end = self._x(bar.begin), self._x(bar.end)
                y = top + number * row.height
                yield (
                    f'<rect x="{begin:.1f}" y="{y:.1f}" width="{max(1.5, end - begin):.1f}" '
                    f'height="{max(2.0, row.height - 1):.1f}" rx="1" fill="{bar.colour}">'
                    f"<title>{html.escape(bar.text)}</title></rect>"
                )
                if bar.label and end - begin > _CHARACTER * len(bar.text):
                    yield _text(end - 6, y + 11, bar.text, "end", colour="#ffffff")

    def _ticks(self, axis: float) -> Iterator[str]:
        step = _step(self._last - self._first)
        number = math.ceil(self._first / step)
        while number * step <= self._last:
            x = self._x(number * step)
            yield f'<line x1="{x:.1f}" y1="{HEAD - 6}" x2="{x:.1f}" y2="{axis:.1f}" stroke="#e3e7eb"/>'
            yield _text(
                x, axis + 14, f"{number * step:+.3g} s" if number else "0", "middle", colour="#57606a"
            )
            number += 1

    def _marks(self, marks: Sequence[tuple[float, str]], axis: float) -> Iterator[str]:
        for second, text in marks:
            x = self._x(second)
            yield (
                f'<line x1="{x:.1f}" y1="{HEAD - 14}" x2="{x:.1f}" y2="{axis:.1f}" stroke="#24292f" '
                'stroke-dasharray="3 2"/>'
            )
            yield _text(x, HEAD - 18, text, "middle")


def _legend(y: float) -> Iterator[str]:
    x = float(LEFT)
    for colour, text in LEGEND:
        yield f'<rect x="{x:.0f}" y="{y - 9:.0f}" width="10" height="10" rx="1" fill="{colour}"/>'
        yield _text(x + 15, y, text, "start")
        x += 32 + 6.4 * len(text)


def _step(seconds: float) -> float:
    """Return a round distance between two ticks, so that there are at most ten."""
    power = 10.0 ** math.floor(math.log10(seconds / 10))
    return next(step for step in (power, 2 * power, 5 * power, 10 * power) if seconds / step <= 10)


def _text(x: float, y: float, words: str, anchor: str, *, weight: str = "", colour: str = "#24292f") -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{bold}>{html.escape(words)}</text>'
