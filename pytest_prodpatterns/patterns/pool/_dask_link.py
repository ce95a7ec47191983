"""The way to a dask cluster and back: what a pool asks of the client, and the news that it gets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.patterns.pool._dask_cluster import ExitWatch, PoolRegistry
from pytest_prodpatterns.patterns.pool._dask_worker import Call, run_call, split

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_prodpatterns.patterns.pool._call import Message
    from pytest_prodpatterns.patterns.pool._context import Place
    from pytest_prodpatterns.patterns.pool._dask_flights import Key, Member

WELCOME: Final = 10.0
"""Seconds that the scheduler may take to answer a new pool."""
FAREWELL: Final = 0.3
"""Seconds that a pool which leaves waits for the cluster to do what it was told."""


class ClusterLink:
    """A pool's link to a cluster, by the client that the pool was given.

    Args:
        client: A connected client.
        pool: What the cluster calls the pool; unique.
        places: Where the context variables are that travel with each call.
        hear: Called on the client's loop with each piece of news; the first is `welcome`.
    """

    def __init__(
        self, client: Any, pool: str, places: Sequence[Place], hear: Callable[[dict[str, Any]], None]
    ) -> None:
        self._client = client
        self._pool = pool
        self._places = places
        self._hear = hear
        self._spool = os.environ.get("PRODPATTERNS_TIMELINE")
        self._welcomed = threading.Event()
        self._orders: set[asyncio.Future[Any]] = set()  # to end workers, under way

    @property
    def connected(self) -> bool:
        """Whether the client is connected. When its connection was lost, the cluster has forgotten the pool."""
        return bool(self._client.status == "running")

    @property
    def on_loop(self) -> bool:
        """Whether this is called on the client's loop."""
        return bool(self._client.asynchronous)

    def join(self) -> None:
        """Introduce the pool to the cluster, and wait until it is known there.

        Raises:
            Exception: Whatever the cluster raises, for example when it has not got this package.
        """
        client = self._client
        client.register_plugin(PoolRegistry())
        client.register_plugin(ExitWatch())
        client.subscribe_topic(self._pool, self._receive)
        client.sync(client.scheduler.prodpatterns_join, pool=self._pool, client=client.id)
        if not self._welcomed.wait(WELCOME):
            raise TimeoutError(f"the scheduler has not answered for {WELCOME:g} s")

    async def leave(self) -> None:
        """Wait until the cluster has done what it was told, but not for long, and be forgotten there."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(FAREWELL):
                if self._orders:
                    await asyncio.wait(self._orders)
                await self._client.scheduler.prodpatterns_leave(pool=self._pool)
        with contextlib.suppress(Exception):
            self._client.unsubscribe_topic(self._pool)
        self._hear = _ignore  # the client keeps the handler

    def submit(self, key: Key, message: Message) -> Any:
        """Hand a call to dask and return dask's future; its result is None, for answers are news.

        Raises:
            Exception: Whatever dask raises, for example when the client was closed.
        """
        body, *buffers = split(message)
        call = Call(body, buffers, self._places, self._spool)
        return self._client.submit(run_call, call, key=key, pure=False)

    def post(self, call: Callable[..., Any], *args: Any) -> None:
        """Call a function, or run a coroutine function, on the client's loop; from any thread."""
        self._client.loop.add_callback(call, *args)

    def call_later(self, seconds: float, call: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """Call a function on the client's loop, later; to be called there."""
        loop: asyncio.AbstractEventLoop = self._client.loop.asyncio_loop
        return loop.call_later(seconds, call, *args)

    def end(self, member: Member | None, key: Key, grace: float) -> None:
        """Have a worker's process ended, if it still runs that key; to be called on the loop."""
        if member is None or not member.seat.can_be_ended or key not in member.running:
            return
        member.ordered = True
        end = self._client.scheduler.prodpatterns_end
        order = asyncio.ensure_future(end(key=key, worker=member.seat.address, grace=grace))
        self._orders.add(order)
        order.add_done_callback(lambda order: self._done(order, member))

    def _done(self, order: asyncio.Future[Any], member: Member) -> None:
        self._orders.discard(order)
        if order.cancelled() or order.exception() is not None or not order.result():
            member.ordered = False

    def _receive(self, event: tuple[float, dict[str, Any]]) -> None:
        self._hear(event[1])
        if event[1]["kind"] == "welcome":
            self._welcomed.set()


def _ignore(news: dict[str, Any]) -> None:
    """Hear nothing."""
