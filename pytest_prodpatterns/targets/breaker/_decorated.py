"""What a function loses when a breaker decorates it: its name, its words, its signature, its kind."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.lab import emit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_prodpatterns.targets.breaker._driver import Driver
    from pytest_prodpatterns.targets.breaker._protocol import Kind


def transfer(account: str, /, amount: float, *, currency: str = "EUR") -> str:
    """Move money."""
    return f"{amount} {currency} to {account}"


async def transfer_async(account: str, /, amount: float, *, currency: str = "EUR") -> str:
    """Move money, later."""
    return f"{amount} {currency} to {account}"


def complaints(driver: Driver, kind: Kind) -> None:
    """Decorate a function and record what it lost as an event `target:decorator` `decorated`."""
    func: Any = transfer_async if kind == "async" else transfer
    try:
        lost = list(_lost(func, driver.decorate(func, kind)))
    except Exception as error:  # noqa: BLE001 - a refusal may have any type
        emit("target:decorator", "refused", attempt=driver.attempt, guard=kind, error=repr(error))
        return
    emit("target:decorator", "decorated", attempt=driver.attempt, guard=kind, lost=lost)


def _lost(func: Any, decorated: Any) -> Iterator[str]:
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        if getattr(decorated, name, None) != getattr(func, name):
            yield f"{name} is {getattr(decorated, name, None)!r}"
    if inspect.signature(decorated) != inspect.signature(func):
        yield f"its signature is {inspect.signature(decorated)}"
    if inspect.iscoroutinefunction(decorated) != inspect.iscoroutinefunction(func):
        yield "it is no coroutine function any more" if inspect.iscoroutinefunction(func) else "it became one"
