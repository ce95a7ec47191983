"""The error of a rejected call."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.patterns.breaker._state import OPEN, CircuitState


class CircuitOpenError(Exception):
    """Raised instead of the call when a breaker rejects it.

    Each rejection raises a fresh one. It is cheap (no text is built before somebody asks for it) and
    picklable, so that it can leave a worker process.

    Args (by position):
        name: The breaker's name.
        state: The state in which it rejected: open, half_open or forced_open.
        retry_after: Seconds until a call is let through: until the break is over when open, until the lease
            of a running probe ends at the latest when half-open, None when forced open.
        last_failure: The exception that was counted last; None if there was none.
    """

    __module__ = "pytest_prodpatterns"  # where reports and users find it

    # The constructor's arguments stay where `BaseException.__new__` puts them: in `args`. That costs no
    # Python-level `__init__`, and pickle and copy work by themselves.

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str = "default",
            state: CircuitState = OPEN,
            retry_after: float | None = None,
            last_failure: BaseException | None = None,
            /,
        ) -> None: ...

    @property
    def name(self) -> str:
        """The breaker's name."""
        return self.args[0] if self.args else "default"

    @property
    def state(self) -> CircuitState:
        """The state in which the call was rejected."""
        return self.args[1] if len(self.args) > 1 else OPEN

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call is let through, counted from the rejection; None when nobody knows."""
        return self.args[2] if len(self.args) > 2 else None

    @property
    def last_failure(self) -> BaseException | None:
        """The exception that was counted last; None if there was none."""
        return self.args[3] if len(self.args) > 3 else None

    def __str__(self) -> str:
        text = f"circuit breaker {self.name!r} is {self.state}"
        if self.retry_after is not None:
            text += f", retry after {self.retry_after:.3g} s"
        if self.last_failure is not None:
            text += f" (last failure: {self.last_failure!r})"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        failure = self.last_failure
        if failure is not None and not _survives_pickling(failure):
            stand_in = RuntimeError(f"{failure!r} (it could not be pickled)")
            return type(self), (*self.args[:3], stand_in)
        return type(self), self.args


def _survives_pickling(error: BaseException) -> bool:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:  # noqa: BLE001
        return False
    return True
