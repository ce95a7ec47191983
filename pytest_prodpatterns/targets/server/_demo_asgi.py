"""The application of `_demo` for ASGI servers: no framework, so that the server alone is looked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SECRET = "prodpatterns-secret-4711"  # noqa: S105 - what must not leak, for all to see
STEP = 0.05


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the routes of `_demo`."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _websocket(receive, send)
    else:
        route = _ROUTES.get(scope["path"], _nowhere)
        await route(_seconds(scope), receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def _websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message.get("text") or ""})


async def _slow(seconds: float, receive: Receive, send: Send) -> None:
    del receive
    print("HANDLER_START", flush=True)  # noqa: T201 - evidence
    await asyncio.sleep(seconds)
    await _answer(send, 200, {"slept": seconds})


async def _stream(seconds: float, receive: Receive, send: Send) -> None:
    del receive
    await _begin(send, b"text/plain")
    for step in range(max(1, int(seconds / STEP))):
        await send({"type": "http.response.body", "body": f"{step}\n".encode(), "more_body": True})
        await asyncio.sleep(STEP)
    await send({"type": "http.response.body", "body": b""})


async def _events(seconds: float, receive: Receive, send: Send) -> None:
    """Send events until the server says that it is over, in the way of ASGI."""
    del seconds
    await _begin(send, b"text/event-stream")
    await receive()
    over = asyncio.ensure_future(receive())
    while not over.done():
        await send({"type": "http.response.body", "body": b"data: tick\n\n", "more_body": True})
        await asyncio.wait({over}, timeout=STEP)
    await send({"type": "http.response.body", "body": b""})


async def _process(seconds: float, receive: Receive, send: Send) -> None:
    del seconds
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    try:
        await _answer(send, 200, {"result": json.loads(body)})
    except (ValueError, RecursionError):
        await _answer(send, 400, {"error": "this is no JSON"})


async def _fail(seconds: float, receive: Receive, send: Send) -> None:
    del seconds, receive, send
    raise RuntimeError(SECRET)


async def _health(seconds: float, receive: Receive, send: Send) -> None:
    del seconds, receive
    await _answer(send, 200, {"status": "healthy"})


async def _nowhere(seconds: float, receive: Receive, send: Send) -> None:
    del seconds, receive
    await _answer(send, 404, {"error": "there is nothing here"})


_ROUTES = {
    "/": _health,
    "/health": _health,
    "/slow": _slow,
    "/stream": _stream,
    "/events": _events,
    "/api/process": _process,
    "/fail": _fail,
}


def _seconds(scope: Scope) -> float:
    return float(parse_qs(scope.get("query_string", b"").decode()).get("seconds", ["1"])[0])


async def _begin(send: Send, kind: bytes, status: int = 200, length: int | None = None) -> None:
    headers = [(b"content-type", kind)]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _answer(send: Send, status: int, document: object) -> None:
    body = json.dumps(document).encode()
    await _begin(send, b"application/json", status, len(body))
    await send({"type": "http.response.body", "body": body})
