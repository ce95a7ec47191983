"""Keep the engine's signal handlers out of forked children.

The engine turns SIGTERM into an exception while a run lasts.  A worker that a target forks would inherit
that: told to terminate, it would raise somewhere inside the target's loop, which may well swallow it.
"""

from __future__ import annotations

import os
import signal

_guarding = False


def guard_children() -> None:
    """From now on, give a forked child the default reaction to the signals that the engine handles."""
    global _guarding  # noqa: PLW0603
    if not _guarding:
        _guarding = True
        os.register_at_fork(after_in_child=_reset)


def _reset() -> None:
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        handler = signal.getsignal(number)
        if getattr(handler, "__module__", None) == "chaoslib.exit":
            signal.signal(number, signal.SIG_DFL)
