"""The packaged scenarios, and how words on the command line select among them."""

from __future__ import annotations

import difflib
import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_prodpatterns.scenarios._problems import ScenarioError
from pytest_prodpatterns.scenarios._scenario import Scenario, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HERE = Path(__file__).resolve().parent
_SUFFIXES = (".yaml", ".yml", ".json")


def root() -> Path:
    """Return the directory of the packaged scenarios: inside the wheel, or beside the checkout's package."""
    packaged = _HERE / "packaged"
    return packaged if packaged.is_dir() else _HERE.parent.parent / "scenarios"


@cache
def packaged() -> dict[str, Path]:
    """Return the packaged scenarios by name, in order, without reading them."""
    base = root()
    found = {path.relative_to(base).with_suffix("").as_posix(): path for path in base.rglob("*.yaml")}
    return dict(sorted(found.items()))


def get(name: str) -> Scenario:
    """Load a packaged scenario by its name, or a file by its path.

    Raises:
        ScenarioError: When there is none, or it is not valid.
    """
    path = packaged().get(name)
    if path is not None:
        return load(path, name)
    if _is_file(name):
        return load(name)
    raise ScenarioError(f"no scenario is called {name!r}{_hint(name)}")


def select(words: Iterable[str] = (), tags: Iterable[str] = ()) -> list[Scenario]:
    """Return the scenarios that words and tags select, each once, in the order of the words.

    Args:
        words: Names, globs, subjects, tags, or paths of files; none selects all that are packaged.
        tags: Keep only those that carry one of these.

    Raises:
        ScenarioError: When a word selects nothing, or a selected file is not valid.
    """
    names = dict.fromkeys(name for word in words for name in _matching(word)) or dict.fromkeys(packaged())
    wanted = frozenset(tags)
    chosen = _load_all(names)
    kept = [scenario for scenario in chosen if not wanted or wanted & set(scenario.tags)]
    if not kept and wanted:
        known = {tag for scenario in chosen for tag in scenario.tags}
        raise ScenarioError(f"no scenario carries the tag {', '.join(sorted(wanted))}{_known(known)}")
    return kept


def _load_all(names: Iterable[str]) -> list[Scenario]:
    loaded, problems = [], []
    for name in names:
        try:
            loaded.append(get(name))
        except ScenarioError as error:
            if not error.problems:
                raise
            problems += error.problems
    if problems:
        raise ScenarioError.of(problems)
    return loaded


def _matching(word: str) -> Iterator[str]:
    if word in packaged() or _is_file(word):
        yield word
        return
    found = [name for name in packaged() if fnmatch.fnmatchcase(name, word) or name.startswith(f"{word}/")]
    found = found or [name for name in packaged() if word in _tags(name)]
    if not found:
        raise ScenarioError(f"no scenario is called {word!r}, and none matches it{_hint(word)}")
    yield from found


def _tags(name: str) -> list[str]:
    return list(get(name).tags)


def _is_file(word: str) -> bool:
    return word.endswith(_SUFFIXES)


def _hint(word: str) -> str:
    """Return what may have been meant, by the last part alone: all names of a subject begin alike."""
    last = {name.rpartition("/")[2]: name for name in packaged()}
    near = difflib.get_close_matches(word.rpartition("/")[2], last, n=1)
    return f"; did you mean {last[near[0]]!r}?" if near else "; `prodpatterns list` shows them all"


def _known(words: Iterable[str]) -> str:
    return f"; known: {', '.join(sorted(words))}"
