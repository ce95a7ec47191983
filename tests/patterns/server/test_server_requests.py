"""What clients get: errors, limits, ids, health, metrics; in this process, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import signal
import socket
import ssl
import subprocess

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_prodpatterns import ChaosLab
from pytest_prodpatterns.patterns.server import REQUEST_ID, ProductionServer, ServerState

JSON = {"Content-Type": "application/json"}
SECRET = "password=hunter2\n{forged: line}"


class Zoo(ProductionServer):
    """A server with a handler for each way to fail."""

    def __init__(self, **options):
        self.gate = asyncio.Event()
        self.running_now = self.most = 0
        super().__init__("127.0.0.1", 0, **options)

    def setup_routes(self):
        super().setup_routes()
        for name in ("boom", "nothing", "leave", "late", "held", "where", "pour", "lost"):
            self.app.router.add_route("*", f"/{name}", getattr(self, name))
        self.app.router.add_get("/raise/{status}", self.raise_it)
        self.app.router.add_post("/json", self.echo)

    async def boom(self, request):
        raise ValueError(SECRET)

    async def nothing(self, request):
        return None

    async def leave(self, request):
        raise SystemExit(3)

    async def late(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        if "written" in request.query:
            await response.write(b"half")
        raise ValueError(SECRET)

    async def lost(self, request):
        raise ConnectionResetError("upstream went away")

    async def held(self, request):
        self.running_now += 1
        self.most = max(self.most, self.running_now)
        await self.gate.wait()
        self.running_now -= 1
        return web.Response(text="held")

    async def where(self, request):
        return web.json_response({"id": REQUEST_ID.get()})

    async def pour(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(5):
            await response.write(b"x")
            await asyncio.sleep(0.1)
        return response

    async def raise_it(self, request):
        make = KINDS[request.match_info["status"]]
        error = make()
        raise error

    async def echo(self, request):
        await request.json()
        return web.Response(text="ok")


KINDS = {
    "302": lambda: web.HTTPFound("/elsewhere", headers={"X-Mine": "kept"}),
    "304": lambda: web.HTTPNotModified(headers={"X-Mine": "kept"}),
    "401": lambda: web.HTTPUnauthorized(headers={"X-Mine": "kept", "WWW-Authenticate": "Basic"}),
    "403": lambda: web.HTTPForbidden(text="not you", headers={"X-Mine": "kept"}),
    "405": lambda: web.HTTPMethodNotAllowed("GET", ["POST"], headers={"X-Mine": "kept"}),
    "409": lambda: web.HTTPConflict(
        text='{"mine": 1}', content_type="application/json", headers={"X-Mine": "kept"}
    ),
    "503": lambda: web.HTTPServiceUnavailable(headers={"X-Mine": "kept", "Retry-After": "7"}),
}


@contextlib.asynccontextmanager
async def served(**options):
    server = Zoo(**options)
    async with server.running() as url, aiohttp.ClientSession(url) as client:
        yield server, client


async def raw(server, data):
    """Send bytes and return all that comes until the end of the stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(data)
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(10):
            answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("status", KINDS)
@pytest.mark.asyncio
async def test_an_http_exception_keeps_its_status_and_headers(status):
    async with served() as (_, client), client.get(f"/raise/{status}", allow_redirects=False) as answer:
        assert answer.status == int(status)
        assert answer.headers["X-Mine"] == "kept"
        for name, value in KINDS[status]().headers.items():
            if name not in {"Content-Type", "Content-Length"}:
                assert answer.headers[name] == value
        if status == "409":
            assert await answer.json() == {"mine": 1}
        elif status >= "400":
            body = await answer.json(content_type="application/problem+json")
            assert body["status"] == int(status)
            assert body.get("detail") == ("not you" if status == "403" else None)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/none", 404), ("PUT", "/health", 405)])
@pytest.mark.asyncio
async def test_errors_of_the_router_are_problems_too(method, path, status):
    async with served() as (_, client), client.request(method, path) as answer:
        assert answer.status == status
        problem = await answer.json(content_type="application/problem+json")
        assert problem["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("path", ["/boom", "/nothing", "/leave", "/lost"])
@pytest.mark.asyncio
async def test_a_bug_is_a_500_that_leaks_nothing_and_is_logged_once(path, caplog):
    async with served() as (_, client):
        async with client.get(path, headers={"X-Request-ID": "abc"}) as answer:
            assert answer.status == 500
            assert "hunter2" not in await answer.text()
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(errors) == 1
        assert errors[0].request_id == "abc"
        assert errors[0].exc_info
        assert "\n" not in errors[0].getMessage()
        async with client.get("/health") as answer:
            assert (await answer.json())["status"] == "healthy"


@pytest.mark.parametrize("path", ["/late", "/late?written=1"])
@pytest.mark.asyncio
async def test_behind_the_head_of_a_response_the_connection_is_cut_and_no_second_head_sent(path):
    async with served() as (server, _):
        answer = await raw(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.count(b"HTTP/1.1") <= 1
        assert b" 500 " not in answer
        assert not answer.partition(b"\r\n\r\n")[2].endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("body", "charset", "status"),
    [
        (b"{", "utf-8", 400),
        (b"", "utf-8", 400),
        (b"\xff", "utf-8", 400),
        (b"[" * 100_000, "utf-8", 400),
        (b"NaN", "utf-8", 400),
        (b"{}", "klingon", 415),
        (b" " * 200_001, "utf-8", 413),
        (b'{"a": 1}', "utf-8", 200),
    ],
    ids=["cut", "empty", "bytes", "deep", "NaN", "charset", "large", "good"],
)
@pytest.mark.asyncio
async def test_what_is_no_json_is_the_clients_error(body, charset, status):
    headers = {"Content-Type": f"application/json; charset={charset}"}
    async with (
        served(max_body=200_000) as (_, client),
        client.post("/json", data=body, headers=headers) as answer,
    ):
        assert answer.status == status


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/merge-patch+json; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonp", 415),
        (None, 415),
    ],
)
@pytest.mark.asyncio
async def test_a_body_that_is_not_said_to_be_json_is_a_415_where_json_is_asked_for(kind, status):
    header = f"Content-Type: {kind}\r\n" if kind else ""
    async with served() as (server, _):
        head = f"POST /json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}"
        answer = await raw(server, f"{head}Content-Length: 2\r\n\r\n{{}}".encode())
        assert int(answer.split()[1]) == status
        nothing = await raw(server, f"{head}\r\n".encode())
        assert int(nothing.split()[1]) == 400


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(bodies=st.lists(st.binary(max_size=60) | st.text().map(str.encode), max_size=20))
def test_no_bytes_as_json_are_ever_a_500(bodies):
    async def post_all():
        async with served() as (_, client):
            for body in bodies:
                async with client.post("/json", data=body, headers=JSON) as answer:
                    assert answer.status in {200, 400}

    asyncio.run(post_all())


@pytest.mark.parametrize(
    "data",
    [b"NONSENSE<script>\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"secret" * 40_000 + b"\r\n\r\n"],
    ids=["request line", "large header"],
)
@pytest.mark.asyncio
async def test_a_bad_request_gets_400_and_nothing_of_it_back(data):
    async with served() as (server, _):
        answer = await raw(server, data)
        if data.startswith(b"NON"):
            assert answer.split()[1] == b"400"
            assert b"application/problem+json" in answer
        assert b"script" not in answer
        assert b"secret" not in answer


@pytest.mark.asyncio
async def test_a_head_that_trickles_is_cut_off_while_others_are_served():
    async with served(header_timeout=0.2) as (server, client):
        slow = asyncio.create_task(raw(server, b"GET / HTTP/1.1\r\nHo"))
        async with client.get("/health") as answer:
            assert answer.status == 200
        async with asyncio.timeout(5):
            assert await slow == b""


@pytest.mark.asyncio
async def test_a_handler_has_its_time_and_a_stream_streams_on():
    async with served(handler_timeout=0.2) as (_, client):
        async with client.get("/held") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
        async with client.get("/pour") as answer:
            assert await answer.read() == b"xxxxx"


@pytest.mark.asyncio
async def test_a_body_that_does_not_come_is_a_408():
    async with served(handler_timeout=0.2) as (server, _):
        head = (
            b"POST /json HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        )
        answer = await raw(server, head + b"{")
        assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.asyncio
async def test_no_more_handlers_run_than_allowed_and_the_others_are_told_to_come_back():
    async with served(max_concurrent=3, retry_after=9) as (server, client):

        async def one():
            async with client.get("/held") as answer:
                return answer.status, answer.headers.get("Retry-After")

        calls = [asyncio.create_task(one()) for _ in range(10)]
        early, _ = await asyncio.wait(calls, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        while len(early) < 7:
            early, _ = await asyncio.wait(calls, timeout=0.05)
        for path in ("/health", "/ready", "/startup", "/metrics"):
            async with client.get(path) as answer:
                assert answer.status == 200
        server.gate.set()
        results = await asyncio.gather(*calls)
        assert sorted(results) == [(200, None)] * 3 + [(503, "9")] * 7
        assert server.most == 3


@pytest.mark.parametrize(
    ("given_id", "kept"), [("abc-1", True), ("x" * 129, False), ("a b", False), (None, False)]
)
@pytest.mark.asyncio
async def test_a_request_id_comes_in_when_harmless_and_goes_out_always(given_id, kept):
    headers = {} if given_id is None else {"X-Request-ID": given_id}
    async with served() as (_, client), client.get("/where", headers=headers) as answer:
        seen = answer.headers["X-Request-ID"]
        assert (seen == given_id) is kept
        assert (await answer.json())["id"] == seen


@pytest.mark.asyncio
async def test_the_access_log_is_one_json_object_a_request(caplog):
    caplog.set_level(logging.INFO, logger="pytest_prodpatterns.server.access")
    async with served() as (_, client):
        async with client.get("/health?x=%0a1", headers={"User-Agent": 'me"'}) as answer:
            identity = answer.headers["X-Request-ID"]
    [line] = [json.loads(each.getMessage()) for each in caplog.records if each.name.endswith("access")]
    assert line["method"] == "GET"
    assert line["status"] == 200
    assert line["agent"] == 'me"'
    assert line["request_id"] == identity


@pytest.mark.asyncio
async def test_metrics_count_by_method_and_status():
    async with served() as (_, client):
        for path in ("/health", "/health", "/none"):
            async with client.get(path):
                pass
        async with client.request("TRACE", "/health"):
            pass
        async with client.get("/metrics") as answer:
            text = await answer.text()
    assert 'http_requests_total{method="GET",status="200"} 2.0' in text
    assert 'http_requests_total{method="GET",status="404"} 1.0' in text
    assert 'http_requests_total{method="OTHER",status="405"} 1.0' in text
    assert 'http_request_duration_seconds_bucket{le="+Inf"} 4.0' in text
    assert "http_requests_in_flight 1.0" in text


@pytest.mark.asyncio
async def test_running_leaves_handlers_and_port_as_it_found_them():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    server = Zoo()
    with ChaosLab(seed=1, test="t") as lab:
        async with server.running() as url:
            port = int(url.rpartition(":")[2])
            assert server.state is ServerState.READY
    assert server.state is ServerState.STOPPED
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
    kinds = [event.kind for event in lab.timeline.events if event.source == f"server:{server.name}"]
    assert kinds == ["started", "listening", "ready", "draining", "stopping", "stopped", "closed"]
    with pytest.raises(RuntimeError, match=r"^this server was started before; .*make a new server$"):
        await server.start_server()


@pytest.mark.asyncio
async def test_a_cancelled_serve_frees_the_port_and_restores_the_handlers():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    server = Zoo()
    serving = asyncio.create_task(server.serve())
    while not server.url:
        await asyncio.sleep(0.01)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert server.state is ServerState.STOPPED
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.asyncio
async def test_the_runner_of_the_guide_drains_when_it_is_cleaned_up():
    server = Zoo()
    runner = await server.start_server()
    await runner.cleanup()
    assert server.state is ServerState.STOPPED


@pytest.mark.asyncio
async def test_an_application_of_ones_own_is_served_and_gets_the_health_routes(tmp_path):
    async def hello(request):
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/health", hello)
    path = tmp_path / "socket"
    server = ProductionServer(app=app, unix_socket=str(path))
    async with server.running() as url:
        assert url == f"http+unix://{path}"
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession("http://x", connector=connector) as client:
            for route, text in (("/", "hello"), ("/health", "hello"), ("/ready", '{"status": "ready"}')):
                async with client.get(route) as answer:
                    assert await answer.text() == text
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"port": 70_000}, ValueError, r"^port must be at most 65535, not 70000$"),
        ({"port": "80"}, TypeError, r"^port must be a whole number of at least 0, not '80'$"),
        ({"drain_timeout": None}, TypeError, r"^drain_timeout must be .* nothing waits for ever here$"),
        ({"lame_duck": -1}, ValueError, r"^lame_duck must be a finite number .*, not -1$"),
        ({"max_concurrent": 0}, ValueError, r"^max_concurrent must be .* at least 1, not 0$"),
        ({"tls": "cert.pem"}, TypeError, r"^tls must be an SSLContext or .*, not 'cert.pem'$"),
        (
            {"max_loop_lag": 0},
            ValueError,
            r"^max_loop_lag must be a finite number .* above 0, or None, not 0$",
        ),
    ],
)
def test_a_bad_parameter_is_refused_at_the_door(options, error, text):
    with pytest.raises(error, match=text):
        ProductionServer(**options)


def test_a_drain_hook_must_be_callable():
    with pytest.raises(TypeError, match=r"^hook must be a callable, or have shutdown_async\(\), not 3$"):
        ProductionServer().on_drain(3)


@pytest.mark.asyncio
async def test_tls_is_spoken(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    trust = ssl.create_default_context(cafile=str(certificate))
    async with Zoo(tls=(str(certificate), str(key))).running() as url, aiohttp.ClientSession(url) as client:
        assert url.startswith("https://")
        async with client.get("/health", ssl=trust) as answer:
            assert answer.status == 200
