"""`prodpatterns list`: what there is."""

from __future__ import annotations

import click

from pytest_prodpatterns.cli._options import Refused


@click.command("list")
@click.argument("words", nargs=-1, metavar="[NAME|GLOB|SUBJECT|TAG]...")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Keep only scenarios with this tag.")
@click.option("--targets", is_flag=True, help="List the known targets of each subject instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def list_command(words: tuple[str, ...], tags: tuple[str, ...], targets: bool, as_json: bool) -> None:
    """List scenarios, with the promise that each is about.

    \b
    prodpatterns list
    prodpatterns list breaker --tag async
    prodpatterns list --targets
    """  # noqa: D301 (click reads \b as "leave these lines alone")
    if targets:
        _list_targets()
        return
    from pytest_prodpatterns.scenarios import ScenarioError, select  # noqa: PLC0415

    try:
        scenarios = select(words, tags)
    except ScenarioError as error:
        raise Refused(str(error)) from None
    if as_json:
        import json  # noqa: PLC0415

        rows = [
            {"name": one.name, "subject": one.subject, "title": one.title, "tags": list(one.tags)}
            for one in scenarios
        ]
        click.echo(json.dumps({"scenarios": rows}, indent=2, ensure_ascii=False))
        return
    width = max(len(scenario.name) for scenario in scenarios) if scenarios else 0
    for scenario in scenarios:
        click.echo(f"{scenario.name:<{width}}  {scenario.title}")


def _list_targets() -> None:
    from pytest_prodpatterns import targets  # noqa: PLC0415
    from pytest_prodpatterns.scenarios._subjects import SUBJECTS  # noqa: PLC0415

    for subject in SUBJECTS:
        click.echo(f"{subject}: {', '.join(targets.known(subject))}, or module:callable")
