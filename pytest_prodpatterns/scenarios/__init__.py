"""Packaged chaos experiments on the Chaos Toolkit's engine: loader, control, verdicts, catalogue."""

from __future__ import annotations

from pytest_prodpatterns.scenarios._run import NotApplicable, NotInjected, Run, current_run

__all__ = ["NotApplicable", "NotInjected", "Run", "current_run"]
