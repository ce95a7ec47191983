"""`ChaosLab`: the seed, the timeline, the undo stack and the injected faults of one experiment."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import tempfile
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from pytest_prodpatterns.lab import _ambient, _seed
from pytest_prodpatterns.lab._timeline import SPOOL_VARIABLE, Timeline
from pytest_prodpatterns.lab._undo import RollbackError, Undo, UndoStack

_labs: list[ChaosLab] = []
_spools = itertools.count(1)


class InjectedFault:
    """A fault that somebody asked for, and how often it fired.

    Attributes:
        name: Where it is injected, for example `charge`.
        description: What it does and when, for the report.
        fired: How often it took effect.
    """

    __slots__ = ("description", "fired", "name")

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.description = description
        self.fired = 0
        _ambient.emit(f"fault:{name}", "armed", description=description)

    def fire(self, **attributes: Any) -> None:
        """Record that the fault takes effect now.

        Args:
            attributes: Details for the timeline, for example `call=3`.
        """
        self.fired += 1
        _ambient.emit(f"fault:{self.name}", "fired", **attributes)

    def __repr__(self) -> str:
        return f"<InjectedFault {self.name}: {self.description}, fired {self.fired} times>"


class ChaosLab:
    """Own what one experiment shares: seed, clock, timeline, undo stack, injected faults.

    Inside its `with` block the lab is the current one: events of every component and injector go to its
    timeline. Labs nest; the innermost is current.

    Args:
        seed: What every random stream derives from.
        test: The test id, or the name of the scenario; streams depend on it.
        strict: Whether a fault that never fired is an error.

    Attributes:
        timeline: What happened.
        undo: How to take back what was injected.
        faults: The faults that were asked for.
        drawn: Whether somebody asked for a random stream.

    Raises:
        RollbackError: On leaving the block, when faults could not be undone.
    """

    def __init__(self, seed: int | None = None, test: str = "", *, strict: bool = False) -> None:
        self.seed = _seed.new_seed() if seed is None else _seed.parse_seed(seed)
        self.test = test
        self.strict = strict
        self.timeline = Timeline(test, spool=_spool_path())
        self.undo = UndoStack()
        self.faults: list[InjectedFault] = []
        self.drawn = False
        self._exit = contextlib.ExitStack()
        self._pid = os.getpid()

    @property
    def clock(self) -> _ambient.Clock:
        """The ambient clock, read at each call."""
        return _ambient.now

    def rng(self, name: str) -> random.Random:
        """Return a new random stream that depends on (seed, test id, name) alone.

        Args:
            name: What the stream is for. The same name gives the same numbers again.
        """
        self.drawn = True
        return _seed.stream(self.seed, self.test, name)

    def inject(self, name: str, description: str, undo: Callable[[], Any] | None = None) -> InjectedFault:
        """Register a fault, so that it is undone, and missed if it never fires.

        Args:
            name: Where it is injected.
            description: What it does and when.
            undo: How to take it back; None where nothing stays behind.
        """
        fault = InjectedFault(name, description)
        self.faults.append(fault)
        if undo is not None:
            self.undo.push(f"{name}: {description}", undo)
        return fault

    def on_undo(self, name: str, action: Callable[[], Any]) -> Undo:
        """Register how to take something back at the end; see `UndoStack.push`."""
        return self.undo.push(name, action)

    def never_fired(self) -> list[InjectedFault]:
        """Return the faults that were asked for and have not taken effect, in no process."""
        fired = [event for event in self.timeline.where("fault", "fired") if event.process != self._pid]
        elsewhere = {event.source for event in fired}  # a child counts in its own copy of the fault
        return [fault for fault in self.faults if not fault.fired and f"fault:{fault.name}" not in elsewhere]

    def __enter__(self) -> Self:
        _labs.append(self)
        self._exit.callback(_labs.remove, self)
        self._exit.callback(self._close_spool)
        self._exit.callback(_ambient.set_sink, _ambient.set_sink(self.timeline))
        if self.timeline.spool is not None:
            self._exit.callback(_restore_environment, os.environ.get(SPOOL_VARIABLE))
            os.environ[SPOOL_VARIABLE] = self.timeline.spool
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._exit:
            failures = self.undo.run()
        if failures:
            raise RollbackError("faults that could not be undone", failures)

    def _close_spool(self) -> None:
        if self._pid != os.getpid():  # a forked child left the block: the spool is its parent's
            return
        len(self.timeline)  # takes over what children wrote to the end
        if self.timeline.spool is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.timeline.spool)  # noqa: PTH108
            self.timeline.spool = None


def current_lab() -> ChaosLab | None:
    """Return the innermost lab whose `with` block is entered, or None."""
    return _labs[-1] if _labs else None


def inject(name: str, description: str, undo: Callable[[], Any] | None = None) -> InjectedFault:
    """Register a fault with the current lab; without one it is only counted.

    Args:
        name: Where it is injected.
        description: What it does and when.
        undo: How to take it back; without a lab, that is the caller's own duty.
    """
    lab = current_lab()
    return InjectedFault(name, description) if lab is None else lab.inject(name, description, undo)


def _spool_path() -> str:
    """Return a path that nobody used before: pids come round again, and a killed run leaves its spool."""
    name = f"prodpatterns-{os.getpid()}-{next(_spools)}-{os.urandom(4).hex()}.jsonl"
    return os.path.join(tempfile.gettempdir(), name)  # noqa: PTH118


def _restore_environment(previous: str | None) -> None:
    if previous is None:
        os.environ.pop(SPOOL_VARIABLE, None)
    else:
        os.environ[SPOOL_VARIABLE] = previous
