"""The application that a server under test serves where nobody gives one: `make_server` ours, `make_app` for aiohttp.

The same routes stand in `_demo_asgi` and `_demo_wsgi`, so that servers are compared and not applications.
Run as a script (`python -m … PORT SECONDS`), it is aiohttp's own `run_app` that serves.
"""

from __future__ import annotations

import asyncio
import os
import sys

from aiohttp import web

SECRET = "prodpatterns-secret-4711"  # noqa: S105 - what must not leak, for all to see
STEP = 0.05


async def slow(request: web.Request) -> web.Response:
    """Answer behind so many seconds."""
    seconds = float(request.query.get("seconds", "1"))
    print("HANDLER_START", flush=True)  # noqa: T201 - evidence
    await asyncio.sleep(seconds)
    return web.json_response({"slept": seconds})


async def stream(request: web.Request) -> web.StreamResponse:
    """Answer with a body that takes so many seconds."""
    steps = max(1, int(float(request.query.get("seconds", "1")) / STEP))
    response = web.StreamResponse()
    await response.prepare(request)
    for step in range(steps):
        await response.write(f"{step}\n".encode())
        await asyncio.sleep(STEP)
    await response.write_eof()
    return response


async def events(request: web.Request) -> web.StreamResponse:
    """Answer with events without end, or until the server drains."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    draining = request.app.get(DRAINING) or asyncio.Event()
    while not draining.is_set():
        await response.write(b"data: tick\n\n")
        try:
            await asyncio.wait_for(draining.wait(), STEP)
        except TimeoutError:
            continue
    await response.write(b"event: shutdown\ndata: bye\n\n")
    await response.write_eof()
    return response


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Send back what comes."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(str(message.data))
    return socket


async def process(request: web.Request) -> web.Response:
    """Take JSON, and send it back."""
    try:
        return web.json_response({"result": await request.json()})
    except (ValueError, RecursionError):
        return web.json_response({"error": "this is no JSON"}, status=400)


async def fail(_request: web.Request) -> web.Response:
    """Raise an error with something in it that is nobody's business."""
    raise RuntimeError(SECRET)


async def health(_request: web.Request) -> web.Response:
    """Answer at once."""
    return web.json_response({"status": "healthy"})


ROUTES = [
    web.get("/slow", slow),
    web.get("/stream", stream),
    web.get("/events", events),
    web.get("/ws", websocket),
    web.post("/api/process", process),
    web.get("/fail", fail),
]
DRAINING: web.AppKey[asyncio.Event] = web.AppKey("draining", asyncio.Event)


def make_app() -> web.Application:
    """Return the application for a server that has no routes of its own."""
    app = web.Application()
    app.add_routes([*ROUTES, web.get("/health", health), web.get("/", health)])
    return app


def make_server() -> object:
    """Return a `ProductionServer` with these routes; DEMO_WORKERS and DEMO_UVLOOP say how it runs."""
    from pytest_prodpatterns.patterns.server import ProductionServer  # noqa: PLC0415 - aiohttp alone needs none of it

    class Demo(ProductionServer):
        """The demo's routes, on a server of ours."""

        def setup_routes(self) -> None:
            self.app.add_routes([*ROUTES, web.get("/", health)])

    workers = int(os.environ.get("DEMO_WORKERS", "1"))
    server = Demo(
        "127.0.0.1",
        lame_duck=1.2,
        drain_timeout=2.0,
        header_timeout=1.0,
        max_concurrent=20,
        workers=workers,
        uvloop=False if os.environ.get("DEMO_UVLOOP") == "no" else None,
        access_log=False,
    )
    server.app[DRAINING] = server.draining
    return server


if __name__ == "__main__":
    web.run_app(
        make_app(), host="127.0.0.1", port=int(sys.argv[1]), shutdown_timeout=float(sys.argv[2]), print=None
    )
