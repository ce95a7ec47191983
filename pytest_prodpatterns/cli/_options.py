"""What `run` and `check` share: their options, and how they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from pytest_prodpatterns.lab import new_seed, parse_seed

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Refused(click.ClickException):
    """Wrong usage that click itself cannot see: an unknown scenario or target, a file that is not valid."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How scenarios are run, and where results go.

    Attributes:
        seed: What every random stream derives from.
        repeat: How often each scenario runs.
        workers: How many processes run them; 1 is this process.
        fail_fast: Whether to stop behind the first that is not held.
        verbose: Whether the engine may log.
        as_json: Whether stdout holds one JSON document and nothing else.
        variables: Values for the files' configuration.
        journal: Where the Chaos Toolkit's journal goes.
        junit: Where JUnit XML goes.
        events: Where the timelines go, as JSON lines.
    """

    seed: int
    repeat: int = 1
    workers: int = 1
    fail_fast: bool = False
    verbose: bool = False
    as_json: bool = False
    variables: dict[str, Any] = field(default_factory=dict)
    journal: Path | None = None
    junit: Path | None = None
    events: Path | None = None


def _seed(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int:
    try:
        return new_seed() if value is None else parse_seed(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _variables(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, Any]:
    if not values:
        return {}
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"expected name=value or name:type=value, not {value!r}")
    from chaoslib import convert_vars  # noqa: PLC0415 (slow to import)

    try:
        return dict(convert_vars(list(values)))
    except ValueError as error:
        raise click.BadParameter(f"{error}; expected name=value or name:type=value") from None


def _file(name: str, what: str) -> Callable[[_Command], _Command]:
    kind = click.Path(dir_okay=False, writable=True, path_type=Path)
    return click.option(name, type=kind, metavar="FILE", help=what)


_OPTIONS = (
    click.option("--seed", callback=_seed, metavar="N", help="Seed of everything random; default: a new one."),
    click.option("--repeat", type=click.IntRange(min=1), default=1, metavar="N", help="Run each N times."),
    click.option("-j", "workers", type=click.IntRange(min=1), default=1, metavar="N", help="Run in N processes."),
    click.option("--fail-fast", is_flag=True, help="Stop behind the first that is not held."),
    click.option(
        "--var", "variables", multiple=True, callback=_variables, metavar="NAME=VALUE",
        help="Set a value of the file's configuration; NAME:int=VALUE for a number.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."),
    _file("--junit", "Write the verdicts as JUnit XML."),
    _file("--journal", "Write the Chaos Toolkit's journal; a list when several scenarios ran."),
    _file("--events", "Write the timelines, one JSON object a line."),
    click.option("-v", "--verbose", is_flag=True, help="Let the engine log on stderr."),
)  # fmt: skip


def execution_options(command: _Command) -> _Command:
    """Add the options that make up `Settings`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
