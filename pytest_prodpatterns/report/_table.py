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
    """Return how many scenarios ended how, against what, with which seed; then those that changed their verdict."""
    by_name: dict[str, list[str]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row["verdict"])
    count = f"{len(by_name)} scenario{'' if len(by_name) == 1 else 's'}"
    if len(rows) > len(by_name):
        count = f"{len(rows)} runs of {count}"
    against = " and ".join(sorted({row["target"] for row in rows}))
    told = f"{count} against {against}: {counts(row['verdict'] for row in rows)} (seed {seed})"
    changed = [f"  {name}: {counts(found)}" for name, found in by_name.items() if len(set(found)) > 1]
    if changed:
        told += "\n" + "\n".join(["Same seed, another verdict, which points to a race:", *changed])
    return told


def counts(verdicts: Iterable[str]) -> str:
    """Return for example "26 held, 1 deviated", the verdicts in a fixed order."""
    found = Counter(verdicts)
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in VERDICTS if found[verdict])
