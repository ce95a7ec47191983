"""The application of `_demo` for WSGI servers, as far as WSGI goes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

SECRET = "prodpatterns-secret-4711"  # noqa: S105 - what must not leak, for all to see
STEP = 0.05
Start = Callable[[str, list[tuple[str, str]]], object]


def app(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
    """Serve the routes of `_demo`."""
    seconds = float(parse_qs(environ.get("QUERY_STRING", "")).get("seconds", ["1"])[0])
    match environ["PATH_INFO"]:
        case "/" | "/health":
            return _answer(start, "200 OK", {"status": "healthy"})
        case "/slow":
            print("HANDLER_START", flush=True)  # noqa: T201 - evidence
            time.sleep(seconds)
            return _answer(start, "200 OK", {"slept": seconds})
        case "/stream":
            start("200 OK", [("Content-Type", "text/plain")])
            return _steps(seconds)
        case "/api/process":
            return _process(environ, start)
        case "/fail":
            raise RuntimeError(SECRET)
    return _answer(start, "404 Not Found", {"error": "there is nothing here"})


def _process(environ: dict[str, Any], start: Start) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    try:
        return _answer(start, "200 OK", {"result": json.loads(body)})
    except (ValueError, RecursionError):
        return _answer(start, "400 Bad Request", {"error": "this is no JSON"})


def _steps(seconds: float) -> Iterator[bytes]:
    for step in range(max(1, int(seconds / STEP))):
        yield f"{step}\n".encode()
        time.sleep(STEP)


def _answer(start: Start, status: str, document: object) -> list[bytes]:
    body = json.dumps(document).encode()
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
