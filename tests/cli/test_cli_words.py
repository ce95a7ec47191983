"""`list`, `explain`, help texts; and what the command may load before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pytest_prodpatterns import __version__
from pytest_prodpatterns.cli import main


def call(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_version_and_help(capsys) -> None:
    assert call(capsys, "--version") == f"prodpatterns, version {__version__}\n"
    text = call(capsys, "--help")
    assert "prodpatterns check breaker pybreaker" in text
    assert "130 interrupted" in text
    for command in ("run", "check", "list", "explain"):
        assert f"prodpatterns {command}" in call(capsys, command, "--help")


def test_list_names_each_scenario_with_its_title(capsys) -> None:
    lines = call(capsys, "list").splitlines()
    assert len(lines) >= 27
    assert any(line.startswith("breaker/recovers ") for line in lines)
    assert call(capsys, "list", "breaker/wall-*").count("\n") == 2
    rows = json.loads(call(capsys, "list", "breaker/recovers", "--json"))["scenarios"]
    assert [row["name"] for row in rows] == ["breaker/recovers"]
    assert "ours, pybreaker" in call(capsys, "list", "--targets")


def test_explain_tells_what_it_does_why_it_matters_and_how(capsys) -> None:
    text = call(capsys, "explain", "breaker/recovers")
    assert text.startswith("A breaker recovers")
    for heading in (
        "Promises (they decide the verdict):\n  - ",
        "Method:\n  - ",
        "Subject: breaker",
        "Run it: ",
    ):
        assert heading in text


def loaded(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after `code`."""
    script = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint('|', *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return {name.partition(".")[0] for name in done.stderr.rpartition("|")[2].split()}


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    start = "from pytest_prodpatterns.cli import main; "
    heavy = {"chaoslib", "requests", "rich", "pytest", "aiohttp", "redis", "hypothesis"}
    assert not heavy & loaded(f"{start}main(['--help'])")
    assert not heavy - {"chaoslib", "requests"} & loaded(
        f"{start}main(['run', 'breaker/opens-at-threshold'])"
    )


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "pytest_prodpatterns", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"prodpatterns, version {__version__}\n"
