"""Success, failure, or neither: what a call's outcome means to its breaker."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.breaker._settings import Settings


class Outcome(StrEnum):
    """What an outcome counts as."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


SUCCESS: Final = Outcome.SUCCESS
FAILURE: Final = Outcome.FAILURE
IGNORED: Final = Outcome.IGNORED


def outcome_of(settings: Settings, result: Any, error: Exception | None) -> Outcome:
    """Return what a result, or an error, counts as.

    Raises:
        Exception: Whatever the user's classifier raised, or TypeError for an answer that is no outcome.
    """
    if settings.classify is not None:
        answer = settings.classify(result, error)
        if answer is not None:
            if answer not in (SUCCESS, FAILURE, IGNORED):
                raise TypeError(f"classify must return an Outcome or None, not {answer!r}")
            return Outcome(answer)
    return default_outcome(settings, error)


def default_outcome(settings: Settings, error: Exception | None) -> Outcome:
    """Return what an outcome counts as without a classifier.

    An exception that is neither in `ignore` nor in `failures` is an answer of a living dependency: success.
    """
    if error is None:
        return SUCCESS
    if isinstance(error, settings.ignore):
        return IGNORED
    return FAILURE if isinstance(error, settings.failures) else SUCCESS


def wait_of(settings: Settings, outcome: Any) -> float | None:
    """Return the seconds for which a result or an exception asks to be left alone; None if it does not.

    Raises:
        Exception: Whatever the user's `retry_after` raised, or TypeError/ValueError for a useless answer.
    """
    if settings.retry_after is None:
        return None
    answer = settings.retry_after(outcome)
    if answer is None or answer == 0:
        return None
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise TypeError(f"retry_after must return seconds or None, not {answer!r}")
    if not math.isfinite(answer) or answer < 0:
        raise ValueError(f"retry_after must return finite seconds, not {answer!r}")
    limit = settings.max_recovery_timeout
    return answer if limit is None else min(answer, limit)
