"""How a fault that strikes in a child process tells its lab so, whichever way the child was started."""

from __future__ import annotations

from typing import Any

from pytest_prodpatterns.lab import current_lab
from pytest_prodpatterns.lab._timeline import SpoolWriter


class Teller:
    """Carries the way to the lab's timeline along to wherever it is pickled to.

    A child that a fork server started before the lab began has not inherited it.

    Args:
        name: The name of the injected fault.
    """

    def __init__(self, name: str) -> None:
        lab = current_lab()
        self._name = name
        self._spool = lab.timeline.spool if lab is not None else None

    def fired(self, **attributes: Any) -> None:
        """Record, in a child process, that the fault takes effect now."""
        if self._spool is not None:
            SpoolWriter(self._spool).emit(f"fault:{self._name}", "fired", **attributes)
