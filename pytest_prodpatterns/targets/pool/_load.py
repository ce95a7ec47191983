"""What the host loads: an adapter of ours by its name, or the factory of a user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_prodpatterns.targets.pool._protocol import PoolAdapter


def load(target: dict[str, Any]) -> PoolAdapter:
    """Return the adapter of a target, as the engine described it."""
    if "adapter" in target:
        from pytest_prodpatterns.targets.pool import _catalogue  # noqa: PLC0415

        return _catalogue.adapter(target["adapter"])
    from pytest_prodpatterns.targets.pool._factory import FactoryAdapter  # noqa: PLC0415

    return FactoryAdapter(**target["factory"])
