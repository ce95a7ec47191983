"""Run a scenario in this process: the engine is chaostoolkit-lib, this is the door to it.

The engine keeps its state in module globals and sets signal handlers, so there is one run at a time, in the
main thread; actions drive loops of their own, so no loop may be running.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.lab import new_seed, parse_seed
from pytest_prodpatterns.scenarios._problems import ScenarioError, suggest
from pytest_prodpatterns.scenarios._run import running
from pytest_prodpatterns.scenarios._verdict import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_prodpatterns.scenarios._scenario import Scenario
    from pytest_prodpatterns.scenarios._session import Session
    from pytest_prodpatterns.targets import Target

_LOGGERS: Final = ("chaostoolkit", "chaostoolkit-lib")


class ScenarioInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a run, raised again after everything was rolled back.

    Attributes:
        outcome: How far the run came.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.evidence)
        self.outcome = outcome


def run_scenario(
    scenario: Scenario | str,
    *,
    target: str | Target = "ours",
    seed: int | None = None,
    variables: Mapping[str, Any] | None = None,
    verbose: bool = False,
) -> Outcome:
    """Run a scenario against a target, and return the verdict.

    Args:
        scenario: A loaded scenario, the name of a packaged one, or the path of a file.
        target: `ours`, the name of a library, `module:callable`, or a target object, which stays open.
        seed: What every random stream derives from; by default a new one.
        variables: Values for names in the file's configuration.
        verbose: Whether the engine may log.

    Raises:
        ScenarioError: When the scenario is unknown or not valid, or a variable is unknown.
        RuntimeError: Inside a running loop, outside the main thread, or during another run.
        ScenarioInterrupted: After Ctrl-C or SIGTERM; everything was rolled back.
    """
    _check_place()
    if isinstance(scenario, str):
        from pytest_prodpatterns.scenarios._catalogue import get  # noqa: PLC0415

        scenario = get(scenario)
    seed = new_seed() if seed is None else parse_seed(seed)
    values = {**checked(scenario, variables or {}), "target": _spec(target), "seed": seed}
    importlib.import_module("chaoslib.experiment")  # slow, and no part of the scenario's duration
    started = time.perf_counter()
    journal = _play(scenario, target, values, verbose=verbose)
    outcome = _outcome(scenario, journal, time.perf_counter() - started)
    if outcome.interrupted:
        raise ScenarioInterrupted(outcome)
    return outcome


def _play(
    scenario: Scenario, target: str | Target, values: dict[str, Any], *, verbose: bool
) -> dict[str, Any]:
    from chaoslib.exceptions import ChaosException  # noqa: PLC0415
    from chaoslib.experiment import run_experiment  # noqa: PLC0415

    from pytest_prodpatterns.scenarios import control  # noqa: PLC0415
    from pytest_prodpatterns.scenarios._session import Order  # noqa: PLC0415

    experiment = scenario.experiment()
    order = Order(scenario.identity, target, values["seed"])
    control.place(order)
    try:
        with _logging(verbose=verbose):
            journal: dict[str, Any] = run_experiment(
                experiment, settings={"runtime": experiment["runtime"]}, experiment_vars=(values, {})
            )
    except ChaosException as error:
        raise ScenarioError(f"{scenario.path}: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "CancelledError" or order.session is None:
            raise
        journal = _torn(order.session, error)
    finally:
        control.place(None)
    return journal


def _torn(session: Session, error: BaseException) -> dict[str, Any]:
    """Finish what a cancelled action tore through: the engine expects an `Exception`."""
    journal: dict[str, Any] = {"status": "aborted", "deviated": False}
    session.findings.early = (Verdict.NOT_INJECTED, f"an action raised {type(error).__name__}")
    session.finish(journal)
    return journal


def _outcome(scenario: Scenario, journal: dict[str, Any], duration: float) -> Outcome:
    entry = journal["prodpatterns"]
    return Outcome(
        name=scenario.name,
        subject=scenario.subject,
        target=entry["target"],
        seed=entry["seed"],
        verdict=Verdict(entry["verdict"]),
        evidence=entry["evidence"],
        duration=duration,
        interrupted=entry.get("interrupted", False),
        timeline=entry["timeline"],
        journal=journal,
    )


def _spec(target: str | Target) -> str:
    return target if isinstance(target, str) else target.name


def checked(scenario: Scenario, variables: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in variables:
        if name not in scenario.variables:
            hint = suggest(name, scenario.variables - {"target", "seed"})
            raise ScenarioError(f"{scenario.name} has no variable {name!r}{hint}")
        if name in ("target", "seed"):
            raise ScenarioError(f"the variable {name!r} has an option of its own: use --{name}")
    return variables


def _check_place() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a scenario runs in the main thread only: the engine sets signal handlers")
    if (current := running()) is not None:
        raise RuntimeError(f"the scenario {current.name} is running; one at a time in a process")
    asyncio = sys.modules.get("asyncio")  # not loaded: then no loop can be running
    if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001
        raise RuntimeError(
            "a scenario runs its own loops, and one is running already: call it from plain code"
        )


@contextlib.contextmanager
def _logging(*, verbose: bool) -> Iterator[None]:
    """Let the engine's loggers speak on stderr, or not at all."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger, logger.disabled, logger.level, logger.propagate) for logger in loggers]
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
    for logger in loggers:
        logger.disabled = not verbose
        if verbose:
            logger.setLevel(logging.INFO)
            logger.propagate = False
            logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, disabled, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.disabled, logger.propagate = disabled, propagate
