"""The undo stack: each injected fault leaves here how to take it back."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_prodpatterns.lab._ambient import emit


class RollbackError(ExceptionGroup[Exception]):
    """Some faults could not be undone; the group holds one exception for each, with a note that names it."""


@dataclass(eq=False, slots=True)
class Undo:
    """One way back.

    Attributes:
        name: What is undone, for the report.
        action: A callable without arguments; it may be called from any thread, with no loop running.
        done: Whether it ran.
    """

    name: str
    action: Callable[[], Any]
    done: bool = False

    def run(self) -> None:
        """Take the fault back, once; a second call does nothing.

        Raises:
            Exception: Whatever the action raised, with a note that names the fault.
        """
        if self.done:
            return
        self.done = True
        try:
            self.action()
        except Exception as error:
            error.add_note(f"while undoing {self.name}")
            emit("lab", "rollback-failed", name=self.name, error=repr(error))
            raise
        emit("lab", "undone", name=self.name)


class UndoStack:
    """Ways back, undone last-in-first-out, each on its own.

    A forked child inherits the stack but not the duty: there `run` does nothing.
    """

    def __init__(self) -> None:
        self._entries: list[Undo] = []
        self._pid = os.getpid()

    def push(self, name: str, action: Callable[[], Any]) -> Undo:
        """Register how to take a fault back.

        Args:
            name: What is undone, for the report.
            action: A callable without arguments, synchronous.

        Returns:
            The entry; call its `run()` to undo earlier than at the end of the test.
        """
        entry = Undo(name, action)
        self._entries.append(entry)
        return entry

    def __len__(self) -> int:
        return sum(not entry.done for entry in self._entries)

    def run(self) -> list[Exception]:
        """Undo everything that is still to be undone, newest first.

        An action that fails does not stop the others. An interrupt (Ctrl-C, a time-out's signal) lets the
        remaining ones run first and is raised again at the end.

        Returns:
            The exceptions of the actions that failed.
        """
        failures: list[Exception] = []
        interrupt: BaseException | None = None
        while self._entries and self._pid == os.getpid():
            entry = self._entries.pop()
            try:
                entry.run()
            except Exception as error:  # noqa: BLE001
                failures.append(error)
            except BaseException as error:  # noqa: BLE001
                interrupt = error
        if interrupt is not None:
            raise interrupt
        return failures


def describe(failures: list[Exception]) -> str:
    """Return the text of failed undo actions, one block each, for a report."""
    return "\n".join("".join(traceback.format_exception(error)).rstrip() for error in failures)
