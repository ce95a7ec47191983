"""`ShutdownProbe`: starts a server, puts requests in flight, tells it to stop, and reports what came of all that.

Theory of operation.  A run is synchronous: it drives one server from one thread, step by step.  `run` gives it a
thread of its own, so that the loop that awaits it goes on, and virtual time, which rules that loop alone, does not
reach it: processes live in real time.  A thread cannot be cancelled; so whoever gives up kills the server, whereupon
each wait of the run ends, and waits until the run has tidied up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Unpack

from pytest_prodpatterns.targets.server._errors import ServerError
from pytest_prodpatterns.targets.server._shutdown_plan import Command, Options, plan_of
from pytest_prodpatterns.targets.server._shutdown_report import NotObserved, ShutdownReport
from pytest_prodpatterns.targets.server._shutdown_run import Run

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


class ShutdownProbe:
    """Finds out how servers shut down; each run starts one, and leaves nothing of it behind.

    Attributes:
        reports: Those of all runs so far.
    """

    __module__ = "pytest_prodpatterns.targets.server.shutdown"

    def __init__(self) -> None:
        self.reports: list[ShutdownReport] = []

    async def run(self, command: Command, **options: Unpack[Options]) -> ShutdownReport:
        """Start a server, stop it, and return what that was like; the loop goes on meanwhile.

        Args:
            command: The words of a command, with `{port}` or `{uds}` where it is to listen; it also gets PORT.
            options: See `Options`.

        Raises:
            ServerError: The server did not come up.
            NotObserved: The requests were not seen inside the server, or it ended too early.
            TypeError: Something given is of the wrong kind.
            ValueError: Something given cannot be meant.
        """
        run = Run(plan_of(command, options))
        return self._noted(await _beside(run))

    def run_sync(self, command: Command, **options: Unpack[Options]) -> ShutdownReport:
        """Do the same in this thread."""
        return self._noted(Run(plan_of(command, options))())

    def _noted(self, report: ShutdownReport) -> ShutdownReport:
        self.reports.append(report)
        return report


def assert_graceful_shutdown(
    command: Command,
    *,
    code: int | Collection[int] | None = None,
    strict: bool = False,
    **options: Unpack[Options],
) -> ShutdownReport:
    """Assert that a server shuts down as it should, as far as the options ask for it.

    Always: it ends in time, with an exit code that means a clean end; no process is left, no traceback is printed.
    With requests in flight: they are completed.  While new connections come: none is dropped.  With a readiness
    path: it says no before the listener is closed.

    Args:
        command: The words of a command, with `{port}` or `{uds}` where it is to listen; it also gets PORT.
        code: The exit code, or several.  By default 0; if requests were in flight, also the signal itself and
            128 + its number: when all is done, some servers (uvicorn) send themselves the signal again, and shells,
            wrappers and the JVM say that in their exit code.
        strict: Whether new connections that are refused, or told to try again (503), count as dropped, too.
        options: As for `ShutdownProbe.run`.

    Returns:
        The report.

    Raises:
        AssertionError: It does not.
        NotObserved: That could not be seen.
        ServerError: The server did not come up.
    """
    plan = plan_of(command, options)
    report = Run(plan)()
    if plan.handled:
        report.assert_in_flight_completed()
    if plan.preset.route_for:
        report.assert_no_dropped_requests(strict=strict)
    if plan.readiness is not None:
        report.assert_readiness_flipped_before_listener_closed()
    report.assert_exit(plan.usual_codes if code is None else code)
    report.assert_no_survivors()
    report.assert_no_traceback()
    return report


async def _beside(run: Run) -> ShutdownReport:
    """Do a run in a thread; whoever cancels this waits until nothing of the server is left."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="shutdown-probe")
    future = asyncio.get_running_loop().run_in_executor(executor, run)
    cancelled: asyncio.CancelledError | None = None
    try:
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError as error:
                cancelled = error
                run.give_up()
            except BaseException:  # noqa: BLE001 - it is raised below
                break
        if cancelled is not None:
            raise cancelled
        return _result(future)
    finally:
        if not future.done():
            run.give_up()
        executor.shutdown(wait=True)


def _result(future: asyncio.Future[ShutdownReport]) -> ShutdownReport:
    """Return what a run gave, or raise what it raised; how that came through the thread is of no interest."""
    try:
        return future.result()
    except (ServerError, NotObserved) as error:
        raise error.with_traceback(None) from None
