"""Every example in the README and in docs/ runs: ```python blocks under pytest, ```sh exec blocks in a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_prodpatterns.patterns.pool._state import to_mermaid

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """Return (rest of the info string, body) of each fenced block in that language."""
    found = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        name, _, rest = match["info"].strip().partition(" ")
        if name == language:
            found.append((rest, match["body"]))
    return found


def pages_with(language: str, tag: str = "") -> list[Path]:
    return [page for page in PAGES if any(rest.startswith(tag) for rest, _ in blocks(page, language))]


@pytest.mark.parametrize("page", pages_with("python"), ids=lambda page: page.name)
def test_the_python_examples_of_a_page_pass(page: Path, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")
    for number, (tag, body) in enumerate(blocks(page, "python"), 1):
        name = "collected" if tag == "collect" else "test_example"  # a whole contract takes minutes
        (pytester.path / f"{name}_{number}.py").write_text(body, encoding="utf-8")
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    output = result.stdout.str()
    assert result.ret in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}, output
    assert "skipped" not in output, output
    for path in pytester.path.glob("collected_*.py"):
        assert pytester.runpytest_subprocess("-q", "--collect-only", path).ret == pytest.ExitCode.OK


@pytest.mark.parametrize("page", pages_with("sh", "exec"), ids=lambda page: page.name)
def test_the_shell_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for rest, body in blocks(page, "sh"):
        if not rest.startswith("exec"):
            continue
        expected = int(rest.partition("=")[2] or 0)
        done = subprocess.run(
            ["bash", "-euc", body],
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expected, f"$ {body}\n{done.stdout}\n{done.stderr}"


def test_every_page_is_reachable_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_picture_of_a_tasks_states_is_the_table_that_the_pool_goes_by():
    page = (ROOT / "docs" / "worker-pool.md").read_text()
    assert f"```mermaid\n{to_mermaid()}\n```" in page
