"""`prodpatterns serve`, with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

SECONDS = 15.0
SERVE = [sys.executable, "-c", "from pytest_prodpatterns.cli._serve import serve; serve(prog_name='serve')"]
APP = """
import sys, time
from aiohttp import web
from pytest_prodpatterns.patterns.server import ProductionServer

async def hello(request):
    return web.Response(text="hello")

app = web.Application()
app.router.add_get("/", hello)
server = ProductionServer("127.0.0.1", 1)
number = 3

def make():
    return app
"""


def words(*arguments):
    return [*SERVE, *arguments]


def fetch(url):
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=SECONDS) as answer:
        return answer.read()
    return None


@pytest.fixture
def project(tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "heavy.py").write_text("print('IMPORTING', flush=True)\nimport time\ntime.sleep(60)\n")
    (tmp_path / "broken.py").write_text("import no_such_thing\n")
    return tmp_path


@contextlib.contextmanager
def started(project, *arguments, **environment):
    process = subprocess.Popen(
        words(*arguments), cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("attribute", ["app", "make", "server"])
def test_an_application_a_factory_and_a_server_are_served(attribute, project, port):
    with started(project, f"shop:{attribute}", "--port", str(port)) as process:
        end = time.monotonic() + SECONDS
        while not fetch(f"http://127.0.0.1:{port}/ready"):
            assert time.monotonic() < end
            time.sleep(0.02)
        path, body = ("health", b'{"status": "healthy", ') if attribute == "server" else ("", b"hello")
        assert fetch(f"http://127.0.0.1:{port}/{path}").startswith(body)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_application_is_imported_is_obeyed(number, project):
    with started(project, "heavy:app") as process:
        assert process.stdout.readline() == "IMPORTING\n"
        process.send_signal(number)
        assert process.wait(SECONDS) == 0


FINALIZER = """
import os, weakref
class Module: pass
module = Module()
reference = weakref.ref(module, lambda _: os.kill(os.getpid(), {number}))
del module  # importlib has such callbacks, too: CPython prints what they raise, and goes on
"""
BARE_EXCEPT = """
import os
try:
    os.kill(os.getpid(), {number})
    import accelerated_shop
except:
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("import_", [FINALIZER, BARE_EXCEPT], ids=["finalizer", "bare_except"])
def test_a_signal_that_the_import_swallows_is_obeyed(import_, number, project):
    (project / "hungry.py").write_text(import_.format(number=int(number)) + APP)
    with started(project, "hungry:app", "--port", "0") as process:
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["shop"], "expected module:attribute, not 'shop'"),
        (["nowhere:app"], "no module is called 'nowhere'"),
        (["shop:nothing"], "shop has no 'nothing'"),
        (["shop:number"], "not int"),
        (["shop:server", "--lame-duck", "3"], "--lame-duck cannot be given"),
    ],
)
def test_what_cannot_be_served_is_refused_with_2(arguments, text, project):
    done = subprocess.run(
        words(*arguments), cwd=project, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_an_import_that_fails_inside_the_module_shows_where(project):
    done = subprocess.run(
        words("broken:app"), cwd=project, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 1
    assert 'broken.py", line 1' in done.stderr
