"""The page about the plugin is complete: it names every option, ini key, marker and fixture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "pytest-plugin.md"


def ours(text: str, pattern: str) -> set[str]:
    found = set(re.findall(pattern, text, re.MULTILINE))
    assert found
    return found


@pytest.mark.parametrize(
    ("argument", "pattern"),
    [
        ("--help", r"^  (--chaos-[a-z-]+)"),
        ("--help", r"^  (chaos_[a-z_]+) \("),
        ("--markers", r"^@pytest\.mark\.((?:chaos|circuit_breaker|virtual_time|worker_pool)\(.*?\)):"),
        ("--fixtures", r"^(\w+)(?: \[.*\])? -- .*pytest_prodpatterns/fixtures/"),
    ],
    ids=["options", "ini keys", "markers", "fixtures"],
)
def test_the_page_names_each(suite, argument, pattern):
    text = suite.runpytest_inprocess(argument).stdout.str()
    page = PAGE.read_text(encoding="utf-8")
    assert {name for name in ours(text, pattern) if f"`{name}" not in page} == set()
