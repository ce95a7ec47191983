"""A scenario: a file that was read and found valid."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.scenarios import _document
from pytest_prodpatterns.scenarios._problems import Problem, ScenarioError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, eq=False)
class Scenario:
    """A valid chaos experiment with our extension.

    Attributes:
        name: What the command line calls it: `breaker/recovers`, or the path of a file of the user's.
        path: Where it was read from.
        data: The experiment as the file says it; the engine gets a copy.
    """

    name: str
    path: Path
    data: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """What random streams depend on: the same name, whoever runs the file."""
        return str(self.extension.get("scenario") or self.data["title"])

    @property
    def extension(self) -> Mapping[str, Any]:
        """Our block under `extensions`."""
        found: Mapping[str, Any] = next(
            item for item in self.data["extensions"] if item["name"] == "prodpatterns"
        )
        return found

    @property
    def title(self) -> str:
        """What it is about, in one line."""
        return " ".join(self.data["title"].split())

    @property
    def description(self) -> str:
        """What it does."""
        return " ".join(self.data["description"].split())

    @property
    def explain(self) -> str:
        """What it does and why it matters, in prose; paragraphs are kept."""
        return str(self.extension["explain"]).strip()

    @property
    def subject(self) -> str:
        """What kind of target it attacks."""
        return str(self.extension["subject"])

    @property
    def requires(self) -> Sequence[str]:
        """What a target must be able to do."""
        return list(self.extension.get("requires") or ())

    @property
    def tags(self) -> Sequence[str]:
        """Words to select it by."""
        return list(self.data.get("tags") or ())

    @property
    def variables(self) -> frozenset[str]:
        """The names that `--var` may set."""
        return frozenset(self.data.get("configuration") or ())

    @property
    def promises(self) -> Sequence[Mapping[str, Any]]:
        """The probes that decide the verdict."""
        found: Sequence[Mapping[str, Any]] = self.data["steady-state-hypothesis"]["probes"]
        return found

    def experiment(self) -> dict[str, Any]:
        """Return a fresh copy for the engine, which writes into what it runs."""
        return dict(copy.deepcopy(self.data))


def load(path: Path | str, name: str | None = None) -> Scenario:
    """Read a scenario and check it, functions and arguments included.

    Args:
        path: A YAML or JSON file.
        name: What to call it; by default its path.

    Raises:
        ScenarioError: When it cannot be read or is not valid; all problems at once, with file and line.
    """
    from pytest_prodpatterns.scenarios import _schema  # noqa: PLC0415 (nothing else needs it)

    document = _document.read(Path(path))
    problems = _schema.check(document)
    if not problems and name is not None:
        problems = list(_misnamed(document, name))
    if problems:
        raise ScenarioError.of(problems)
    return Scenario(name or str(path), Path(path), document.data)


def _misnamed(document: _document.Document, name: str) -> list[Problem]:
    """A packaged scenario says its own name, so that `chaos run` draws the same random numbers."""
    for position, extension in enumerate(document.data["extensions"]):
        if extension.get("name") == "prodpatterns" and extension.get("scenario") != name:
            where = ("extensions", position, "scenario")
            return [document.problem(where, f"this scenario's name is {name!r}: write `scenario: {name}`")]
    return []
