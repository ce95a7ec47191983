"""Verdicts as JUnit XML, the form that CI servers read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ELEMENTS: Final = {
    "deviated": "failure",
    "not injected": "error",
    "rollback failed": "error",
    "not applicable": "skipped",
}
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(rows: Sequence[Mapping[str, Any]], *, seed: int, details: Sequence[str] = ()) -> str:
    """Return one test suite with a test case for each scenario.

    Args:
        rows: Scenarios as in the document of `--json`: name, subject, target, verdict, evidence, duration.
        seed: The seed of the run, kept as a property.
        details: What happened in each of them, shown as its output; may be empty.
    """
    kinds = [_ELEMENTS.get(row["verdict"], "") for row in rows]
    seconds = f"{sum(row['duration'] for row in rows):.3f}"
    suite = ET.Element("testsuite", name="prodpatterns", tests=str(len(rows)), time=seconds)
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(kinds.count(kind)))
    ET.SubElement(ET.SubElement(suite, "properties"), "property", name="seed", value=str(seed))
    for position, (row, kind, name) in enumerate(zip(rows, kinds, _names(rows), strict=True)):
        suite.append(_case(row, name, kind, details[position] if details else ""))
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the cases are called; repetitions are numbered, for servers keep one case of a name."""
    names = [f"{row['name']} [{row['target']}]" for row in rows]
    total, seen = Counter(names), Counter[str]()
    for position, name in enumerate(names):
        seen[name] += 1
        if total[name] > 1:
            names[position] = f"{name} #{seen[name]}"
    return names


def _case(row: Mapping[str, Any], name: str, kind: str, detail: str) -> ET.Element:
    case = ET.Element(
        "testcase",
        classname=f"prodpatterns.{row['subject']}",
        name=_clean(name),
        time=f"{row['duration']:.3f}",
    )
    if kind:
        message = row["evidence"] if kind == "skipped" else f"{row['verdict']}: {row['evidence']}"
        ET.SubElement(case, kind, message=_clean(message), type=row["verdict"])
    if detail:
        ET.SubElement(case, "system-out").text = _clean(detail)
    return case


def _clean(text: str) -> str:
    """Return `text` without the characters that XML cannot hold."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
