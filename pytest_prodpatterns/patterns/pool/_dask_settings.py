"""The parameters of `WorkerPool.over`, checked at the door: what dask decides itself is refused, with its own way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.patterns.pool._settings import checked

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.pool._settings import Settings

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

INITIALIZER: Final = "register a distributed.WorkerPlugin with client.register_plugin()"
NANNY: Final = "its nannies replace every worker that dies, however many die"
DASKS_OWN: Final = {
    "num_workers": "size the cluster: LocalCluster(n_workers=…), cluster.scale(…)",
    "start_method": "set distributed.worker.multiprocessing-method in dask's configuration",
    "initializer": INITIALIZER,
    "initargs": INITIALIZER,
    "max_tasks_per_worker": "give the workers a lifetime: LocalCluster(lifetime='1h', lifetime_restart=True)",
    "max_worker_memory": "set memory_limit, and distributed.worker.memory.terminate in dask's configuration",
    "max_restarts": NANNY,
    "restart_period": NANNY,
    "max_boot_failures": NANNY,
    "forward_logs": "call client.forward_logging()",
}
"""Parameters of a local pool that a cluster has no place for, and how dask does what they are for."""


def settings_over(client: Any, make: Callable[..., Any], given: Mapping[str, Any]) -> Settings:
    """Return the settings of a pool over a cluster.

    Args:
        client: A connected `distributed.Client`.
        make: The constructor of a local pool, for its parameters and their defaults.
        given: Those that the caller gave.

    Raises:
        ImportError: When `distributed` is not installed.
        TypeError: When it is no client, or one for a running loop; when a parameter is unknown, dask's own, or of
            the wrong type.
        ValueError: When the client is closed, or a parameter is out of range.
    """
    _check_client(client)
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(make).parameters.items()
        if name != "self"
    }
    for name in given:
        if name in DASKS_OWN:
            raise TypeError(
                f"WorkerPool.over() takes no {name}, for that is dask's to decide: {DASKS_OWN[name]}"
            )
        if name not in defaults:
            allowed = ", ".join(sorted(defaults.keys() - DASKS_OWN.keys()))
            raise TypeError(f"WorkerPool.over() takes a client and {allowed}, not {name!r}")
    threads = sum(client.nthreads().values())
    settings = checked(**{**defaults, **given, "num_workers": max(1, threads)})
    return replace(settings, start_method="dask")


def _check_client(client: Any) -> None:
    try:
        from distributed import Client  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "WorkerPool.over() needs dask.distributed; install it with:"
            ' python -m pip install "pytest-prodpatterns[dask]"'
        ) from error
    if not isinstance(client, Client):
        raise TypeError(f"WorkerPool.over() takes a distributed.Client, not {client!r}")
    if client.asynchronous:
        raise TypeError(
            "WorkerPool.over() takes a Client that was made without asynchronous=True;"
            " submit_async(), run() and amap() do not block your loop with it"
        )
    if client.status != "running":
        raise ValueError(f"WorkerPool.over() takes a connected client, and this one is {client.status}")
