"""The pytest entry point: it registers the modules that hold our options, hooks and fixtures.

Every one of them is loaded by every run of pytest in an environment that has this package, used or not. So
they import pytest and light modules of the standard library only; a component is imported by the fixture that
hands it out, and the lab by the first test that asks for it. `tests/plugin/test_startup.py` holds them to it.

They are registered one by one because `pytest_plugins` costs more than all of them together: for each name in
it pytest reads the entry points of every installed distribution.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

MODULES: Final = (
    "_options",
    "chaos",
    "_controller",
    "_endings",
    "_explain",
    "virtual_time",
    "breaker",
    "faults",
    "pool",
    "processes",
    "scenarios",
    "server",
)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Register our modules; this is the first hook that pytest calls, and it calls theirs in turn."""
    del parser
    for module in MODULES:
        name = f"pytest_prodpatterns.fixtures.{module}"
        if not pluginmanager.hasplugin(name):  # `-p` may have named it
            pluginmanager.register(importlib.import_module(name), name)
