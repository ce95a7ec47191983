"""The timeline: one append-only history of operations, faults and transitions (Jepsen's idea).

Theory of operation.  `seq` orders all events of a test.  Events of this process get theirs when they happen.
A child process, forked or started anew, appends JSON lines to a spool file that the environment variable
`PRODPATTERNS_TIMELINE` names; one `write` with O_APPEND a line, so children order themselves.  The timeline
takes over what stands in the spool before it appends an event of its own and before it is read.  Whatever a
child wrote before the parent noticed its effect therefore has the lower `seq`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_prodpatterns.lab import _ambient

SPOOL_VARIABLE = "PRODPATTERNS_TIMELINE"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        seq: Position in the history, from 1, without gaps.
        at: Seconds on the lab's clock (virtual time inside virtual time).
        real: Seconds on the machine's monotonic clock, the same for all its processes.
        process: Process id.
        test: The test id, or the name of the scenario.
        source: Who says so, as `subject:name`.
        kind: One word for what happened.
        attributes: Details, plain data.
    """

    seq: int
    at: float
    real: float
    process: int
    test: str
    source: str
    kind: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the event as a plain dictionary, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {"attributes": dict(self.attributes)}

    def to_json(self) -> str:
        """Return the event as one line of JSON; values that JSON does not know appear as their `repr`."""
        return to_json_line(self.as_dict())

    @classmethod
    def from_json(cls, line: str) -> Event:
        """Read back what `to_json` wrote."""
        return cls(**json.loads(line))


class Timeline:
    """The events of one lab, in order.

    Args:
        test: The test id that each event carries.
        clock: What `Event.at` is read from; the ambient clock by default.
        spool: Path where child processes append their events; None for no children.
    """

    def __init__(
        self, test: str = "", *, clock: Callable[[], float] = _ambient.now, spool: str | None = None
    ) -> None:
        self.test = test
        self.spool = spool
        self._clock = clock
        self._lock = threading.RLock()  # re-entrant: a signal handler may emit while we do
        self._events: list[Event] = []  # invariant: _events[i].seq == i + 1
        self._seq = itertools.count(1)
        self._spool_offset = 0

    def emit(self, source: str, kind: str, /, **attributes: Any) -> None:
        """Append one event, behind everything that child processes wrote so far."""
        with self._lock:
            self._take_over_spool()
            self._append(_entry(source, kind, attributes) | {"at": self._clock()})

    def adopt(self, event: Event) -> None:
        """Append an event of another timeline; it keeps its times, and gets a `seq` and the test id of this one."""
        with self._lock:
            self._take_over_spool()
            self._append(event.as_dict())

    @property
    def events(self) -> list[Event]:
        """All events so far, those of child processes included, as a new list."""
        with self._lock:
            self._take_over_spool()
            return list(self._events)

    def where(self, source: str | None = None, kind: str | None = None, **attributes: Any) -> list[Event]:
        """Return the events that match.

        Args:
            source: The whole source, or its subject (`breaker` matches `breaker:payments`).
            kind: The kind.
            attributes: Details that an event must carry with an equal value.
        """
        return [event for event in self.events if _matches(event, source, kind, attributes)]

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._events.append(Event(**{**entry, "seq": next(self._seq), "test": self.test}))

    def _take_over_spool(self) -> None:
        if self.spool is None:
            return
        try:
            offset = self._spool_offset
            if os.stat(self.spool).st_size <= offset:  # noqa: PTH116
                return
            with open(self.spool, "rb") as file:  # noqa: PTH123
                file.seek(offset)
                data = file.read()
        except OSError:  # no child has written yet
            return
        if offset != self._spool_offset:  # a signal handler took it over meanwhile
            return
        whole, newline, _rest = data.rpartition(b"\n")
        self._spool_offset += len(whole) + len(newline)
        for line in whole.splitlines():
            self._append(_read_entry(line) | {"at": self._clock()})


class SpoolWriter:
    """The sink of a child process: appends its events to the spool of the lab that started it.

    Args:
        path: The spool file; it is created when the first event is written.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def emit(self, source: str, kind: str, /, **attributes: Any) -> None:
        """Append one event as a JSON line; a spool that is gone (the lab ended) is no error."""
        line = to_json_line(_entry(source, kind, attributes)) + "\n"
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


_ENTRY = {"real", "process", "source", "kind", "attributes"}


def _entry(source: str, kind: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of an event where it happens; the timeline adds the rest."""
    return {
        "real": time.monotonic(),
        "process": os.getpid(),
        "source": source,
        "kind": kind,
        "attributes": attributes,
    }


def _read_entry(line: bytes) -> dict[str, Any]:
    """Return what a child wrote; a line that was cut off (a full disk) or is no child's is told as it stands."""
    with contextlib.suppress(ValueError, AttributeError):
        entry = json.loads(line)
        if entry.keys() == _ENTRY:
            return dict(entry)
    return _entry("lab", "unreadable", {"line": line[:200].decode(errors="backslashreplace")})


def to_json_line(entry: Mapping[str, Any]) -> str:
    """Return an entry as one line of JSON that any UTF-8 file takes, whatever its attributes are."""
    try:
        text = json.dumps(entry, default=told, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, a value that holds itself
        plain = {name: told(value) for name, value in entry["attributes"].items()}
        text = json.dumps({**entry, "attributes": plain}, ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()  # a lone surrogate becomes JSON's own escape


def told(value: object) -> str:
    """Return the `repr` of a value, or why it has none: a report must not fail on what it reports."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def _matches(event: Event, source: str | None, kind: str | None, attributes: Mapping[str, Any]) -> bool:
    if source is not None and event.source != source and event.source.partition(":")[0] != source:
        return False
    if kind is not None and event.kind != kind:
        return False
    return all(
        name in event.attributes and event.attributes[name] == value for name, value in attributes.items()
    )


def follow(spool: str | None) -> None:
    """Send the events of this process to the spool of a lab in another one.

    For a process that does not inherit the environment of who wants its events, such as one that a fork
    server starts.

    Args:
        spool: Path of the spool, or None for nowhere.
    """
    if isinstance(_ambient.current_sink(), Timeline) or os.environ.get(SPOOL_VARIABLE) == spool:
        return
    if spool is None:
        os.environ.pop(SPOOL_VARIABLE, None)
    else:
        os.environ[SPOOL_VARIABLE] = spool
    _ambient.set_sink(SpoolWriter(spool) if spool else None)


def _become_child() -> None:
    sink = _ambient.current_sink()
    if isinstance(sink, Timeline):
        _ambient.set_sink(SpoolWriter(sink.spool) if sink.spool else None)


os.register_at_fork(after_in_child=_become_child)
if (_inherited := os.environ.get(SPOOL_VARIABLE)) and _ambient.current_sink() is None:
    _ambient.set_sink(SpoolWriter(_inherited))
