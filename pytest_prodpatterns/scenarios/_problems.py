"""What is wrong with a scenario file, said so that it can be mended at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Where: TypeAlias = tuple[str | int, ...]
"""The way to an entry: keys and positions, from the top of the file."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: The file.
        line: The line, from 1.
        text: What is wrong, what was expected, and the nearest thing that would be right.
    """

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


class ScenarioError(Exception):
    """A scenario that cannot be run: unknown, unreadable, or not valid.

    Attributes:
        problems: What is wrong with the file; empty when there is no file.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = list(problems)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> ScenarioError:
        """Return the error for these problems, one a line."""
        return cls("\n".join(map(str, problems)), problems)


def suggest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" with the nearest known word, or the choice when none is near."""
    import difflib  # noqa: PLC0415 (only when something is wrong)

    choice = sorted(known)
    near = difflib.get_close_matches(word, choice, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(choice)}" if choice else ""
