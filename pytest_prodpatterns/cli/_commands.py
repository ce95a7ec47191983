"""The command group; each sub-command is a module of its own."""

from __future__ import annotations

import sys
from typing import Any

import click

from pytest_prodpatterns import __version__
from pytest_prodpatterns.cli._check import check
from pytest_prodpatterns.cli._explain import explain
from pytest_prodpatterns.cli._list import list_command
from pytest_prodpatterns.cli._run import run
from pytest_prodpatterns.cli._serve import serve
from pytest_prodpatterns.cli._wrap import wrap
from pytest_prodpatterns.scenarios._verdict import INTERRUPTED


class _Commands(click.Group):
    """Leave with 130 when Ctrl-C arrives before a run began; click alone would leave with 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            click.echo("Interrupted; nothing was running.", err=True)
            sys.exit(INTERRUPTED)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 held or not applicable, 1 deviated, 2 wrong usage or file, 3 a fault could not be "
    "injected, 4 a rollback failed, 130 interrupted.",
)
@click.version_option(__version__, prog_name="prodpatterns")
def prodpatterns() -> None:
    """Learn whether your components keep their promises when things break.

    \b
    prodpatterns run                       every packaged scenario, on embedded defaults
    prodpatterns check breaker pybreaker   a report card of the breaker that you use
    prodpatterns list                      what there is
    prodpatterns explain breaker/recovers  what a scenario does, and why it matters
    prodpatterns serve app.web:server      run a ProductionServer, or any aiohttp application
    prodpatterns wrap -- CMD               let a command of yours end in peace: lame duck, then the signal
    """  # noqa: D301 (click reads \b as "leave these lines alone")


for _command in (run, check, list_command, explain, serve, wrap):
    prodpatterns.add_command(_command)
