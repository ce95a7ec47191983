"""Run the selected scenarios, report each as it ends, write the files, and leave with the exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from pytest_prodpatterns.cli._options import Refused, Settings
from pytest_prodpatterns.scenarios import (
    Outcome,
    Scenario,
    ScenarioError,
    ScenarioInterrupted,
    Verdict,
    run_scenario,
)
from pytest_prodpatterns.scenarios._fitting import fitting
from pytest_prodpatterns.scenarios._verdict import INTERRUPTED, exit_code

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pytest_prodpatterns.cli._console import Console

_FINE = (Verdict.HELD, Verdict.NOT_APPLICABLE)


def selected(words: Sequence[str], tags: Sequence[str]) -> list[Scenario]:
    """Return the scenarios that the words and tags select.

    Raises:
        Refused: When they select nothing, or a file is not valid.
    """
    from pytest_prodpatterns.scenarios import select  # noqa: PLC0415 (reads YAML)

    _see_working_directory()
    try:
        return select(words, tags)
    except ScenarioError as error:
        raise Refused(str(error)) from None


def execute(words: Sequence[str], tags: Sequence[str], target: str, settings: Settings) -> NoReturn:
    """Run the scenarios that the words and tags select, and end the process.

    Raises:
        Refused: When they select nothing, a file is not valid or cannot be written, the target is unknown or
            its library is missing, or a variable is unknown.
    """
    with contextlib.redirect_stdout(sys.stderr) if settings.as_json else contextlib.nullcontext():
        scenarios = selected(words, tags)
        if not words:
            scenarios = fitting(scenarios, target)
        outcomes, interrupted, console = _perform(scenarios, target, settings)
    order = {scenario.name: position for position, scenario in enumerate(scenarios)}
    outcomes.sort(key=lambda outcome: order[outcome.name])  # several processes end in any order
    console.summary(outcomes, interrupted=interrupted)
    _leave(outcomes, settings, interrupted=interrupted)


def _perform(
    scenarios: Sequence[Scenario], target: str, settings: Settings
) -> tuple[list[Outcome], bool, Console]:
    """Run everything; what a target prints goes to stderr where stdout belongs to a document."""
    from pytest_prodpatterns.cli._console import console_for  # noqa: PLC0415
    from pytest_prodpatterns.cli._files import refuse_unwritable  # noqa: PLC0415

    refuse_unwritable(settings)
    _refuse_unknown_variables(scenarios, settings)
    for subject in dict.fromkeys(scenario.subject for scenario in scenarios):
        _refuse_unusable_target(subject, target)
    jobs = [scenario for scenario in scenarios for _ in range(settings.repeat)]
    outcomes: list[Outcome] = []
    console = console_for(settings, [scenario.name for scenario in jobs])
    interrupted = False
    source = _outcomes(jobs, target, settings, console)
    with console:
        try:
            for outcome in source:
                outcomes.append(outcome)
                console.done(outcome)
                if settings.fail_fast and outcome.verdict not in _FINE:
                    break
        except KeyboardInterrupt as interrupt:
            interrupted = True
            for outcome in _cut_short(source, interrupt):
                outcomes.append(outcome)
                console.done(outcome)
        except ScenarioError as error:
            raise Refused(str(error)) from None
    return outcomes, interrupted, console


def _leave(outcomes: Sequence[Outcome], settings: Settings, *, interrupted: bool) -> NoReturn:
    from pytest_prodpatterns.cli._files import write_files  # noqa: PLC0415

    write_files(outcomes, settings)
    codes = [outcome.verdict.exit_code for outcome in outcomes]
    if interrupted:
        _say_interrupted(outcomes)
        sys.exit(4 if 4 in codes else INTERRUPTED)
    sys.exit(exit_code(codes))


def _outcomes(
    jobs: Sequence[Scenario], target: str, settings: Settings, console: Console
) -> Generator[Outcome, None, None]:
    if settings.workers > 1 and len(jobs) > 1:
        from pytest_prodpatterns.cli._pool import run_in_processes  # noqa: PLC0415

        yield from run_in_processes(jobs, target, settings, console.begin)
        return
    for scenario in jobs:
        console.begin(scenario.name)
        yield run_scenario(
            scenario,
            target=target,
            seed=settings.seed,
            variables=settings.variables,
            verbose=settings.verbose,
        )


def _cut_short(source: Generator[Outcome, None, None], interrupt: KeyboardInterrupt) -> list[Outcome]:
    """Let what is under way roll back, wherever Ctrl-C arrived, and return how far it came."""
    if not isinstance(interrupt, ScenarioInterrupted):
        try:
            source.throw(interrupt)  # it may have come between two outcomes, while other processes work on
        except KeyboardInterrupt as caught:
            interrupt = caught
    return [interrupt.outcome] if isinstance(interrupt, ScenarioInterrupted) else []


def _refuse_unknown_variables(scenarios: Sequence[Scenario], settings: Settings) -> None:
    if settings.variables:
        from pytest_prodpatterns.scenarios._runner import checked  # noqa: PLC0415

        try:
            for scenario in scenarios:
                checked(scenario, settings.variables)
        except ScenarioError as error:
            raise Refused(str(error)) from None


def _refuse_unusable_target(subject: str, spec: str) -> None:
    from pytest_prodpatterns import targets  # noqa: PLC0415 (not light)

    try:
        target = targets.resolve(subject, spec)
        if isinstance(target, targets.Startable):
            target.try_out()
        target.close()
    except targets.TargetError as error:
        known = targets.known(subject)
        listed = spec in known or ":" in spec or " " in spec or all(name in str(error) for name in known)
        or_yours = "-- COMMAND" if subject == "server" else "module:callable"
        hint = "" if listed else f"\nKnown targets of {subject}: {', '.join(known)}, or {or_yours}"
        raise Refused(f"{error}{hint}") from None


def _say_interrupted(outcomes: Sequence[Outcome]) -> None:
    last = next((outcome for outcome in outcomes if outcome.interrupted), None)
    if last is not None and last.verdict is Verdict.ROLLBACK_FAILED:
        click.echo(f"Interrupted during {last.name}; a rollback failed: {last.evidence}", err=True)
    else:
        where = f" during {last.name}" if last is not None else ""
        click.echo(f"Interrupted{where}; everything was rolled back.", err=True)


def _see_working_directory() -> None:
    """Let `module:callable` and the functions of a user's file be found where the command is called."""
    here = os.getcwd()  # noqa: PTH109
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
