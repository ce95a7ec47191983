"""Which scenarios a target is for: the name of a breaker says nothing to the scenarios of pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_prodpatterns.scenarios._scenario import Scenario


def fitting(scenarios: Sequence[Scenario], target: str) -> list[Scenario]:
    """Return the scenarios whose subject has such a target; all, when none has: it is a mistake, then.

    Args:
        scenarios: Scenarios that were not asked for by name.
        target: A spec for `targets.resolve`.
    """
    subjects = dict.fromkeys(scenario.subject for scenario in scenarios)
    having = {subject for subject in subjects if _has(subject, target)} or subjects
    return [scenario for scenario in scenarios if scenario.subject in having]


def _has(subject: str, target: str) -> bool:
    from pytest_prodpatterns import targets  # noqa: PLC0415 (not light)

    try:
        targets.resolve(subject, target).close()
    except targets.TargetError:
        return False
    return True
