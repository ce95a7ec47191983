"""A pool's task on a dask worker: it asks for leave, runs the call, and sends the answer to the scheduler.

The answer goes by the stream on which the worker then tells that the key is done: so the pool has the answer
when dask knows of the end, and nobody fetches it. (A value as large as the memory of the scheduler has to stay
with dask: keep it there with dask's own means, and return where it is.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from distributed import get_worker
from distributed.protocol.serialize import to_serialize
from distributed.utils import sync

from pytest_prodpatterns.lab import follow
from pytest_prodpatterns.patterns.pool._call import Message, decode_call, encode_value
from pytest_prodpatterns.patterns.pool._context import apply
from pytest_prodpatterns.patterns.pool._remote import pack_error

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.pool._context import Place


ANSWER: Final = "prodpatterns-answer"


@dataclass(frozen=True, slots=True)
class Call:
    """What travels to a worker. An object of its own, so that dask does not look into it for keys.

    Attributes:
        body: The call, as `encode_call` wrote it.
        buffers: Its out-of-band buffers.
        places: Where the context variables are that travel with it.
        spool: Where the caller's timeline reads the events of its children, or None.
    """

    body: bytes
    buffers: Sequence[bytes]
    places: Sequence[Place]
    spool: str | None


def run_call(call: Call) -> None:
    """Run a call, if nobody has begun it; dask gets no result, for the answer goes another way."""
    worker = get_worker()
    key, address = worker.get_current_task(), worker.address
    if not sync(worker.loop, worker.scheduler.prodpatterns_begin, key=key, worker=address):
        return
    follow(call.spool)
    start = perf_counter()
    ok = True
    try:
        message = _encoded(_run(call))
    except BaseException as error:  # noqa: BLE001 - SystemExit too: the task fails, and nothing else
        ok, message = False, Message((pack_error(error),))
    seconds = perf_counter() - start
    parts: Any = to_serialize(split(message))  # type: ignore[no-untyped-call]
    answer = {"op": ANSWER, "key": key, "ok": ok, "seconds": seconds, "parts": parts}
    worker.loop.add_callback(worker.batched_stream.send, answer)  # ahead of dask's word that the key is done


def split(message: Message) -> list[bytes]:
    """Return a message as its body, then its out-of-band buffers."""
    count = len(message.parts) - len(message.buffers)
    body = message.parts[0] if count == 1 else b"".join(message.parts[:count])
    return [bytes(body), *map(bytes, message.parts[count:])]


def _run(call: Call) -> Any:
    func, args, kwargs, context = decode_call(
        memoryview(call.body), [memoryview(buffer) for buffer in call.buffers]
    )
    if context is None:
        return func(*args, **kwargs)
    return apply(call.places, context).run(func, *args, **kwargs)


def _encoded(value: Any) -> Message:
    try:
        return encode_value(value)
    except Exception as error:
        error.add_note("the task ran to its end, but its result cannot be pickled")
        raise
