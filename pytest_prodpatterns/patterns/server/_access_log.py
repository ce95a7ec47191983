"""The access log: one JSON object a line, so that no client can forge a line."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from aiohttp.abc import AbstractAccessLogger

from pytest_prodpatterns.patterns.server._request import Request

if TYPE_CHECKING:
    from aiohttp import web

access = logging.getLogger("pytest_prodpatterns.server.access")
_encode = json.JSONEncoder().encode


class JsonAccessLogger(AbstractAccessLogger):
    """Write each answered request to the logger `pytest_prodpatterns.server.access`, level INFO."""

    @property
    def enabled(self) -> bool:
        """Whether anybody reads it; asked once a connection."""
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write one line."""
        line = {
            "method": request.method,
            "path": request.raw_path,
            "status": response.status,
            "bytes": response.body_length,
            "seconds": round(time, 6),
            "remote": request.remote,
            "request_id": request.id if isinstance(request, Request) else "",
            "agent": request.headers.get("User-Agent"),
        }
        self.logger.info(_encode(line))
