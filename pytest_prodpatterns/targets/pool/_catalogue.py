"""The pools that we know by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_prodpatterns.targets.pool._protocol import PoolAdapter

_ADAPTERS: Final = {
    "ours": ("_ours", "OurAdapter"),
    "ppe-fork": ("_ppe", "ForkAdapter"),
    "ppe-forkserver": ("_ppe", "ForkserverAdapter"),
    "ppe-spawn": ("_ppe", "SpawnAdapter"),
    "multiprocessing-pool": ("_multiprocessing", "MultiprocessingAdapter"),
    "loky": ("_loky", "LokyAdapter"),
    "pebble": ("_pebble", "PebbleAdapter"),
    "mpire": ("_mpire", "MpireAdapter"),
    "billiard": ("_billiard", "BilliardAdapter"),
    "deadpool": ("_deadpool", "DeadpoolAdapter"),
    "anyio": ("_anyio", "AnyioAdapter"),
    "dask": ("_dask", "DaskAdapter"),
    "ours-on-dask": ("_dask", "OurDaskAdapter"),
}
"""Name on the command line -> module and class of its adapter."""

NAMES: Final = tuple(_ADAPTERS)


def adapter(name: str) -> PoolAdapter:
    """Return the adapter of that name.

    Raises:
        KeyError: There is none.
    """
    module, attribute = _ADAPTERS[name]
    found: type[PoolAdapter] = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
    return found()
