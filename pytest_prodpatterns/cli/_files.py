"""The files that a run leaves: journal, JUnit, events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.cli._options import Refused, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pytest_prodpatterns.scenarios import Outcome


def refuse_unwritable(settings: Settings) -> None:
    """Find out before anything runs whether its results have a place.

    Raises:
        Refused: When a file cannot be written.
    """
    for path in filter(None, (settings.journal, settings.junit, settings.events)):
        if path.is_file() or not path.exists():  # a pipe waits for what it gets
            try:
                path.open("a", encoding="utf-8").close()
            except OSError as error:
                raise Refused(f"cannot write {path}: {error.strerror}") from None


def write_files(outcomes: Sequence[Outcome], settings: Settings) -> None:
    """Write what the settings ask for.

    Raises:
        Refused: When a file cannot be written.
    """
    if settings.journal is not None:
        journals = [outcome.journal for outcome in outcomes]
        _write(settings.journal, [_json(journals[0] if len(journals) == 1 else journals, indent=2)])
    if settings.events is not None:
        _write(settings.events, (_json(event) for outcome in outcomes for event in outcome.timeline))
    if settings.junit is not None:
        from pytest_prodpatterns.report._junit import junit  # noqa: PLC0415 (loads an XML library)

        rows = [outcome.as_dict() for outcome in outcomes]
        text = junit(rows, seed=settings.seed, details=[_told(outcome) for outcome in outcomes])
        _write(settings.junit, [text.rstrip("\n")])


def document(outcomes: Sequence[Outcome], seed: int, *, interrupted: bool = False) -> str:
    """Return the document of `--json`; `interrupted` stands in it only when not everything ran."""
    from pytest_prodpatterns.scenarios._verdict import worst  # noqa: PLC0415

    rows = [outcome.as_dict() for outcome in outcomes]
    verdict = worst(outcome.verdict for outcome in outcomes)
    head = {"seed": seed, "verdict": str(verdict), **({"interrupted": True} if interrupted else {})}
    return _json({**head, "scenarios": rows}, indent=2)


def told(outcome: Outcome) -> str:
    """Return the timeline of a run as text."""
    from pytest_prodpatterns.report._text import render  # noqa: PLC0415

    return render(outcome.events)


def _told(outcome: Outcome) -> str:
    return f"{told(outcome)}\nrepeat with: {outcome.reproduce}"


def _json(data: Any, indent: int | None = None) -> str:
    return json.dumps(data, indent=indent, ensure_ascii=False, default=repr)


def _write(path: Path, lines: Iterable[str]) -> None:
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise Refused(f"cannot write {path}: {error.strerror}") from None
