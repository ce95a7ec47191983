"""What the user sees: a progress bar and a table on a terminal, plain lines in a pipe, one document as JSON."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

import click

from pytest_prodpatterns.report._table import line, summary

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

    What went wrong stands last, just above the summary: there a reader looks first.

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
        """Say how a scenario ended, unless it ended badly."""
        if not _is_bad(outcome):
            self._line(outcome)

    def summary(self, outcomes: Sequence[Outcome], *, interrupted: bool = False) -> None:  # noqa: ARG002
        """Say which of them ended badly, how all of them ended, and how to see the bad ones again."""
        if not outcomes:
            return
        for outcome in filter(_is_bad, outcomes):
            self._line(outcome)
        click.echo(f"\n{summary([outcome.as_dict() for outcome in outcomes], self.settings.seed)}")
        click.echo(_again(outcomes), nl=False)

    def _line(self, outcome: Outcome) -> None:
        click.echo(line(outcome.as_dict(), self.width))


class JsonConsole(Console):
    """Nothing but one document at the end."""

    def done(self, outcome: Outcome) -> None:
        """Stay silent."""

    def summary(self, outcomes: Sequence[Outcome], *, interrupted: bool = False) -> None:
        """Print the document."""
        from pytest_prodpatterns.cli._files import document  # noqa: PLC0415

        click.echo(document(outcomes, self.settings.seed, interrupted=interrupted))


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

    def summary(self, outcomes: Sequence[Outcome], *, interrupted: bool = False) -> None:  # noqa: ARG002
        """Print the table, and how to see the bad ones again."""
        if not outcomes:
            return
        self.rich.print(_table(sorted(outcomes, key=_is_bad), self.rich.width))
        rows = [outcome.as_dict() for outcome in outcomes]
        self.rich.print(summary(rows, self.settings.seed), soft_wrap=True)
        self.rich.out(_again(outcomes), end="", highlight=False)


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


def _is_bad(outcome: Outcome) -> bool:
    return outcome.verdict.exit_code != 0


def _again(outcomes: Sequence[Outcome]) -> str:
    """Return the one line that tells how to run a bad one again: they differ in nothing but the name."""
    bad = {outcome.name: outcome for outcome in outcomes if _is_bad(outcome)}
    if not bad:
        return ""
    name, outcome = bad.popitem()
    return f"repeat with: {replace(outcome, name='NAME' if bad else name).reproduce}\n"
