"""Where a server is to listen, and what one look at it says."""

from __future__ import annotations

import contextlib
import functools
import http.server
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_prodpatterns.targets.server import _address
from pytest_prodpatterns.targets.server._errors import DiedBeforeReady


class Teapot(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(418)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(family, place):
    class Server(http.server.HTTPServer):
        address_family = family

        def server_bind(self):
            self.socket.bind(self.server_address)
            self.server_address = self.socket.getsockname()
            self.server_name, self.server_port = "here", 0

        def get_request(self):
            return self.socket.accept()[0], ("client", 0)

    server = Server(place, Teapot)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_status_of_a_path_is_seen_on_a_port_and_on_a_unix_socket(tmp_path):
    with serving(socket.AF_INET, ("127.0.0.1", 0)) as (_, port):
        assert _address.status_of(port, "/") == 418
    path = str(tmp_path / "here")
    with serving(socket.AF_UNIX, path):
        assert _address.status_of(path, "/") == 418


def test_nobody_answers_with_0(tmp_path, claim):
    assert _address.status_of(claim(), "/") == 0
    assert _address.status_of(str(tmp_path / "nowhere"), "/") == 0


def test_who_speaks_something_else_answers_with_0():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble():
            client, _ = listener.accept()
            with client:
                client.sendall(b"+PONG\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        assert _address.status_of(listener.getsockname()[1], "/") == 0
        thread.join()


@pytest.fixture
def claim():
    """Claim a port until the end of the test."""
    with contextlib.ExitStack() as claims:
        yield lambda: claims.enter_context(contextlib.closing(_address.Claim())).port


def test_a_claimed_port_is_free_and_none_that_the_kernel_gives_to_clients(claim):
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(20):
        port = claim()
        assert port < first
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_a_port_on_which_somebody_listens_is_passed_over(claim, monkeypatch):
    free = claim() + 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        picks = [taken.getsockname()[1]] * 3 + [free]
        monkeypatch.setattr(_address._chance, "choice", lambda _: picks.pop(0))
        assert claim() == free
        picks += [taken.getsockname()[1]] * 100
        with pytest.raises(OSError, match="a hundred ports"):
            claim()


def test_a_claimed_port_is_passed_over_in_another_process_until_it_is_given_up(monkeypatch):
    first = _address.Claim()
    asks = (
        "from pytest_prodpatterns.targets.server import _address\n"
        f"_address._PORTS = [{first.port}]\n"
        "_address.Claim()"
    )
    ask = functools.partial(subprocess.run, [sys.executable, "-c", asks], capture_output=True, text=True)
    assert "a hundred ports" in ask().stderr
    first.close()
    assert ask().returncode == 0


def test_an_error_shows_the_last_lines_and_escapes_what_cannot_be_printed():
    error = DiedBeforeReady("it died", "\n".join(map(str, range(40))) + "\n\x1b[31m\x00red")
    lines = str(error).splitlines()
    assert lines[:2] == ["it died", "the last that it printed:"]
    assert lines[2] == "  | 26"
    assert lines[-1] == r"  | \x1b[31m\x00red"
    assert str(DiedBeforeReady("it died", " \n")) == "it died"
