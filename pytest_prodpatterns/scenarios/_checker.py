"""What every check of a file does: find an entry, and report unknown keys, missing keys and wrong kinds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_prodpatterns.scenarios._problems import Problem, Where, suggest

if TYPE_CHECKING:
    from pytest_prodpatterns.scenarios._document import Document

Found: TypeAlias = Iterator[Problem]


class Checker:
    """Checks of one document; subclasses add what they know.

    Args:
        document: The file.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.data: Any = document.data

    def problem(self, where: Where, text: str) -> Problem:
        """Return a problem at an entry."""
        return self.document.problem(where, text)

    def get(self, where: Where) -> Any:
        """Return the entry at `where`, or None when there is none."""
        found = self.data
        for step in where:
            try:
                found = found[step]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def keys(self, where: Where, known: Iterable[str], required: Iterable[str], what: str) -> Found:
        """Report unknown and missing keys of the mapping at `where`."""
        mapping = self.get(where)
        if not isinstance(mapping, Mapping):
            yield self.problem(where, f"{what} is a mapping of keys, not {kind_of(mapping)}")
            return
        for key in mapping:
            if key not in known:
                yield self.problem(
                    (*where, str(key)), f"unknown key {key!r} in {what}{suggest(str(key), known)}"
                )
        for key in required:
            if key not in mapping:
                yield self.problem(where, f"{what} needs the key {key!r}")

    def text(self, where: Where) -> Found:
        """Report an entry that is there and no text."""
        value = self.get(where)
        if value is not None and not (isinstance(value, str) and value.strip()):
            yield self.problem(where, f"{where[-1]!r} is a text, not {kind_of(value)}")

    def texts(self, where: Where) -> Found:
        """Report an entry that is there and no list of words."""
        value = self.get(where)
        if value is not None and not (
            isinstance(value, list) and all(isinstance(item, str) for item in value)
        ):
            yield self.problem(where, f"{where[-1]!r} is a list of words, not {kind_of(value)}")


def entry(mapping: Any, key: str) -> Any:
    """Return an entry, or None when there is none, or no mapping at all."""
    return mapping.get(key) if isinstance(mapping, Mapping) else None


def kind_of(value: Any) -> str:
    """Return what a value is, in words."""
    if value is None:
        return "nothing"
    return f"{value!r}" if isinstance(value, str | int | float) else f"a {type(value).__name__}"
