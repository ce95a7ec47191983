"""The fixtures `shutdown_probe`, `server_process`, `production_server` and `make_server`; nothing outlives its test."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "targets" / "shutdown_server.py"

HEAD = f"""
import asyncio, json, os, pathlib, signal, sys, time, urllib.request
import pytest
from pytest_prodpatterns import ProductionServer, shutdown

SERVER = [sys.executable, "-S", {str(SCRIPT)!r}, "{{port}}"]

def note(*pids):
    with open("pids.txt", "a") as file:
        file.writelines(f"{{pid}}\\n" for pid in pids)

def ask(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status
"""


@pytest.fixture
def run(suite):
    """Run tests in a process of their own: servers have threads and children."""

    def run(code: str, *arguments: str, timeout: float = 90):
        suite.makepyfile(HEAD + code)
        return suite.runpytest_subprocess(*arguments, timeout=timeout)

    return run


def noted(suite) -> list[int]:
    return [int(line) for line in (suite.path / "pids.txt").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def until(condition, what):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def none_lives(suite):
    assert noted(suite)
    until(lambda: not any(alive(pid) for pid in noted(suite)), "nothing of the test lives")
    return True


# -- shutdown_probe ------------------------------------------------------------------------------------------------


def test_the_probe_asks_a_command_and_its_lab_hears_of_it(run):
    run(
        """
def test_it(chaos, shutdown_probe):
    report = shutdown_probe.run_sync(SERVER, in_flight=shutdown.get("/slow"), route_for=0)
    report.assert_in_flight_completed()
    report.assert_exit()
    assert chaos.timeline.where("server", "exited", code=0)
    assert [event.kind for event in chaos.timeline.where("fault:SIGTERM")] == ["armed", "fired"]

@pytest.mark.asyncio
async def test_that(shutdown_probe):
    (await shutdown_probe.run(SERVER, route_for=0)).assert_exit()

@pytest.mark.virtual_time
async def test_then(shutdown_probe, virtual_clock):
    (await shutdown_probe.run(SERVER, route_for=0)).assert_exit()
    await asyncio.sleep(60)
""",
        "--chaos-strict",
    ).assert_outcomes(passed=3)


def test_a_failure_shows_the_line_of_the_user_and_the_timeline(run):
    result = run(
        """
def test_it(shutdown_probe):
    report = shutdown_probe.run_sync([*SERVER, "code=3"], route_for=0)
    report.assert_exit()
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       report.assert_exit()",
            "E       AssertionError: the server ended with exit code 3; expected exit code 0",
            "E         +0.000  SIGTERM -> leader *",
            "E         | CLEANUP",
        ]
    )
    assert not re.findall(r"^\S*(_shutdown_report|_probe)\.py:\d+", result.stdout.str(), re.MULTILINE)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_during_a_run_ends_its_server(suite, times):
    suite.makepyfile(
        HEAD
        + """
@pytest.mark.parametrize("kind", ["sync"])
def test_it(shutdown_probe, kind):
    def ready(server):
        note(server.pid)
        return False
    shutdown_probe.run_sync(SERVER, ready=ready, start_within=60)
"""
    )
    interrupted(suite, times)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_beside_a_loop_ends_its_server(suite, times):
    suite.makepyfile(
        HEAD
        + """
@pytest.mark.asyncio
async def test_it(shutdown_probe):
    def ready(server):
        note(server.pid)
        return False
    await shutdown_probe.run(SERVER, ready=ready, start_within=60)
"""
    )
    interrupted(suite, times)


def interrupted(suite, times=1):
    """Press Ctrl-C when the test has noted a pid, so often; nothing lives behind it."""
    # An interrupt may hit between the making of a socket and its first use: its end is a warning, and no error here.
    command = [sys.executable, "-m", "pytest", "-q", "-W", "default"]
    pytest_run = subprocess.Popen(
        command, cwd=suite.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        until(lambda: (suite.path / "pids.txt").exists() and noted(suite), "it runs")
        for _ in range(times):
            pytest_run.send_signal(signal.SIGINT)
            time.sleep(0.05)
        output, _ = pytest_run.communicate(timeout=30)
    finally:
        pytest_run.kill()
        pytest_run.communicate()
    # A second Ctrl-C may hit pytest while it tells of the first one; then pytest dies of it.
    ends = {pytest.ExitCode.INTERRUPTED, *([-signal.SIGINT] if times > 1 else [])}
    assert pytest_run.returncode in ends, output.decode()
    assert none_lives(suite)


# -- server_process ------------------------------------------------------------------------------------------------


def test_a_process_of_any_command(run):
    run(
        """
def test_it(chaos, server_process):
    first = server_process(SERVER, ready=shutdown.http("/ready"))
    second = server_process([*SERVER, "lame-duck"], name="duck", ready="log:LISTENING", start_within=20)
    assert first.port != second.port
    assert ask(f"{first.url}/ready") == ask(f"http://127.0.0.1:{second.port}/ready") == 200
    assert "LISTENING" in first.output_tail()
    sources = [event.source for event in chaos.timeline.where("server", "started")]
    assert sources == [f"server:{os.path.basename(sys.executable)}-1", "server:duck"]

def test_environment_and_directory(server_process, tmp_path):
    code = "import os; print(os.getcwd(), os.environ['COLOUR'], flush=True); import runpy; runpy.run_path(%r)" % SERVER[-2]
    server = server_process([sys.executable, "-c", code, "{port}"], cwd=tmp_path, env={"COLOUR": "blue"})
    assert f"{tmp_path} blue" in server.output_tail()

@pytest.mark.asyncio
async def test_beside_a_loop(server_process):
    reader, writer = await asyncio.open_connection("127.0.0.1", server_process(SERVER).port)
    writer.close()
    await writer.wait_closed()

def test_a_unix_socket(server_process):
    server = server_process([*SERVER[:-1], "{uds}"])
    assert os.path.exists(server.address)
    with pytest.raises(AttributeError, match="has no port: it listens on the unix socket"):
        server.port
"""
    ).assert_outcomes(passed=4)


def test_a_process_is_struck_like_any_other(run):
    run(
        """
def test_terminate(chaos, server_process, process_faults):
    server = server_process(SERVER)
    process_faults.terminate(server)
    assert server.await_exit(10) == 0 == server.exit_code
    assert "HEARD 1" in server.output_tail()
    assert not server.alive

def test_kill(server_process, process_faults):
    server = server_process(SERVER)
    process_faults.kill(server)
    assert server.await_exit(10) == -9

def test_stop(server_process, process_faults):
    server = server_process(SERVER)
    process_faults.stop(server)
""",
        "--chaos-strict",
    ).assert_outcomes(passed=3)


def test_the_process_of_a_test_that_passed_may_tidy_up(run, suite):
    run(
        """
def test_it(server_process):
    note(server_process([sys.executable, "-c", '''
import signal, socket, sys, time
def tidy(*_):
    open("tidy.txt", "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, tidy)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(60)
''', "{port}"]).pid)
"""
    ).assert_outcomes(passed=1)
    assert (suite.path / "tidy.txt").exists()
    assert none_lives(suite)


FAMILY = """
def family(server_process):
    server = server_process([sys.executable, "-c", '''
import signal, socket, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
away = subprocess.Popen(["sleep", "60"], start_new_session=True)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("AWAY", away.pid, flush=True)
time.sleep(60)
''', "{port}"], ready=shutdown.log("AWAY"))
    note(server.pid, server.output_tail().split()[1])

"""


@pytest.mark.parametrize(
    "body", ["pass", "assert False", "raise KeyboardInterrupt", "pytest.fail('no')", "os._exit(3)"]
)
def test_no_process_of_it_survives_whatever_becomes_of_the_test(run, suite, body):
    run(FAMILY + f"def test_it(server_process):\n    family(server_process)\n    {body}\n")
    assert len(noted(suite)) == 2
    assert none_lives(suite)


@pytest.mark.parametrize("body", ["pass", "assert False"])
def test_no_process_of_it_survives_into_the_next_test(run, suite, body):
    result = run(
        FAMILY
        + f"""
def test_it(server_process):
    family(server_process)
    {body}

def test_next():
    pids = pathlib.Path("pids.txt").read_text().split()
    assert len(pids) == 2
    assert [pid for pid in pids if os.path.exists(f"/proc/{{pid}}")] == []
"""
    )
    passed = 2 if body == "pass" else 1
    result.assert_outcomes(passed=passed, failed=2 - passed)
    assert none_lives(suite)


def test_no_process_survives_a_failed_setup(run, suite):
    result = run(
        FAMILY
        + """
@pytest.fixture
def bad(server_process):
    family(server_process)
    raise RuntimeError("no")

def test_it(bad): ...
"""
    )
    result.assert_outcomes(errors=1)
    assert none_lives(suite)


def test_no_process_survives_ctrl_c(suite):
    suite.makepyfile(
        HEAD + FAMILY + "def test_it(server_process):\n    family(server_process)\n    time.sleep(60)\n"
    )
    interrupted(suite)


def test_a_process_that_does_not_come_up_fails_the_test_with_what_it_said(run, suite):
    result = run(
        """
def test_dies(server_process):
    server_process([sys.executable, "-c", "print('bad settings'); exit(3)"])

def test_hangs(server_process):
    def ready(server):
        note(server.pid)
    server_process(SERVER, ready=ready, start_within=0.5)

def test_word(server_process):
    server_process("uvicorn app:app")

def test_option(server_process):
    server_process(SERVER, redy="port")
"""
    )
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "E *DiedBeforeReady: the server ended before it was ready (exit code 3)*",
            "E *| bad settings",
            "E *NeverReady: the server was not ready within 0.5 s*yes from test_hangs.<locals>.ready()*",
            "E *TypeError: command must be a list of words, not 'uvicorn app:app'*",
            "E *TypeError: server_process() has no option 'redy'; did you mean 'ready'? It takes ready, *",
        ]
    )
    assert none_lives(suite)
    assert not re.findall(r"^/\S+\.py:\d+: ", result.stdout.str(), re.MULTILINE), "no line of ours"


# -- production_server ---------------------------------------------------------------------------------------------


def test_a_server_of_ours_serves_both_kinds_of_tests(run):
    run(
        """
def test_sync(chaos, production_server):
    assert ask(f"{production_server.url}/ready") == 200
    assert production_server.url == f"http://127.0.0.1:{production_server.port}"
    assert production_server.server.state == "ready"
    assert chaos.timeline.where("server:server-1", "ready")

@pytest.mark.asyncio
async def test_async(production_server):
    import aiohttp
    async with aiohttp.ClientSession(production_server.url) as client, client.get("/health") as answer:
        assert answer.status == 200

@pytest.mark.virtual_time
async def test_virtual(production_server, virtual_clock):
    import aiohttp
    async with aiohttp.ClientSession(production_server.url) as client, client.get("/api/data") as answer:
        assert answer.status == 200

def test_blocking(production_server):
    async def blocking():
        return ask(f"{production_server.url}/health")
    assert asyncio.run(blocking()) == 200

def test_unix(make_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    server = make_server(unix_socket="s")
    assert server.url.startswith("http+unix://")
    with pytest.raises(AttributeError, match="has no port"):
        server.port
"""
    ).assert_outcomes(passed=5)


def test_given_parameters_win_over_the_marker_over_the_settings(all_at_once):
    cases = [
        ("{**BASE}", "", "", 1024),
        ("{**BASE, 'max_concurrent': 1}", "", "", 1),
        ("{**BASE, 'max_concurrent': 1}", "max_concurrent=2", "", 2),
        ("{**BASE, 'max_concurrent': 1}", "max_concurrent=2", "max_concurrent=3", 3),
    ]
    all_at_once(
        HEAD
        + f"""
BASE = {{"host": "127.0.0.1", "port": 0}}

@pytest.fixture
def production_server_settings():
    return {settings}

@pytest.mark.production_server({marker})
def test_it(make_server):
    server = make_server({given})
    assert server.server._settings.max_concurrent == {limit}
"""
        for settings, marker, given, limit in cases
    ).assert_outcomes(passed=len(cases))


def test_servers_of_a_class_of_the_users_and_of_an_application(run):
    run(
        """
from aiohttp import web

class Shop(ProductionServer):
    def setup_routes(self):
        super().setup_routes()
        self.app.router.add_get("/hello", self.hello)

    async def hello(self, request):
        return web.json_response({"hello": "world"})

def test_it(make_server):
    first, second = make_server(Shop), make_server(Shop, name="other")
    assert ask(f"{first.url}/hello") == ask(f"{second.url}/hello") == 200
    assert [first.server.name, second.server.name] == ["server-1", "other"]

async def mine(request):
    return web.Response()

def test_that(make_server):
    app = web.Application()
    app.router.add_get("/mine", mine)
    assert ask(make_server(app=app).url + "/mine") == 200
"""
    ).assert_outcomes(passed=2)


@pytest.mark.parametrize("body", ["pass", "assert False", "raise KeyboardInterrupt"])
def test_the_port_is_free_and_the_thread_gone_behind_the_test(run, suite, body):
    run(
        f"""
import socket, threading

@pytest.fixture(autouse=True)
def look():
    yield
    socket.create_server(("127.0.0.1", int(pathlib.Path("port.txt").read_text()))).close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("server")] == []
    open("looked.txt", "w").close()

def test_it(look, make_server):
    server = make_server()
    pathlib.Path("port.txt").write_text(str(server.port))
    {body}
"""
    )
    assert (suite.path / "looked.txt").exists()


def test_a_server_drains_at_the_end_of_its_test(run, suite):
    run(
        """
import threading
from aiohttp import web

def slow_app():
    async def slow(request):
        open("inside.txt", "w").close()
        await asyncio.sleep(0.5)
        return web.Response()
    app = web.Application()
    app.router.add_get("/slow", slow)
    return app

asked = []

def test_it(make_server):
    server = make_server(app=slow_app())
    asked.append(threading.Thread(target=lambda: asked.append(ask(f"{server.url}/slow"))))
    asked[0].start()
    while not os.path.exists("inside.txt"):
        time.sleep(0.01)

def test_after():
    asked[0].join(10)
    assert asked[1] == 200
"""
    ).assert_outcomes(passed=2)


def test_a_server_whose_loop_is_blocked_is_named_with_the_place(run):
    result = run(
        """
import threading
from aiohttp import web
from pytest_prodpatterns.fixtures import _serving

_serving.MARGIN = 0.2

def test_it(make_server):
    async def block(request):
        open("inside.txt", "w").close()
        time.sleep(8)  # the line to blame
        return web.Response()
    app = web.Application()
    app.router.add_get("/block", block)
    server = make_server(app=app, drain_timeout=0.1, cleanup_timeout=0.1)
    def client():
        try:
            ask(f"{server.url}/block")
        except OSError:
            pass
    threading.Thread(target=client, daemon=True).start()
    while not os.path.exists("inside.txt"):
        time.sleep(0.01)
"""
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*RuntimeError: server 'server-1' does not stop; its event loop is blocked:*",
            "*# the line to blame*",
        ]
    )


UNKNOWN = (
    "a production server has no parameter 'max_concurent'; did you mean 'max_concurrent'? It takes host, *"
)


BAD_PARAMETERS = [
    ("{}", "max_concurent=3", "", f"marker production_server: {UNKNOWN}"),
    ("{'max_concurent': 3}", "", "", f"fixture production_server_settings: {UNKNOWN}"),
    ("{}", "", "max_concurent=3", f"make_server(): {UNKNOWN}"),
    ("{'max_concurrent': 0}", "", "", "fixture production_server_settings: *max_concurrent*0*"),
    ("{}", "max_concurrent=0", "", "marker production_server: *max_concurrent*0*"),
    ("{}", "7", "", "bad marker production_server(7): it takes keyword arguments only"),
    ("None", "", "", "fixture production_server_settings must return a dict, not None"),
    ("{}", "", "dict, port=0", "make_server(): expected a subclass of ProductionServer, not <class 'dict'>*"),
    ("{}", "", "ProductionServer(), port=0", "make_server(): expected a subclass of ProductionServer, not *"),
]


def test_a_bad_parameter_is_told_with_the_place_where_it_stands(told_with_its_place):
    told_with_its_place(
        BAD_PARAMETERS,
        lambda settings, marker, given: (
            f"""{HEAD}
@pytest.fixture
def production_server_settings(): return {settings}
@pytest.mark.production_server({marker})
def test_it({"make_server" if given else "production_server"}):
    make_server({given})
"""
        ),
    )


def test_a_port_that_is_taken_is_an_error_of_the_test(run):
    result = run(
        """
def test_it(make_server):
    make_server(port=make_server().port)
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*OSError: *Address already in use*"])


def test_the_marker_is_listed(suite):
    result = suite.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.production_server(*parameters): parameters of the fixtures *"])
