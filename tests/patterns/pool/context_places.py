"""Context variables in the places where applications keep them."""

from __future__ import annotations

from contextvars import ContextVar

request_id = ContextVar("request_id")
tenant = ContextVar("another name", default="nobody")
language = ContextVar("language")
not_a_variable = 7


class Settings:
    verbose = ContextVar("verbose")


def told():
    """What a task sees."""
    return request_id.get(None), tenant.get(), language.get(None), Settings.verbose.get(None)
