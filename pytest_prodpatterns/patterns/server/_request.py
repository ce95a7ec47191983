"""The request as handlers see it: aiohttp's, with an id and strict JSON; its responses tell when the server leaves."""

from __future__ import annotations

import itertools
import json
import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from aiohttp import web
from aiohttp.hdrs import CONNECTION
from aiohttp.web import Response
from multidict import istr

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.server._active import Active

HEADER: Final = istr("X-Request-ID")
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this code works for; empty outside a handler."""

PREFIX: Final = f"{secrets.token_hex(6)}-"
NUMBERS: Final = itertools.count(1)
"""What new ids are made of."""
_FIT: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_JSON: Final = re.compile(r"[^/]+/(?:[^/]+\+)?json")


def identify(given: str | None) -> str:
    """Return the id that the client gave, when it is harmless, or a new one."""
    return f"{PREFIX}{next(NUMBERS)}" if given is None or not _FIT.fullmatch(given) else given


class Request(web.Request):
    """A request in our hands."""

    # What each request gets stands in slots: an attribute that the class has, too, is slow to set.
    __slots__ = ("_begun", "id", "started")
    ATTRS = web.Request.ATTRS | {"_begun", "id", "started", "reason", "websocket"}
    id: str
    started: float
    active: ClassVar[Active]
    """The books of the server; each server has a subclass of its own."""
    reason: str | None = None
    """Why we cancelled its handler: `timeout`, `stalled`, `deadline`."""
    websocket: web.WebSocketResponse | None = None

    @property
    def begun(self) -> bool:
        """Whether the head of a response was made: from then on no other response can be sent."""
        return hasattr(self, "_begun")

    async def json(self, *, loads: Callable[[str], Any] | None = None) -> Any:
        """Return the body as JSON; one that is none is the client's error: 400, or 415 for its type or charset."""
        if self.body_exists and not _JSON.fullmatch(self.content_type):
            raise web.HTTPUnsupportedMediaType(text="The body must be JSON, and say so: application/json.")
        try:
            return (loads or _loads)(await self.text())
        except LookupError:
            raise web.HTTPUnsupportedMediaType(text="The charset of the body is not known.") from None
        except (ValueError, RecursionError):
            raise web.HTTPBadRequest(text="The body is not valid JSON.") from None

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        headers = response._headers  # noqa: SLF001 - `headers` is a property, and this happens for each request
        headers[HEADER] = self.id
        if type(response) is not Response and isinstance(response, web.WebSocketResponse):
            self.websocket = response
        elif self.active.leaving:
            response.force_close()
            headers[CONNECTION] = "close"
        match = self._match_info
        if match is not None:
            for app in match._apps:  # noqa: SLF001 - as aiohttp does
                if app.on_response_prepare:
                    await app.on_response_prepare.send(self, response)
        self._begun = True


def request_factory(app: web.Application, active: Active) -> Callable[..., web.Request]:
    """Return what makes the requests of one server: aiohttp's own function, with our class as its default."""
    kind: Any = type("Request", (Request,), {"active": active})
    make: Any = app._make_request  # noqa: SLF001
    of = make.__func__
    return MethodType(FunctionType(of.__code__, of.__globals__, of.__name__, (kind,), of.__closure__), app)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_loads = json.JSONDecoder(parse_constant=_refuse).decode
