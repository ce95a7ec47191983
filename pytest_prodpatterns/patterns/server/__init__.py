"""The server: aiohttp, with an end that loses no request and tells the truth about it."""

from __future__ import annotations

from pytest_prodpatterns.patterns.server._problem import problem
from pytest_prodpatterns.patterns.server._request import REQUEST_ID, Request
from pytest_prodpatterns.patterns.server._server import ProductionServer
from pytest_prodpatterns.patterns.server._state import LifeEvent, ServerState, advance

__all__ = ["REQUEST_ID", "LifeEvent", "ProductionServer", "Request", "ServerState", "advance", "problem"]
