"""How a process runs a server to its end: the loop, the log, the exit code, and no thread that holds it up."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from pytest_prodpatterns.patterns.server._signals import noted
from pytest_prodpatterns.patterns.server._watchdog import Watchdog, stderr

log = logging.getLogger("pytest_prodpatterns.server")
LAST_MOMENT: Final = 2.0
"""Seconds that a process has to leave after an end that was not clean: a thread or an atexit hook may hold it."""


def run(serve: Callable[[], Coroutine[Any, Any, int]], uvloop: bool | None, watchdog: Watchdog) -> int:
    """Run a server in a new event loop and return the exit code.

    Args:
        serve: Serves until a signal comes.
        uvloop: Whether to use uvloop; None: where it is installed.
        watchdog: Ends the process if this does not.
    """
    set_up_logging()
    if not faulthandler.is_enabled():
        faulthandler.enable(stderr())  # a supervisor asks for stacks before it kills
    with noted(), asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
        code = runner.run(_guarded(serve))
        if code:
            watchdog.hurry(LAST_MOMENT)
    return code


def set_up_logging() -> None:
    """Log to stderr, unless the application has set up its logging."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


async def _guarded(serve: Callable[[], Coroutine[Any, Any, int]]) -> int:
    try:
        return await serve()
    except OSError as error:
        log.error("cannot serve: %s", error)  # noqa: TRY400 - an address in use needs no traceback
    except Exception:
        log.exception("cannot serve")
    return 1


def _loop_factory(wanted: bool | None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if wanted is False:
        return None
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        if wanted:
            raise RuntimeError(
                "uvloop is not installed; install it with: python -m pip install uvloop"
            ) from None
        return None
    return uvloop.new_event_loop
