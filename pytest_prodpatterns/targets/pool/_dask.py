"""dask.distributed on a local cluster: a scheduler, a nanny a worker, tasks of dead workers run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.pool import _tasks
from pytest_prodpatterns.targets.pool._ours import OurAdapter
from pytest_prodpatterns.targets.pool._protocol import ExecutorAdapter, FutureLike, PoolSettings, library

if TYPE_CHECKING:
    from collections.abc import Callable


class _Pool:
    """A cluster, a client of it, and the client as an Executor."""

    def __init__(self, cluster: Any, client: Any) -> None:
        self.cluster = cluster
        self.client = client
        self.executor = client.get_executor()


class DaskAdapter(ExecutorAdapter):
    """Adapt `distributed.LocalCluster` and `Client.get_executor`."""

    name = "dask"
    distribution = "distributed"
    description = "LocalCluster(n_workers, processes, threads_per_worker=1), Client.get_executor(); allowed-failures 3 or as asked"
    lacks = {  # noqa: RUF012
        "bounded-queue": "dask accepts any number of tasks",
        "reject-when-full": "dask accepts any number of tasks",
        "queue-timeout": "dask accepts any number of tasks",
        "task-timeout": "dask never ends a task that runs (result(timeout) only stops waiting)",
        "drain-on-sigterm": "dask does nothing about signals to the process of a LocalCluster",
    }

    def make(self, settings: PoolSettings) -> Any:
        """Make a cluster of worker processes with one thread each, and wait for its workers."""
        if settings.retries:
            library("dask").config.set({"distributed.scheduler.allowed-failures": settings.retries})
        return _Pool(*_cluster(settings))

    def submit(self, pool: Any, fn: Callable[..., Any], *args: Any) -> FutureLike:
        """Submit by the client's Executor."""
        future: FutureLike = pool.executor.submit(fn, *args)
        return future

    async def run_async(self, pool: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """Run by `loop.run_in_executor`."""
        return await super().run_async(pool.executor, fn, *args)

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Shut the Executor down, then the cluster, whose nannies kill what has not ended after four seconds.

        A time-out of `close` would only stop the waiting.
        """
        pool.executor.shutdown(wait=wait and not cancel and deadline is None)
        pool.client.close()
        pool.cluster.close()


class OurDaskAdapter(OurAdapter):
    """Adapt our pool over a `LocalCluster`."""

    name = "ours-on-dask"
    distribution = "distributed"
    description = (
        "WorkerPool.over(Client(LocalCluster(threads_per_worker=1)), max_queue_size, when_full, on_crash, …)"
    )

    def make(self, settings: PoolSettings) -> Any:
        """Make a cluster that gives up no worker, and the pool over it."""
        from pytest_prodpatterns.patterns.pool import WorkerPool, retry  # noqa: PLC0415

        library("dask").config.set({"distributed.deploy.lost-worker-timeout": "1h"})
        self._cluster, self._client = _cluster(settings)
        bound: dict[str, Any] = {} if settings.queue_size is None else {"max_queue_size": settings.queue_size}
        pool = WorkerPool.over(
            self._client,
            **bound,
            name="jobs",
            when_full=settings.when_full,
            queue_timeout=settings.queue_timeout,
            on_crash=retry(settings.retries) if settings.retries else "fail",
            task_timeout=settings.task_timeout,
        )
        return self.wrap(pool, settings)

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Shut the pool down; the cluster is its maker's to close, and closes when no task is left."""
        super().shutdown(pool, wait=wait, cancel=cancel, deadline=deadline)
        self._client.close()
        self._cluster.close()


def _cluster(settings: PoolSettings) -> tuple[Any, Any]:
    """Return a cluster of worker processes with one thread each, and a client of it, when its workers are there."""
    distributed = library("distributed")
    cluster = distributed.LocalCluster(
        n_workers=settings.workers, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    client = distributed.Client(cluster)
    if settings.initializer is not None:
        client.register_plugin(_initializer(settings.initializer))
    client.wait_for_workers(settings.workers)
    return cluster, client


def _initializer(kind: str) -> Any:
    """Return a plugin of the workers that runs the initializer when a worker starts."""
    plugin: Any = library("distributed").WorkerPlugin

    class Initializer(plugin):  # type: ignore[misc]
        name = "initializer"

        def setup(self, worker: Any) -> None:  # noqa: ARG002
            _tasks.initialize(kind)

    return Initializer()
