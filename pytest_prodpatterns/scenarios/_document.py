"""A YAML or JSON file as plain data that remembers the line of each entry."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from pytest_prodpatterns.scenarios._problems import Problem, ScenarioError, Where

if TYPE_CHECKING:
    from pathlib import Path

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times as fast


MOST: Final = 100_000
"""Entries that a file may have; a few nested aliases would stand for billions."""


class _Endless(Exception):  # noqa: N818
    def __init__(self, text: str, node: yaml.Node) -> None:
        super().__init__(text)
        self.line = node.start_mark.line + 1


@dataclass(frozen=True)
class Document:
    """A file that was read.

    Attributes:
        path: The file.
        data: What it holds.
        lines: The line of each entry, by the way to it.
        repeated: Keys that stand twice in one mapping, by the way to the second.
    """

    path: Path
    data: Any
    lines: dict[Where, int]
    repeated: list[Where]

    def problem(self, where: Where, text: str) -> Problem:
        """Return a problem at an entry; where the entry is missing, at the one that should hold it."""
        while where and where not in self.lines:
            where = where[:-1]
        return Problem(str(self.path), self.lines.get(where, 1), text)


def read(path: Path) -> Document:
    """Read a file.

    Raises:
        ScenarioError: When it cannot be read, or is neither YAML nor JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    try:
        return _read_json(path, text) if path.suffix == ".json" else _read_yaml(path, text)
    except RecursionError:
        raise ScenarioError.of([Problem(str(path), 1, "nested too deeply")]) from None
    except _Endless as error:
        raise ScenarioError.of([Problem(str(path), error.line, str(error))]) from None


def _read_json(path: Path, text: str) -> Document:
    try:
        data = json.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise ScenarioError.of([Problem(str(path), line, f"not JSON: {error}")]) from error
    try:
        return Document(path, data, *_locate(_parse(text)[0]))
    except yaml.YAMLError:  # JSON that YAML does not take, say tabs: then without lines
        return Document(path, data, {}, [])


def _read_yaml(path: Path, content: str) -> Document:
    try:
        node, data = _parse(content)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark else 1
        text = "nested too deeply" if "nesting depth" in what else f"not YAML: {what}"
        raise ScenarioError.of([Problem(str(path), line, text)]) from error
    return Document(path, data, *_locate(node))


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _locate(root: yaml.Node | None) -> tuple[dict[Where, int], list[Where]]:
    lines: dict[Where, int] = {}
    repeated: list[Where] = []

    def walk(node: yaml.Node | None, where: Where, above: tuple[int, ...]) -> None:
        if node is None:
            return
        if id(node) in above:
            raise _Endless("an alias stands inside what it stands for", node)
        if len(lines) > MOST:
            raise _Endless(f"more than {MOST} entries, with each alias as what it stands for", node)
        lines.setdefault(where, node.start_mark.line + 1)
        above = (*above, id(node))
        if isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                walk(item, (*where, position), above)
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*where, str(key.value))
                if inner in lines:
                    repeated.append(inner)
                lines[inner] = key.start_mark.line + 1
                walk(value, inner, above)

    walk(root, (), ())
    return lines, repeated
