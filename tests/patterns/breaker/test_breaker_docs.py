"""The page about the breaker tells the truth: its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "circuit-breaker.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_runs(number):
    block = BLOCKS[number].replace("asyncio.run(", "run(")
    from breaker_support import run

    assert "assert" in block
    exec(compile(block, f"{PAGE.name}, block {number}", "exec"), {"run": run})
