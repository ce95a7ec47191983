"""What the user sees: a progress bar and a table on a terminal, plain lines in a pipe, one document as JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, Self

import click

from pytest_prodpatterns.report._table import counts, line, summary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from pytest_prodpatterns.cli._options import Settings
    from pytest_prodpatterns.scenarios import Outcome

_EVIDENCE: Final = 44
"""Columns that the evidence needs to stand beside the name."""

_STYLES: Final = {
    "held": "green",
    "deviated": "bold red",
    "not applicable": "dim",
    "not injected": "bold yellow",
    "rollback failed": "bold magenta",
}


class Console:
    """Plain lines; the other consoles differ where they must.

    Args:
        settings: How scenarios are run.
        names: The scenarios that will run, each as often as it will.
    """

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self.settings = settings
        self.total = len(names)
        self.width = max(map(len, names), default=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the screen in order."""

    def begin(self, name: str) -> None:
        """Say that a scenario begins."""

    def done(self, outcome: Outcome) -> None:
        """Say how a scenario ended."""
        click.echo(line(outcome.as_dict(), self.width))

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        """Say how all of them ended, and how to see the bad ones again."""
        if outcomes:
            click.echo(f"\n{summary([outcome.as_dict() for outcome in outcomes], self.settings.seed)}")
            click.echo("".join(_again(outcomes)), nl=False)


class JsonConsole(Console):
    """Nothing but one document at the end."""

    def done(self, outcome: Outcome) -> None:
        """Stay silent."""

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        """Print the document."""
        from pytest_prodpatterns.cli._files import document  # noqa: PLC0415

        click.echo(document(outcomes, self.settings.seed))


class TerminalConsole(Console):
    """A progress bar while they run, a table at the end; drawn without a thread of its own."""

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        from rich.console import Console as RichConsole  # noqa: PLC0415 (slow to import)
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

        super().__init__(settings, names)
        self.rich = RichConsole(highlight=False)
        columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"))
        self.progress = Progress(*columns, console=self.rich, transient=True, auto_refresh=False)
        self.task = self.progress.add_task("", total=self.total)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the progress bar away."""
        self.progress.stop()

    def begin(self, name: str) -> None:
        """Show the scenario's name beside the bar."""
        self.progress.update(self.task, description=name, refresh=True)

    def done(self, outcome: Outcome) -> None:  # noqa: ARG002
        """Move the bar."""
        self.progress.update(self.task, advance=1, refresh=True)

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        """Print the table, and how to see the bad ones again."""
        if not outcomes:
            return
        self.rich.print(_table(outcomes, self.rich.width))
        rows = [outcome.as_dict() for outcome in outcomes]
        self.rich.print(summary(rows, self.settings.seed), soft_wrap=True)
        self.rich.out("".join(_again(outcomes)), end="", highlight=False)


def console_for(settings: Settings, names: Sequence[str]) -> Console:
    """Return the console that fits the settings and where stdout leads."""
    if settings.as_json:
        return JsonConsole(settings, names)
    if sys.stdout.isatty():
        return TerminalConsole(settings, names)
    return Console(settings, names)


def _table(outcomes: Sequence[Outcome], width: int) -> Any:
    """Return one row a scenario; where the terminal is narrow, the evidence stands below the name."""
    from rich.table import Table  # noqa: PLC0415 (slow to import)
    from rich.text import Text  # noqa: PLC0415

    taken = max(len(outcome.verdict) for outcome in outcomes) + max(len(outcome.name) for outcome in outcomes)
    wide = width - taken >= _EVIDENCE
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("verdict", "scenario", "evidence")[: 3 if wide else 2]:
        table.add_column(heading, no_wrap=wide and heading != "evidence", overflow="fold")
    for outcome in outcomes:
        verdict = Text(str(outcome.verdict), style=_STYLES[outcome.verdict])
        name, evidence = Text(outcome.name), Text(outcome.evidence, style="" if wide else "dim")
        table.add_row(verdict, *((name, evidence) if wide else (Text("\n").join([name, evidence]),)))
    return table


def _again(outcomes: Sequence[Outcome]) -> list[str]:
    bad = [outcome for outcome in outcomes if counts([outcome.verdict]) and outcome.verdict.exit_code]
    commands = dict.fromkeys(outcome.reproduce for outcome in bad)
    return ["Run one again:\n", *(f"  {command}\n" for command in commands)] if commands else []
