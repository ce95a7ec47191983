"""`prodpatterns check`: every scenario of a subject against one target, as a report card."""

from __future__ import annotations

from typing import Any

import click

from pytest_prodpatterns.cli._options import Refused, Settings, execution_options
from pytest_prodpatterns.cli._server import NAMES, refuse_server_options, server_options, server_spec
from pytest_prodpatterns.scenarios._subjects import SUBJECTS

_BEHIND = "The command of a server goes behind --, as in: check server -- uvicorn app:app --port {port}"


class _Check(click.Command):
    """Say where a server's command goes when its own options are taken for ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        before = [*args]  # click empties it
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if "server" not in before or "--" in before:
                raise
            text = f"{error.format_message()} {_BEHIND}"
            raise click.NoSuchOption(error.option_name, message=text, ctx=ctx) from None


@click.command(cls=_Check)
@click.argument("subject")
@click.argument("target", nargs=-1, required=True, type=click.UNPROCESSED, metavar="TARGET")
@execution_options
@server_options
def check(subject: str, target: tuple[str, ...], **options: Any) -> None:
    """Check whether TARGET keeps all the promises of its SUBJECT.

    TARGET is ours, the name of a library, or module:callable, a factory of yours; for a server, its command behind
    --, with {port} (or {uds}) where it is to listen. The more options tell of a server, the more is asked of it.

    \b
    prodpatterns check breaker pybreaker
    prodpatterns check breaker app.breakers:make_breaker
    prodpatterns check pool app.workers:make_executor
    prodpatterns check server -j 4 --ready /ready --slow-path '/slow?seconds={seconds}' \\
        -- uvicorn app:app --port {port}
    """  # noqa: D301 (click reads \b as "leave these lines alone")
    known = {name: options.pop(name) for name in NAMES}
    spec = _spec(subject, target, known)
    from pytest_prodpatterns.cli._execute import execute  # noqa: PLC0415

    execute((f"{subject}/*",), (), spec, Settings(**options))


def _spec(subject: str, words: tuple[str, ...], known: dict[str, Any]) -> str:
    """Return what names the target.

    Raises:
        Refused: There is no such subject, or the words do not fit it.
    """
    if subject not in SUBJECTS:
        from pytest_prodpatterns.scenarios._problems import suggest  # noqa: PLC0415

        raise Refused(f"no subject is called {subject!r}{suggest(subject, SUBJECTS)}")
    if subject == "server":
        return server_spec(words, known)
    refuse_server_options(subject, known)
    if len(words) > 1:
        raise Refused(f"a {subject} is one target, not {len(words)}: {' '.join(words)}")
    return words[0]
