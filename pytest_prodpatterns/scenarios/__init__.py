"""Packaged chaos experiments on the Chaos Toolkit's engine: loader, control, verdicts, catalogue.

What a running action needs is imported at once; what starts runs (and with it YAML and the engine) when it is
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.scenarios._run import NotApplicable, NotInjected, Run, current_run
from pytest_prodpatterns.scenarios._verdict import Outcome, Verdict

if TYPE_CHECKING:
    from pytest_prodpatterns.scenarios._catalogue import get, packaged, select
    from pytest_prodpatterns.scenarios._problems import Problem, ScenarioError
    from pytest_prodpatterns.scenarios._runner import ScenarioInterrupted, run_scenario
    from pytest_prodpatterns.scenarios._scenario import Scenario, load

__all__ = [
    "NotApplicable",
    "NotInjected",
    "Outcome",
    "Problem",
    "Run",
    "Scenario",
    "ScenarioError",
    "ScenarioInterrupted",
    "Verdict",
    "current_run",
    "get",
    "load",
    "packaged",
    "run_scenario",
    "select",
]

_LATER: Final = {
    "Problem": "_problems",
    "Scenario": "_scenario",
    "ScenarioError": "_problems",
    "ScenarioInterrupted": "_runner",
    "get": "_catalogue",
    "load": "_scenario",
    "packaged": "_catalogue",
    "run_scenario": "_runner",
    "select": "_catalogue",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
