"""`prodpatterns check`: every scenario of a subject against one target, as a report card."""

from __future__ import annotations

from typing import Any

import click

from pytest_prodpatterns.cli._options import Refused, Settings, execution_options
from pytest_prodpatterns.scenarios._subjects import SUBJECTS


@click.command()
@click.argument("subject")
@click.argument("target")
@execution_options
def check(subject: str, target: str, **options: Any) -> None:
    """Check whether TARGET keeps all the promises of its SUBJECT.

    TARGET is ours, the name of a library, or module:callable, a factory of yours.

    \b
    prodpatterns check breaker pybreaker
    prodpatterns check breaker app.breakers:make_breaker
    """  # noqa: D301 (click reads \b as "leave these lines alone")
    if subject not in SUBJECTS:
        from pytest_prodpatterns.scenarios._problems import suggest  # noqa: PLC0415

        raise Refused(f"no subject is called {subject!r}{suggest(subject, SUBJECTS)}")
    from pytest_prodpatterns.cli._execute import execute  # noqa: PLC0415

    execute((f"{subject}/*",), (), target, Settings(**options))
