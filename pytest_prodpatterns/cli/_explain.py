"""`prodpatterns explain`: a scenario in prose."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from pytest_prodpatterns.cli._options import Refused

if TYPE_CHECKING:
    from pytest_prodpatterns.scenarios import Scenario


@click.command()
@click.argument("name")
def explain(name: str) -> None:
    """Tell what a scenario does and why it matters: its promises, and its method step by step.

    \b
    prodpatterns explain breaker/recovers
    """  # noqa: D301 (click reads \b as "leave these lines alone")
    from pytest_prodpatterns.scenarios import ScenarioError, get  # noqa: PLC0415

    try:
        scenario = get(name)
    except ScenarioError as error:
        raise Refused(str(error)) from None
    click.echo("\n".join(_told(scenario)))


def _told(scenario: Scenario) -> Iterator[str]:
    yield scenario.title
    yield "=" * len(scenario.title)
    yield ""
    for paragraph in (scenario.description, *scenario.explain.split("\n\n")):
        yield _wrapped(paragraph)
        yield ""
    yield "Promises (they decide the verdict):"
    yield from map(_step, scenario.promises)
    yield "Method:"
    yield from map(_step, scenario.data["method"])
    if scenario.data.get("rollbacks"):
        yield "Rollbacks:"
        yield from map(_step, scenario.data["rollbacks"])
    yield ""
    yield f"Subject: {scenario.subject}"
    if scenario.requires:
        yield f"Requires: {', '.join(scenario.requires)} (a target without it is not applicable)"
    yield f"Tags: {', '.join(scenario.tags) or 'none'}"
    yield f"Run it: prodpatterns run {scenario.name} --target ours"


def _step(activity: Mapping[str, Any]) -> str:
    if "ref" in activity:
        return f"  - {activity['ref']} (again)"
    arguments = activity["provider"].get("arguments")
    details = ""
    if isinstance(arguments, Mapping) and arguments:
        details = f" ({', '.join(f'{key}={value}' for key, value in arguments.items())})"
    return textwrap.fill(f"{activity['name']}{details}", 100, initial_indent="  - ", subsequent_indent="    ")


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(" ".join(paragraph.split()), 100)
