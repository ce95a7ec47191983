"""A tiny subject for tests of the frame: actions, probes and a target that do what a file tells them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from pytest_prodpatterns import CircuitBreaker
from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.scenarios import NotApplicable, NotInjected, current_run

CONTROL = "pytest_prodpatterns.scenarios.control"


class Target:
    """A target that can do nothing but say so."""

    name, version, description = "tiny", "1.0", "a target for tests"

    def __init__(self, lacks: tuple[str, ...] = (), *, close_error: Exception | None = None) -> None:
        self.lacks, self.close_error, self.closed = lacks, close_error, 0

    def missing(self, requirement: str) -> str | None:
        return f"tiny has no {requirement}" if requirement in self.lacks else None

    def close(self) -> None:
        self.closed += 1
        if self.close_error is not None:
            raise self.close_error


def act(calls: int = 1) -> None:
    """Let a dependency be entered."""
    for call in range(1, calls + 1):
        emit("dependency:tiny", "entered", call=call)


def fault(*, fires: bool = True, undo: str = "") -> None:
    """Arm a fault; `undo` names a file that its undoing removes."""
    run = current_run()
    injected = run.lab.inject("tiny", "breaks", (lambda: Path(undo).unlink()) if undo else None)
    if fires:
        injected.fire(call=1)


def open_something(path: str) -> None:
    """Leave a note in `path` when the run's exit stack closes."""
    current_run().stack.callback(lambda: Path(path).write_text("closed"))


def draw() -> None:
    """Draw a number from the run's stream."""
    emit("tiny:draw", "drawn", number=current_run().lab.rng("tiny").random())


def fail(how: str) -> None:
    """Fail in one of many ways."""
    errors: dict[str, BaseException] = {
        "value": ValueError("no good"),
        "not applicable": NotApplicable("it has no wheels"),
        "not injected": NotInjected("the disk is read-only"),
        "cancelled": asyncio.CancelledError(),
        "exit": SystemExit(3),
        "interrupt": KeyboardInterrupt(),
    }
    if how == "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
    if how != "sigterm":
        raise errors[how]


def fail_every_other_time(path: str) -> None:
    """Fail in every second run that shares a path."""
    count = Path(path).stat().st_size if Path(path).exists() else 0
    Path(path).write_bytes(b"x" * (count + 1))
    act()
    if count % 2:
        raise ValueError("this time")


def make_deaf(failure_threshold, recovery_timeout, success_threshold, call_timeout):
    """Make a breaker that hears of no failure threshold."""
    return CircuitBreaker(10**6, recovery_timeout, success_threshold, call_timeout=call_timeout)


def fork_and_report(path: str) -> None:
    """Fork a child that writes which reaction to SIGTERM it has."""
    child = os.fork()
    if child == 0:
        handler = signal.getsignal(signal.SIGTERM)
        Path(path).write_text(str(handler == signal.SIG_DFL))
        os._exit(0)
    os.waitpid(child, 0)


def die() -> None:
    """Take the whole process down."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(path: str) -> None:
    """Tell through a pipe that this point is reached, then wait for an interrupt."""
    with Path(path).open("w") as pipe:
        pipe.write("here")
    for _ in range(600):
        time.sleep(0.1)


def entered(at_least: int) -> dict[str, Any]:
    """Promise that the dependency was entered often enough."""
    seen = len(current_run().lab.timeline.where("dependency", "entered"))
    if not seen:
        return {"status": "vacuous", "evidence": "no call", "observed": 0}
    status = "held" if seen >= at_least else "deviated"
    return {"status": status, "evidence": f"{seen} of {at_least}\ncalls entered", "observed": seen}


def broken_probe() -> None:
    """Fail as a probe should not."""
    raise OSError("the probe broke")


def plain_probe(answer: int = 42) -> int:
    """Answer like a probe of somebody else's."""
    return answer


async def in_vain() -> None:
    """Cannot be called by the engine."""


def activity(func: str, kind: str = "action", **arguments: Any) -> dict[str, Any]:
    provider = {"type": "python", "module": "tiny", "func": func, "arguments": arguments}
    extra = {"tolerance": ["held"]} if kind == "probe" else {}
    return {"type": kind, "name": func.replace("_", " "), **extra, "provider": provider}


def experiment(*method: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a valid scenario with this method; `changes` replace top-level keys (`_` for `-`)."""
    data: dict[str, Any] = {
        "version": "1.0.0",
        "title": "A tiny scenario",
        "description": "It does next to nothing.",
        "tags": ["tiny"],
        "configuration": {
            "target": {"type": "env", "key": "PRODPATTERNS_TARGET", "default": "ours"},
            "seed": {"type": "env", "key": "PRODPATTERNS_SEED", "env_var_type": "int", "default": 0},
        },
        "extensions": [
            {"name": "prodpatterns", "scenario": "tiny/one", "subject": "breaker", "explain": "Prose."}
        ],
        "controls": [{"name": "prodpatterns", "provider": {"type": "python", "module": CONTROL}}],
        "runtime": {"rollbacks": {"strategy": "always"}},
        "steady-state-hypothesis": {
            "title": "It is entered",
            "probes": [activity("entered", "probe", at_least=1)],
        },
        "method": list(method) or [activity("act")],
        "rollbacks": [],
    }
    for key, value in changes.items():
        data[key.replace("_", "-")] = value
    return data


def write(path: Path, *method: dict[str, Any], **changes: Any) -> Path:
    """Write such a scenario to a file."""
    path.write_text(yaml.safe_dump(experiment(*method, **changes), sort_keys=False))
    return path


if sys.path[0] != str(Path(__file__).parent):
    sys.path.insert(0, str(Path(__file__).parent))
