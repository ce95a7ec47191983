"""Errors as `application/problem+json` (RFC 9457): what went wrong for the client, and nothing else."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from aiohttp import web

CONTENT_TYPE: Final = "application/problem+json"


def problem(status: int, detail: str | None = None, *, request_id: str | None = None) -> web.Response:
    """Return a problem as a response.

    Args:
        status: The HTTP status.
        detail: One sentence for the client; never taken from an unexpected exception.
        request_id: What the client may quote.
    """
    return web.Response(
        status=status, body=_body(status, _phrase(status), detail, request_id), content_type=CONTENT_TYPE
    )


def dress(error: web.HTTPException, request_id: str) -> None:
    """Turn the plain text of an HTTP error into a problem; status, headers and a body of one's own stay."""
    if error.status < HTTPStatus.BAD_REQUEST or error.content_type != "text/plain":
        return
    text = error.text or ""
    detail = None if text == f"{error.status}: {error.reason}" else text or None
    error.body = _body(error.status, error.reason or _phrase(error.status), detail, request_id)
    error.content_type = CONTENT_TYPE
    error.charset = None


def _body(status: int, title: str, detail: str | None, request_id: str | None) -> bytes:
    fields = {"type": "about:blank", "title": title, "status": status}
    if detail is not None:
        fields["detail"] = detail
    if request_id:
        fields["request_id"] = request_id
    return json.dumps(fields).encode()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
