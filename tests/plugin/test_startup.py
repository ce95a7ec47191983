"""What the plugin costs those who do not use it: nothing heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp",
    "chaoslib",
    "click",
    "fakeredis",
    "hypothesis",
    "jinja2",
    "multiprocessing",
    "prometheus_client",
    "psutil",
    "pydantic",
    "pydantic_settings",
    "redis",
    "requests",
    "rich",
    "time_machine",
    "yaml",
}

TELL_MODULES = """
import json, sys
def pytest_unconfigure():
    with open("modules.json", "w") as file:
        json.dump(sorted(sys.modules), file)
"""


def run(*command: str, cwd) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def modules_after(pytester: pytest.Pytester, *arguments: str) -> set[str]:
    run(sys.executable, "-m", "pytest", *arguments, cwd=pytester.path)
    return set(json.loads((pytester.path / "modules.json").read_text()))


@pytest.mark.parametrize("arguments", [["--collect-only"], []], ids=["collected", "run"])
def test_a_suite_that_does_not_use_us_loads_nothing_heavy_and_no_lab(pytester, arguments):
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(TELL_MODULES)
    pytester.makepyfile("def test_nothing(): ...")
    with_us = modules_after(pytester, *arguments)
    without_us = modules_after(pytester, *arguments, "-p", "no:prodpatterns")
    assert "pytest_prodpatterns.plugin" in with_us - without_us
    because_of_us = {name.partition(".")[0] for name in with_us - without_us}
    assert not because_of_us & HEAVY
    ours = {name for name in with_us if name.startswith("pytest_prodpatterns.")}
    floors = {name.split(".")[1] for name in ours}
    assert floors == {"plugin", "fixtures"}, ours


@pytest.mark.parametrize(
    "name", ["CircuitBreaker", "CircuitOpenError", "trip", "ChaosLab", "virtual_time", "WorkerPool"]
)
def test_a_public_name_loads_the_standard_library_only(name, tmp_path):
    code = (
        "import sys\nbefore = set(sys.modules)\n"
        f"from pytest_prodpatterns import {name}\n"
        "loaded = {module.partition('.')[0] for module in set(sys.modules) - before}\n"
        "strangers = loaded - sys.stdlib_module_names - {'pytest_prodpatterns', '__mp_main__'}\n"
        "assert not strangers, strangers\n"
    )
    run(sys.executable, "-c", code, cwd=tmp_path)
