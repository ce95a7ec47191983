"""`prodpatterns run`: scenarios against one target."""

from __future__ import annotations

from typing import Any

import click

from pytest_prodpatterns.cli._options import Settings, execution_options


@click.command()
@click.argument("scenarios", nargs=-1, metavar="[NAME|GLOB|SUBJECT|TAG|FILE]...")
@click.option("--target", default="ours", metavar="TARGET", help="ours, a library, or module:callable.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Keep only scenarios with this tag.")
@execution_options
def run(scenarios: tuple[str, ...], target: str, tags: tuple[str, ...], **options: Any) -> None:
    """Run scenarios, and say for each whether the target kept its promises.

    Without a name, all packaged scenarios run against the components of this package.

    \b
    prodpatterns run
    prodpatterns run breaker/recovers --target pybreaker --seed 7
    prodpatterns run 'breaker/*probes*' --json
    prodpatterns run my_scenario.yaml --junit chaos.xml --journal journal.json
    """  # noqa: D301 (click reads \b as "leave these lines alone")
    from pytest_prodpatterns.cli._execute import execute  # noqa: PLC0415

    execute(scenarios, tags, target, Settings(**options))
