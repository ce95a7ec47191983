"""Verdicts as plain text: one line a scenario, and one line for all of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

VERDICTS: Final = ("held", "deviated", "not applicable", "not injected", "rollback failed")
_WIDTH: Final = max(map(len, VERDICTS))


def line(row: Mapping[str, Any], width: int) -> str:
    """Return the line of one scenario: verdict, name, evidence.

    Args:
        row: The scenario as in the document of `--json`.
        width: How wide the column of names is, in characters.
    """
    return f"{row['verdict']:<{_WIDTH}}  {row['name']:<{width}}  {row['evidence']}".rstrip()


def summary(rows: Sequence[Mapping[str, Any]], seed: int) -> str:
    """Return how many scenarios ended how, against what, with which seed."""
    count = f"{len(rows)} scenario{'' if len(rows) == 1 else 's'}"
    against = " and ".join(sorted({row["target"] for row in rows}))
    return f"{count} against {against}: {counts(row['verdict'] for row in rows)} (seed {seed})"


def counts(verdicts: Iterable[str]) -> str:
    """Return for example "26 held, 1 deviated", the verdicts in a fixed order."""
    found = Counter(verdicts)
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in VERDICTS if found[verdict])
