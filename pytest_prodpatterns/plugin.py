"""The pytest entry point: it names the modules that hold our options, hooks and fixtures.

Every one of them is loaded by every run of pytest in an environment that has this package, used or not. So
they import pytest and light modules of the standard library only; a component is imported by the fixture that
hands it out, and the lab by the first test that asks for it. `tests/plugin/test_startup.py` holds them to it.
"""

from __future__ import annotations

pytest_plugins = (
    "pytest_prodpatterns.fixtures._options",
    "pytest_prodpatterns.fixtures._controller",
    "pytest_prodpatterns.fixtures._explain",
    "pytest_prodpatterns.fixtures.chaos",
)
