"""One contender of the server's benchmarks in its own process: `python -m benchmarks._server_host KIND LOOP`."""

from __future__ import annotations

import asyncio
import logging
import sys

from aiohttp import web

from pytest_prodpatterns.patterns.server import ProductionServer


async def _healthy(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"status": "healthy"})


async def _aiohttp(access_log: logging.Logger | None) -> int:
    app = web.Application()
    app.router.add_get("/health", _healthy)
    runner = web.AppRunner(app, access_log=access_log)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return site.port


async def _ours(log: bool) -> int:
    app = web.Application()
    app.router.add_get("/health", _healthy)
    server = ProductionServer("127.0.0.1", 0, app=app, access_log=log, metrics=log, max_concurrent=2000)
    await server.start_server()
    return int(server.url.rpartition(":")[2])


async def _serve(kind: str) -> None:
    port = await {
        "aiohttp": lambda: _aiohttp(None),
        "aiohttp with its log": lambda: _aiohttp(logging.getLogger("aiohttp.access")),
        "ours": lambda: _ours(log=False),
        "ours with all": lambda: _ours(log=True),
    }[kind]()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main(kind: str, loop: str) -> None:
    """Print the port, and serve until stdin ends."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(kind))


if __name__ == "__main__":
    main(*sys.argv[1:])
