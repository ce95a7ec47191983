"""Checks of activities: promises in the hypothesis, actions in the method and the rollbacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pytest_prodpatterns.scenarios import _functions
from pytest_prodpatterns.scenarios._checker import Checker, Found, entry, kind_of
from pytest_prodpatterns.scenarios._problems import Where, suggest
from pytest_prodpatterns.scenarios._subjects import SUBJECTS

_ACTIVITY: Final = frozenset(
    {"type", "name", "provider", "tolerance", "background", "pauses", "controls", "timeout", "dry", "ref"}
)
_OF_HTTP: Final = frozenset({"url", "method", "headers", "verify_tls", "max_retries"})
_PROVIDERS: Final[Mapping[str, tuple[frozenset[str], tuple[str, ...]]]] = {
    "python": (frozenset({"type", "module", "func", "arguments", "secrets"}), ("module", "func")),
    "process": (frozenset({"type", "path", "arguments", "timeout", "env", "secrets"}), ("path",)),
    "http": (_OF_HTTP | {"type", "arguments", "timeout", "secrets"}, ("url",)),
}
_PLACEHOLDER: Final = re.compile(r"(?<!\$)\$\{([_A-Za-z][_A-Za-z0-9]*)\}")
_OUR_PROBES: Final = "pytest_prodpatterns.scenarios.probes."


class ActivityChecker(Checker):
    """Checks of activities; `subject` is known once the extension was checked."""

    subject = ""

    def activities(self, key: str) -> Found:
        """Report what is wrong with the method or the rollbacks."""
        activities = self.get((key,))
        if activities is None:
            return
        if not isinstance(activities, list):
            yield self.problem((key,), f"{key!r} is a list of actions, not {kind_of(activities)}")
            return
        for position in range(len(activities)):
            yield from self.activity((key, position), "action")

    def activity(self, where: Where, kind: str) -> Found:
        """Report what is wrong with one promise or action."""
        activity = self.get(where)
        if isinstance(activity, Mapping) and "ref" in activity:
            yield from self.reference(where)
            return
        required = ("type", "name", "provider") + (("tolerance",) if kind == "probe" else ())
        yield from self.keys(where, _ACTIVITY, required, f"the {kind}")
        if not isinstance(activity, Mapping):
            return
        if activity.get("type", kind) != kind:
            place = (
                "the method and the rollbacks act" if kind == "action" else "the hypothesis lists promises"
            )
            yield self.problem((*where, "type"), f"{place}: expected type {kind!r}, not {activity['type']!r}")
        yield from self.in_process(where)
        yield from self.provider((*where, "provider"), kind)
        yield from self.tolerance(where)

    def reference(self, where: Where) -> Found:
        """Report a reference to an activity that is not there."""
        name = self.get((*where, "ref"))
        named = (self.get(("method",)) or []) + (self.get(("steady-state-hypothesis", "probes")) or [])
        known = [found for item in named if (found := entry(item, "name"))]
        if name not in known:
            hint = suggest(str(name), known)
            yield self.problem((*where, "ref"), f"no activity is named {name!r}{hint}")

    def in_process(self, where: Where) -> Found:
        """Report what has no place on the thread of the lab."""
        subject = SUBJECTS.get(self.subject)
        if subject is None or not subject.in_process:
            return
        for key, instead in (("background", "start a task in an action"), ("pauses", "advance the clock")):
            if self.get((*where, key)):
                text = f"{key!r} has no place where the target is {subject.noun}: {instead} instead"
                yield self.problem((*where, key), text)

    def provider(self, where: Where, kind: str) -> Found:
        """Report what is wrong with what an activity calls."""
        provider = self.get(where)
        if not isinstance(provider, Mapping):
            return
        name = str(provider.get("type"))
        if name not in _PROVIDERS:
            yield self.problem((*where, "type"), f"unknown provider {name!r}{suggest(name, _PROVIDERS)}")
            return
        known, required = _PROVIDERS[name]
        yield from self.keys(where, known, required, f"a {name} provider")
        yield from self.placeholders((*where, "arguments"))
        if name == "python" and all(isinstance(provider.get(key), str) for key in required):
            for step, text in _functions.check(provider, kind, self.subject):
                yield self.problem((*where, *step), text)

    def placeholders(self, where: Where) -> Found:
        """Report `${names}` that nothing defines: the engine would pass them on as they are."""
        value = self.get(where)
        if isinstance(value, str):
            known = {str(key) for key in self.get(("configuration",)) or {}}
            known |= {str(key) for group in (self.get(("secrets",)) or {}).values() for key in group or ()}
            for name in _PLACEHOLDER.findall(value):
                if name not in known:
                    yield self.problem(
                        where, f"${{{name}}} is not in the configuration{suggest(name, known)}"
                    )
        elif isinstance(value, Mapping | list):
            for step in value if isinstance(value, Mapping) else range(len(value)):
                yield from self.placeholders((*where, step))

    def tolerance(self, where: Where) -> Found:
        """Report a tolerance that none of our probes can meet."""
        tolerance = self.get((*where, "tolerance"))
        ours = str(self.get((*where, "provider", "module")) or "").startswith(_OUR_PROBES)
        if ours and tolerance is not None and tolerance != ["held"]:
            text = f"the tolerance of this probe is [held], not {tolerance!r}"
            yield self.problem((*where, "tolerance"), text)
