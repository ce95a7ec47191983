"""Which keys a scenario has, and which values they take: checked before a run, all problems at once.

The engine ignores what it does not know, so a slip of the pen (`rollback:`, `tolerence:`) would change what an
experiment proves without a word.  Here every key must be one that the engine or we know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pytest_prodpatterns.scenarios._activities import ActivityChecker
from pytest_prodpatterns.scenarios._checker import Found, entry, kind_of
from pytest_prodpatterns.scenarios._problems import suggest
from pytest_prodpatterns.scenarios._subjects import SUBJECTS

if TYPE_CHECKING:
    from pytest_prodpatterns.scenarios._document import Document
    from pytest_prodpatterns.scenarios._problems import Problem, Where

CONTROL: Final = "pytest_prodpatterns.scenarios.control"

_REQUIRED: Final = (
    "title",
    "description",
    "extensions",
    "controls",
    "runtime",
    "steady-state-hypothesis",
    "method",
)
_OPTIONAL: Final = ("version", "tags", "contributions", "configuration", "secrets", "rollbacks")
_EXTENSION: Final = frozenset({"name", "scenario", "subject", "requires", "explain"})
_HYPOTHESIS: Final = frozenset({"title", "probes", "controls"})
_DYNAMIC: Final[Mapping[str, frozenset[str]]] = {
    "env": frozenset({"type", "key", "default", "env_var_type"}),
    "probe": frozenset({"type", "name", "provider"}),
    "vault": frozenset({"type", "path", "key", "default"}),
}


def check(document: Document) -> list[Problem]:
    """Return everything that is wrong with a scenario, in the order of its lines."""
    problems = list(_ScenarioChecker(document).experiment())
    return sorted(problems, key=lambda problem: problem.line)


class _ScenarioChecker(ActivityChecker):
    def experiment(self) -> Found:
        for where in self.document.repeated:
            yield self.problem(where, f"the key {where[-1]!r} stands twice in one mapping")
        if not isinstance(self.data, Mapping):
            yield self.problem((), f"a scenario is a mapping of keys, not {kind_of(self.data)}")
            return
        yield from self.keys((), (*_REQUIRED, *_OPTIONAL), _REQUIRED, "a scenario")
        for key in ("title", "description"):
            yield from self.text((key,))
        yield from self.configuration()
        yield from self.extension()
        yield from self.control()
        yield from self.runtime()
        yield from self.hypothesis()
        for key in ("method", "rollbacks"):
            yield from self.activities(key)

    def configuration(self) -> Found:
        yield from self.texts(("tags",))
        values = self.get(("configuration",)) or {}
        if not isinstance(values, Mapping):
            yield self.problem(("configuration",), f"the configuration is a mapping, not {kind_of(values)}")
            return
        for key, value in values.items():
            if isinstance(value, Mapping) and "type" in value:
                where = ("configuration", key)
                known = _DYNAMIC.get(str(value["type"]))
                if known is None:
                    hint = suggest(str(value["type"]), _DYNAMIC)
                    yield self.problem((*where, "type"), f"unknown type {value['type']!r} of a setting{hint}")
                else:
                    yield from self.keys(where, known, (), f"the setting {key!r}")

    def extension(self) -> Found:
        extensions = self.get(("extensions",))
        if extensions is None:
            return
        names = [entry(item, "name") for item in extensions] if isinstance(extensions, list) else []
        if "prodpatterns" not in names:
            text = "no extension named 'prodpatterns': add `- {name: prodpatterns, subject: …, explain: …}`"
            yield self.problem(("extensions",), text)
            return
        where = ("extensions", names.index("prodpatterns"))
        yield from self.keys(where, _EXTENSION, ("subject", "explain"), "the extension 'prodpatterns'")
        for key in ("scenario", "explain"):
            yield from self.text((*where, key))
        yield from self.texts((*where, "requires"))
        self.subject = str(self.get((*where, "subject")) or "")
        if self.subject and self.subject not in SUBJECTS:
            hint = suggest(self.subject, SUBJECTS)
            yield self.problem((*where, "subject"), f"unknown subject {self.subject!r}{hint}")
        yield from self.requirements((*where, "requires"))

    def requirements(self, where: Where) -> Found:
        subject, words = SUBJECTS.get(self.subject), self.get(where)
        if subject is None or not isinstance(words, list):
            return
        for position, word in enumerate(words):
            if isinstance(word, str) and word not in subject.requirements:
                hint = suggest(word, subject.requirements)
                yield self.problem((*where, position), f"unknown requirement {word!r}{hint}")

    def control(self) -> Found:
        controls = self.get(("controls",))
        if controls is None:
            return
        modules = (
            [entry(entry(item, "provider"), "module") for item in controls]
            if isinstance(controls, list)
            else []
        )
        if CONTROL not in modules:
            block = f"`- {{name: prodpatterns, provider: {{type: python, module: {CONTROL}}}}}`"
            yield self.problem(("controls",), f"the control of pytest-prodpatterns is missing: add {block}")

    def runtime(self) -> Found:
        if self.get(("runtime",)) is None:
            return
        yield from self.keys(("runtime",), ("rollbacks", "hypothesis"), (), "'runtime'")
        if self.get(("runtime", "rollbacks", "strategy")) != "always":
            text = (
                "faults must be taken back whatever happens: write `runtime: {rollbacks: {strategy: always}}`"
            )
            yield self.problem(("runtime", "rollbacks", "strategy"), text)
        if self.get(("runtime", "hypothesis", "strategy")) not in (None, "default"):
            text = "promises are asked before and after the method: leave the strategy of the hypothesis out"
            yield self.problem(("runtime", "hypothesis", "strategy"), text)

    def hypothesis(self) -> Found:
        where: Where = ("steady-state-hypothesis",)
        if self.get(where) is None:
            return
        yield from self.keys(where, _HYPOTHESIS, ("title", "probes"), "the hypothesis")
        probes = self.get((*where, "probes"))
        if not isinstance(probes, list) or not probes:
            yield self.problem(
                (*where, "probes"), "without a promise nothing decides the verdict: list one probe"
            )
            return
        for position in range(len(probes)):
            yield from self.activity((*where, "probes", position), "probe")
