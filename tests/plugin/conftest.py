"""What the tests of the fixtures share."""

from __future__ import annotations

import re

import pytest


@pytest.fixture
def all_at_once(suite):
    """Run several modules, test_0.py and so on, in one process of their own: its start costs more than they do."""

    def run(codes):
        suite.makepyfile(**{f"test_{number}": code for number, code in enumerate(codes)})
        return suite.runpytest_subprocess(timeout=90)

    return run


@pytest.fixture
def told_with_its_place(all_at_once):
    """Run a module for each bad parameter, and see each told, with the line of the user where he gave it himself."""

    def check(cases, code):
        """Cases are (settings, marker, given, told); `code` makes a module of the first three."""
        result = all_at_once(code(settings, marker, given) for settings, marker, given, _told in cases)
        for number, (_settings, _marker, given, told) in enumerate(cases):
            result.stdout.fnmatch_lines(
                [f"E*Error: {told}" if given else f"test_{number}.py::test_it: {told}"]
            )
        places = re.findall(r"^(\S+\.py:\d+): ", result.stdout.str(), re.MULTILINE)
        assert len(places) == sum(bool(given) for _settings, _marker, given, _told in cases), (
            "no line of ours"
        )

    return check
