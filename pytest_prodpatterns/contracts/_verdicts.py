"""What the outcome of a scenario means to a test: nothing, a skip, or a failure that tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_prodpatterns.scenarios import Verdict

if TYPE_CHECKING:
    from pytest_prodpatterns.lab import ChaosLab
    from pytest_prodpatterns.scenarios import Outcome


def tell(lab: ChaosLab, outcome: Outcome) -> None:
    """Skip or fail the current test, unless the scenario held.

    Args:
        lab: The lab of the test; it gets the scenario's history, which a failure shows and a file may keep.
        outcome: What the run gave.
    """
    for event in outcome.events:
        lab.timeline.adopt(event)
    if outcome.verdict is Verdict.NOT_APPLICABLE:
        pytest.skip(outcome.evidence)
    if outcome.verdict is not Verdict.HELD:
        pytest.fail(_told(outcome), pytrace=False)


def _told(outcome: Outcome) -> str:
    lines = [f"{outcome.verdict}: {outcome.evidence}"]
    if outcome.broken:
        lines.append(f"broken promise: {outcome.broken}")
    lines.append(f"what it does, and why it matters: prodpatterns explain {outcome.name}")
    return "\n".join(lines)
