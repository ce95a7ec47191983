"""`prodpatterns serve`: run a server or an application of aiohttp until a signal comes."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pytest_prodpatterns.cli._options import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from pytest_prodpatterns.patterns.server import ProductionServer


@click.command()
@click.argument("target", metavar="MODULE:ATTRIBUTE")
@click.option("--host", metavar="H", help="Where to listen; default: what the server says, else 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Default: PORT, else 8080.")
@click.option("--unix-socket", metavar="PATH", help="Listen on a unix socket instead.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that share the address; HUP renews them.",
)
@click.option(
    "--lame-duck", type=click.FloatRange(min=0), metavar="S", help="Seconds of 503 on /ready first."
)
@click.option(
    "--drain-timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds for what is in flight."
)
@click.option("--max-concurrent", type=click.IntRange(min=1), metavar="N", help="Requests at once, else 503.")
@click.option("--no-access-log", "access_log", flag_value=False, default=None, help="Log no requests.")
def serve(target: str, **options: Any) -> None:
    """Serve MODULE:ATTRIBUTE, and leave with 0 after a clean end, with 1 after a forced one.

    ATTRIBUTE is an application of aiohttp, a ProductionServer, or a function that makes one of them. The options
    are for an application; a ProductionServer knows its own, but for host and port.

    \b
    prodpatterns serve app.web:server
    prodpatterns serve app.web:make_app --port 8000 --lame-duck 5
    """  # noqa: D301 (click reads \b as "leave these lines alone")
    given = {name: value for name, value in options.items() if value is not None}
    with _leaving_when_told():  # the import of an application may take long
        server = _server(target, given)
    code = server.main()
    sys.exit(code)


@contextlib.contextmanager
def _leaving_when_told() -> Iterator[None]:
    """Leave with 0 at SIGTERM or SIGINT, also where a finalizer or a bare except swallows what the handler raises."""
    told = False

    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        nonlocal told
        told = True
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)  # until the server has handlers of its own
    try:
        yield
    finally:
        if told:
            sys.exit(0)


def _server(target: str, options: dict[str, Any]) -> ProductionServer:
    thing = _load(target)
    from aiohttp import web  # noqa: PLC0415 (slow to import)

    from pytest_prodpatterns.patterns.server import ProductionServer  # noqa: PLC0415

    if not isinstance(thing, ProductionServer | web.Application) and callable(thing):
        thing = thing()
    if isinstance(thing, web.Application):
        port = options.pop("port", None)
        if port is None:
            port = _port_of_the_environment()
        try:
            return ProductionServer(options.pop("host", "127.0.0.1"), port, app=thing, **options)
        except ValueError as error:
            raise Refused(str(error)) from None
    if isinstance(thing, ProductionServer):
        if foreign := sorted(options.keys() - {"host", "port"}):
            names = ", ".join("--" + name.replace("_", "-") for name in foreign)
            raise Refused(
                f"{target} is a ProductionServer, which knows its own options; {names} cannot be given"
            )
        thing.host, thing.port = options.get("host", thing.host), options.get("port", thing.port)
        return thing
    if inspect.iscoroutine(thing):
        thing.close()
    raise Refused(
        f"{target} must be a ProductionServer, an aiohttp application, or a function that makes one, "
        f"not {type(thing).__name__}"
    )


def _port_of_the_environment() -> int:
    text = os.environ.get("PORT", "8080")
    if text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise Refused(f"PORT must be a number from 0 to 65535, not {text!r}")


def _load(target: str) -> Any:
    name, colon, path = target.partition(":")
    if not (name and colon and path):
        raise Refused(f"expected module:attribute, not {target!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` has it
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise Refused(
            f"no module is called {error.name!r}; it is looked for from the working directory"
        ) from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise Refused(f"{name} has no {part!r}")
        found = getattr(found, part)
    return found
