"""`-j N`: N worker processes, one scenario each at a time; no thread, so Ctrl-C arrives where we wait."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final, cast

from pytest_prodpatterns.scenarios import Outcome, Scenario, ScenarioInterrupted, Verdict, packaged
from pytest_prodpatterns.scenarios._verdict import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_prodpatterns.cli._options import Settings

GRACE: Final = 10.0
"""Seconds that an interrupted worker has to roll back before it is killed."""


def run_in_processes(
    jobs: Sequence[Scenario], target: str, settings: Settings, begin: Callable[[str], None]
) -> Iterator[Outcome]:
    """Run scenarios in worker processes, and yield outcomes as they come.

    Args:
        jobs: The scenarios, in the order in which they begin.
        target: A spec for `targets.resolve`.
        settings: How they are run.
        begin: Called with the name of each that begins.

    Raises:
        ScenarioInterrupted: After Ctrl-C or SIGTERM, when the workers had a run under way; they rolled back.
    """
    waiting = list(reversed(jobs))
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        # As the engine does in one process.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        stack.callback(signal.signal, signal.SIGTERM, before)
        count = min(settings.workers, len(jobs))
        workers: list[_Worker] = []
        for _ in range(count):
            workers.append(_Worker(target, settings))
            stack.callback(workers[-1].stop)
        try:
            for worker in workers:
                _give(worker, waiting, selector, begin)
            while selector.get_map():
                for key, _ in selector.select():
                    selector.unregister(key.fileobj)
                    yield key.data.answer()
                    _give(key.data, waiting, selector, begin)
        except KeyboardInterrupt:
            _interrupt(workers)
            raise


def _give(
    worker: _Worker, waiting: list[Scenario], selector: selectors.BaseSelector, begin: Callable[[str], None]
) -> None:
    if waiting:
        scenario = waiting.pop()
        begin(scenario.name)
        selector.register(worker.ask(scenario), selectors.EVENT_READ, worker)


def _interrupt(workers: Sequence[_Worker]) -> None:
    """Let each worker roll back.

    Raises:
        ScenarioInterrupted: With the outcome that stands for all: one whose rollback failed, else any.
    """
    busy = [worker for worker in workers if worker.scenario is not None]
    for worker in busy:
        worker.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE
    outcomes = [worker.answer(deadline) for worker in busy]
    if outcomes:
        raise ScenarioInterrupted(min(outcomes, key=lambda one: one.verdict is not Verdict.ROLLBACK_FAILED))


@dataclass(eq=False)
class _Worker:
    target: str
    settings: Settings
    scenario: Scenario | None = None
    began: float = 0.0
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pytest_prodpatterns.cli._worker"]
        path = os.pathsep.join(filter(None, sys.path))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the child's to unblock
        try:
            return subprocess.Popen(  # noqa: S603 (our own module)
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": path},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def ask(self, scenario: Scenario) -> IO[str]:
        """Begin a scenario, and return the stream on which the answer will come."""
        if self.process.poll() is not None:
            self.stop()
            self.process = self._start()
        self.scenario, self.began = scenario, time.perf_counter()
        request = {
            "path": str(scenario.path),
            "name": scenario.name,
            "packaged": scenario.name in packaged(),
            "target": self.target,
            "seed": self.settings.seed,
            "variables": self.settings.variables,
            "verbose": self.settings.verbose,
        }
        stdin, stdout = self._streams()
        with contextlib.suppress(BrokenPipeError):  # it died: the answer will say so
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        return stdout

    def answer(self, deadline: float | None = None) -> Outcome:
        """Return the outcome of the scenario that was asked for; a worker that died could not act."""
        scenario, self.scenario = self.scenario, None
        if scenario is None:
            raise RuntimeError("no scenario was asked for")
        stdout = self._streams()[1]
        if deadline is not None and not _readable(stdout, deadline):
            self.process.kill()
        line = stdout.readline()
        if line:
            return Outcome.from_plain(json.loads(line))
        return self._lost(scenario)

    def _lost(self, scenario: Scenario) -> Outcome:
        code = self.process.wait()
        early = code == INTERRUPTED
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
        lost = f"the process that ran it was lost ({how}); nothing could be rolled back"
        return Outcome(
            name=scenario.name,
            subject=scenario.subject,
            target=self.target,
            seed=self.settings.seed,
            verdict=Verdict.NOT_INJECTED if early else Verdict.ROLLBACK_FAILED,
            evidence="interrupted by Ctrl-C before it began" if early else lost,
            duration=time.perf_counter() - self.began,
            interrupted=early,
        )

    def stop(self) -> None:
        """End the process: it reads the end of its stdin, or is killed at a deadline."""
        stdin, stdout = self._streams()
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        if self.scenario is not None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        stdout.close()

    def _streams(self) -> tuple[IO[str], IO[str]]:
        return cast(IO[str], self.process.stdin), cast(IO[str], self.process.stdout)


def _readable(stream: IO[str], deadline: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(max(0.0, deadline - time.monotonic())))
