"""The story of a shutdown as text: one line for what happened, or for many requests to which the same happened."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pytest_prodpatterns.targets.server._protocol import OUTCOMES
from pytest_prodpatterns.targets.server._shutdown_facts import Exchange, Facts

LINES: Final = 60
"""How many lines a timeline has at most."""
_AT_ONCE: Final = 0.25
"""Seconds for which a server may let connections wait without any mention of it."""
_PIDS: Final = 8
_ANSWERS: Final = frozenset({"completed", "completed-with-close", "5xx"})
_EXPLAINED: Final = frozenset(OUTCOMES) - _ANSWERS - {"closed", "cancelled", "refused"}
_CONNECTIONS: Final = {
    "idle": "idle connection",
    "silent": "connection on which nothing was sent",
    "half-headers": "half-sent head",
    "half-body": "half-sent body",
    "slow-headers": "slowly sent head",
    "sse": "event stream",
    "websocket": "websocket",
    "raw": "raw bytes",
}


@dataclass(slots=True)
class Line:
    """A line of the timeline.

    Attributes:
        first: When it happened, or when that began.
        last: When it happened the last time.
        text: What.
        times: How often.
        telling: Whether it parts what happened before from what happened behind it.
    """

    first: float
    last: float
    text: str
    times: int = 1
    telling: bool = True

    def __str__(self) -> str:
        text = self.text if self.times == 1 else f"{self.times} x {self.text}"
        first, last = _shown(self.first), _shown(self.last)
        return f"{first if first == last else f'{first} … {last}'}  {text}"


def timeline(facts: Facts, limit: int = LINES) -> str:
    """Return the timeline; its times are seconds since the signal.

    Args:
        facts: What happened.
        limit: The most lines; what is left out is said.
    """
    lines = [str(line) for line in _grouped(sorted(_lines(facts), key=lambda line: line.first))]
    if len(lines) > limit:
        head = limit // 3
        left_out = f"… {len(lines) - limit} lines left out …"
        lines = [*lines[:head], left_out, *lines[head - limit :]]
    return "\n".join(lines) or "nothing happened: no event was recorded"


def label(exchange: Exchange) -> str:
    """Return what a request is, for example `GET /slow`."""
    if exchange.kind in {"request", "stream"}:
        return f"{exchange.method} {exchange.path}"
    name = _CONNECTIONS[exchange.kind]
    return f"{name} {exchange.path}" if exchange.kind in {"sse", "websocket"} else name


def fate(exchange: Exchange) -> str:
    """Return what became of a request, for example `200, Connection: close`."""
    words = []
    if exchange.outcome in _ANSWERS:
        words = [
            str(exchange.status or "a whole response"),
            *(["Connection: close"] if exchange.close else []),
        ]
        if exchange.outcome == "completed-with-close" and not exchange.close:
            words.append("Connection: close")
    else:
        words = [exchange.outcome if exchange.ended is not None else "no end was seen"]
    return ", ".join([*words, *([exchange.detail] if exchange.detail else [])])


def _lines(facts: Facts) -> Iterator[Line]:
    passing = set(_passing(facts))
    for event in facts.events:
        if event.seq in passing:
            continue
        now = facts.time_of(event)
        tell = _TOLD.get(event.kind) if event.source.startswith("server:") else None
        if tell is not None and (text := tell(event.attributes)):
            yield Line(now, now, text)
    for each in facts.exchanges:
        if each.entered is not None and each.phase != facts.phases.routed:
            text = f"{label(each)} inside ({each.inside})"
            yield Line(each.entered, each.entered, text, telling=False)
        if each.ended is not None:
            between = " " if each.outcome in _ANSWERS else ": "
            means = f" ({OUTCOMES[each.outcome]})" if each.outcome in _EXPLAINED else ""
            text = f"{label(each)}{between}{fate(each)}{means}"
            yield Line(each.ended, each.ended, text, telling=False)
        elif each.phase != facts.phases.routed:
            yield Line(facts.end, facts.end, f"{label(each)}: {fate(each)}", telling=False)


def _passing(facts: Facts) -> Iterator[int]:
    """Return the events of backlogs that were gone at once: those are a server at work."""
    looks = [event for event in facts.events if event.kind == "listener"]
    for began, ended in itertools.pairwise(looks[1:]):
        listening = began.attributes["state"] == ended.attributes["state"] == "listening"
        if listening and not ended.attributes["backlog"] and ended.real - began.real < _AT_ONCE:
            yield from (began.seq, ended.seq)


def _shown(seconds: float) -> str:
    return f"{round(seconds, 3) + 0.0:+.3f}"  # no -0.000


def _grouped(lines: list[Line]) -> list[Line]:
    """Return the lines with equal ones as one, unless something telling stands between them."""
    grouped: list[Line] = []
    equal: dict[str, Line] = {}
    for line in lines:
        if line.telling:
            equal.clear()
        elif (before := equal.get(line.text)) is not None:
            before.last, before.times = line.last, before.times + 1
            continue
        else:
            equal[line.text] = line
        grouped.append(line)
    return grouped


def _started(a: Any) -> str:
    where = f"port {a['port']}" if "port" in a else f"unix socket {a.get('uds')}"
    return f"started, pid {a['pid']}, {where}: {a['command']}"


def _signalled(a: Any) -> str:
    pids = ", ".join(map(str, a["pids"][:_PIDS])) or "nobody: it had ended"
    more = f" and {len(a['pids']) - _PIDS} more" if len(a["pids"]) > _PIDS else ""
    return f"{a['signal']} -> {a['target']} {pids}{more}"


def _listener(a: Any) -> str:
    text = {"listening": "listening", "closed": "listener closed", "rebound": "somebody else listens"}[
        a["state"]
    ]
    return f"{text}, {a['backlog']} wait to be accepted" if a.get("backlog") else text


def _readiness(a: Any) -> str:
    return (
        f"readiness: {a['status']}{'' if a['ready'] else ' (not ready)'}"
        if a["status"]
        else "readiness: no answer"
    )


def _exited(a: Any) -> str:
    return str(a["how"]) if a["code"] >= 0 else f"ended by {a['how']} (exit code {a['code']})"


def _survivors(a: Any) -> str:
    told = ", ".join(f"{pid} ({command})" for pid, command in zip(a["pids"], a["commands"], strict=False))
    return f"still alive: {told}" if told else "no process is left"


_TOLD: Final[dict[str, Any]] = {
    "started": _started,
    "ready": lambda a: f"ready: {a['how']}",
    "readiness": _readiness,
    "listener": _listener,
    "signalled": _signalled,
    "exited": _exited,
    "stuck": lambda _: "asked for its stacks",
    "killed": lambda _: "killed, for it had not ended",
    "survivors": _survivors,
    "zombies": lambda a: f"zombies: {a['pids']}" if a["pids"] else "",
    "not-observed": lambda a: f"not observed: {a['what']} ({a['why']})",
}


def failure(facts: Facts, reason: str, output: str) -> str:
    """Return the text of a failed assertion: the reason, the timeline, the stacks if there are any, the output.

    Args:
        facts: What happened.
        reason: One line.
        output: The end of what was printed, told.
    """
    zero = "the signal" if facts.signalled else "the start; no signal was sent"
    parts = [reason, f"the timeline, in seconds since {zero}:", _indented(timeline(facts))]
    if (stuck := facts.last("stuck")) is not None and stuck["stacks"].strip():
        parts += ["where it was stuck:", _indented(stuck["stacks"].strip())]
    return "\n".join([*parts, output or "it printed nothing"])


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
