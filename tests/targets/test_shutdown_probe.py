"""`ShutdownProbe`: real servers are started, told to stop, and gone; whoever gives up leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
import time
from pathlib import Path

import pytest

from pytest_prodpatterns.lab import ChaosLab, current_lab, virtual_time
from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets.server import shutdown
from pytest_prodpatterns.targets.server._driver import ServerDriver
from pytest_prodpatterns.targets.server._shutdown_plan import plan_of
from pytest_prodpatterns.targets.server.shutdown import (
    CTRL_C,
    DOCKER,
    CannotStart,
    DiedBeforeReady,
    ListensElsewhere,
    NeverReady,
    NotObserved,
    ServerCommand,
    ShutdownProbe,
    assert_graceful_shutdown,
    get,
    idle_keepalive,
    never_sent,
)

SCRIPT = Path(__file__).with_name("shutdown_server.py")
QUICK = {"within": 5, "kill_after": 6, "route_for": 0}


def server(*words, place="{port}"):
    return [sys.executable, "-S", SCRIPT, place, *words]


@pytest.fixture
def probe():
    return ShutdownProbe()


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No process of a server lives behind any test here, no thread, no lab, no spool."""
    before = {thread for thread in threading.enumerate() if thread.is_alive()}
    yield
    assert wait_until(lambda: not living(), 5.0), living()
    assert wait_until(lambda: not (set(threading.enumerate()) - before), 5.0), threading.enumerate()
    assert current_lab() is None
    assert "PRODPATTERNS_TIMELINE" not in os.environ


def living():
    """Return the processes of this one that live, but for the one that all tests share."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"PRODPATTERNS_TEST={os.getpid()}".encode() in (entry / "environ").read_bytes().split(
                b"\0"
            )
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if ours and int(entry.name) != os.getpid() and words and "_reaper_process" not in words:
            found.append(f"{entry.name} {words}")
    return found


@pytest.fixture(autouse=True)
def mark(monkeypatch):
    monkeypatch.setenv("PRODPATTERNS_TEST", str(os.getpid()))


# -- a run -------------------------------------------------------------------------------------------------------


def test_a_server_that_does_it_well(probe):
    report = probe.run_sync(
        server("lame-duck"),
        ready=shutdown.http("/ready"),
        in_flight=[get("/slow=0.5") * 2, idle_keepalive(2), never_sent()],
        readiness="/ready",
        route_for=0.2,
        within=5,
    )
    report.assert_in_flight_completed()
    report.assert_no_dropped_requests(strict=True)
    report.assert_idle_connections_closed(within=3)
    report.assert_readiness_flipped_before_listener_closed()
    report.assert_exit(0, within=5)
    report.assert_no_survivors()
    report.assert_no_traceback()
    report.assert_log("CLEANUP")
    assert [each.kind for each in report.requests] == ["request", "request", "idle", "idle", "silent"]
    assert {each.inside for each in report.requests} <= {"accepted and read", "first byte"}
    assert probe.reports == [report]


def test_a_server_that_does_it_badly(probe):
    report = probe.run_sync(server("cut", "orphan", "raise", "code=3"), in_flight=get("/slow=5"), **QUICK)
    for check, reason in [
        (report.assert_in_flight_completed, r"1 of 1 requests in flight were not completed: 1 (reset|eof)"),
        (report.assert_exit, "the server ended with exit code 3"),
        (
            report.assert_no_survivors,
            r"1 process of the server lived on 1 s behind its exit: \d+ \(sleep 30\)",
        ),
        (report.assert_no_traceback, r"the server printed 'Traceback \(most recent call last\):'"),
    ]:
        with pytest.raises(AssertionError, match=f"^{reason}") as caught:
            check()
        assert "\n  +0.000  SIGTERM -> leader " in str(caught.value)
        assert "  | ORPHAN " in str(caught.value)


def test_new_connections_go_on_coming_behind_the_exit(probe):
    report = probe.run_sync(server(), route_for=0.4, within=5)
    assert report.exit.took < 0.3
    assert report.routed[-1].began > 0.3
    assert {each.outcome for each in report.routed[-5:]} == {"refused"}
    with pytest.raises(AssertionError, match=r"refused.*; expected an answer for each"):
        report.assert_no_dropped_requests(strict=True)


def test_a_stuck_server_is_asked_for_its_stacks_and_killed(probe):
    report = probe.run_sync(server("deaf"), within=0.2, kill_after=0.3, route_for=0)
    assert report.killed
    with pytest.raises(AssertionError, match="was killed") as caught:
        report.assert_exit()
    assert "where it was stuck:" in str(caught.value)
    assert 'selectors.py"' in str(caught.value)


def test_a_further_signal_comes_when_the_server_still_lives(probe):
    report = probe.run_sync(server("second"), then=[(0.2, "term")], **QUICK)
    report.assert_log("HEARD 2")
    report.assert_exit()
    assert 0.15 < report.exit.took < 3
    assert str(report).count("  SIGTERM -> leader ") == 2


def test_a_further_signal_does_not_come_when_it_has_ended(probe):
    report = probe.run_sync(server(), preset=CTRL_C)
    assert [event.attributes["signal"] for event in report.events if event.kind == "signalled"] == ["SIGINT"]
    report.assert_log("HEARD 1")


def test_what_was_printed_before_the_signal_is_told_apart(probe):
    report = probe.run_sync(server(), in_flight=get("/slow"), armed=shutdown.log("HANDLER"), **QUICK)
    assert "\ufffd\ufffd not text" in report.output
    with pytest.raises(AssertionError, match="did not print 'HANDLER' behind the signal; it had printed"):
        report.assert_log("HANDLER")
    report.assert_log("HEARD 1")


def test_a_server_on_a_unix_socket(probe):
    report = probe.run_sync(
        server(place="{uds}"), in_flight=[get("/slow"), idle_keepalive(), never_sent()], **QUICK
    )
    report.assert_in_flight_completed()
    report.assert_idle_connections_closed()
    report.assert_exit()


def test_words_of_a_command_environment_directory_and_name(probe, tmp_path):
    code = "import os; print('SEE', os.getcwd(), os.environ['COLOUR'], flush=True); import runpy; "
    code += f"runpy.run_path({str(SCRIPT)!r})"
    report = probe.run_sync(
        [sys.executable, "-c", code, "{port}"],
        cwd=tmp_path,
        env={"COLOUR": "blue {port}"},
        name="shop",
        **QUICK,
    )
    port = next(event.attributes["port"] for event in report.events if event.kind == "started")
    assert f"SEE {tmp_path} blue {port}\n" in report.output
    assert {event.source for event in report.events if event.kind == "started"} == {"server:shop"}


def test_what_a_server_tells_of_itself_is_not_what_was_seen_of_it(probe):
    code = "import runpy; from pytest_prodpatterns.lab import emit; "
    code += "emit('server:shop', 'exited', code=9, how='exit code 9', took=0.1, pid=1); "
    code += f"runpy.run_path({str(SCRIPT)!r})"
    with ChaosLab() as lab:
        report = probe.run_sync([sys.executable, "-c", code, "{port}"], name="shop", **QUICK)
        assert lab.timeline.where("server:shop", "exited", code=9)
    assert [event.attributes["code"] for event in report.events if event.kind == "exited"] == [0]


def test_a_server_command_brings_what_is_known_of_it(probe):
    command = ServerCommand(argv=("x",), ready="/ready", readiness="/ready", path="/quick", name="known")
    command = ServerCommand(**{**command.plain(), "argv": tuple(map(str, server("lame-duck")))})
    report = probe.run_sync(command, route_for=0.1)
    assert {each.path for each in report.routed} == {"/quick"}
    report.assert_readiness_flipped_before_listener_closed()


# -- signs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ready", "how"),
    [
        (shutdown.port(), "a listener on port"),
        (shutdown.http("/ready"), "a status below 400 for /ready"),
        (shutdown.http("/ready", 200), "status 200 for /ready"),
        (shutdown.log("LISTENING"), "'LISTENING' in its output"),
        (shutdown.notify(), "READY=1 on its NOTIFY_SOCKET"),
        (lambda server: server.port and "LISTENING" in server.output_tail(), "yes from <lambda>()"),
    ],
)
def test_it_is_ready_when_its_sign_comes(probe, ready, how):
    report = probe.run_sync(server("notify" if ready == "notify" else ""), ready=ready, **QUICK)
    assert how in next(event.attributes["how"] for event in report.events if event.kind == "ready")


def test_the_callables_get_the_server(probe):
    seen = []

    def ready(server):
        seen.append((server.pid, server.url, server.alive, server.exit_code, repr(server)))
        return "LISTENING" in server.output_tail()

    report = probe.run_sync(server(), ready=ready, name="app", **QUICK)
    started = next(event.attributes for event in report.events if event.kind == "started")
    pid, url = started["pid"], f"http://127.0.0.1:{started['port']}"
    assert seen[-1] == (pid, url, True, None, f"<RunningServer app: pid {pid}, {url}, alive>")


def test_requests_are_inside_when_a_callable_says_so(probe):
    report = probe.run_sync(
        server(), in_flight=get("/slow") * 2, armed=lambda it: it.output_tail().count("HANDLER") == 2, **QUICK
    )
    report.assert_in_flight_completed()


def test_a_readiness_that_never_says_yes_has_nothing_to_take_back(probe):
    with pytest.raises(
        NotObserved, match=r"^the readiness did not say yes within 0\.3 s, so no signal was sent"
    ):
        probe.run_sync(server("unready"), readiness="/ready", arm_within=0.3)


def test_requests_that_are_not_seen_inside_are_no_evidence(probe):
    with pytest.raises(
        NotObserved,
        match=r"^0 of 2 requests were seen inside the server within 0\.3 s, so no signal was sent",
    ) as caught:
        probe.run_sync(server(), in_flight=get("/slow") * 2, armed=shutdown.log("NEVER"), arm_within=0.3)
    assert "since the start; no signal was sent:" in str(caught.value)


def test_a_server_that_ends_while_requests_come_in_says_so(probe):
    with pytest.raises(NotObserved, match=r"^the server ended before a signal was sent") as caught:
        probe.run_sync(server("die=/slow=9"), in_flight=get("/slow=9"), armed=shutdown.log("NEVER"))
    assert "exit code 7" in str(caught.value)
    assert "asked to die" in str(caught.value)


@pytest.mark.parametrize(
    ("command", "options", "error", "text"),
    [
        (["/no/such/program"], {}, CannotStart, "no/such/program"),
        ([sys.executable, "-c", "print('bad settings'); exit(3)"], {}, DiedBeforeReady, "| bad settings"),
        (server("silent"), {"start_within": 3.0}, NeverReady, "| LISTENING"),
        (
            server(),
            {"start_within": 0.6, "ready": lambda _: False},
            NeverReady,
            "yes from <lambda>()",
        ),
        (server("elsewhere"), {"start_within": 1.0}, ListensElsewhere, "{port}"),
    ],
)
def test_a_server_that_does_not_come_up_says_why(probe, command, options, error, text):
    began = time.monotonic()
    with pytest.raises(error, match=re.escape(text)):
        probe.run_sync(command, **options)
    assert time.monotonic() - began < 10
    assert probe.reports == []


def test_what_a_callable_raises_comes_through(probe):
    def ready(server):
        raise ZeroDivisionError("in ready")

    with pytest.raises(ZeroDivisionError, match="in ready"):
        probe.run_sync(server(), ready=ready)


# -- beside a loop -----------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_loop_goes_on_meanwhile(probe):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    report = await probe.run(server("slow-end"), in_flight=get("/slow"), **QUICK)
    ticking.cancel()
    report.assert_exit()
    assert ticks > 20


@pytest.mark.asyncio
async def test_two_runs_at_once_have_histories_of_their_own(probe):
    first, second = await asyncio.gather(
        probe.run(server("slow-end"), in_flight=get("/slow"), **QUICK),
        probe.run(server("slow-end", "code=4"), in_flight=get("/slow") * 2, **QUICK),
    )
    for report, count, code in [(first, 1, 0), (second, 2, 4)]:
        report.assert_in_flight_completed()
        report.assert_exit(code)
        assert len(report.requests) == count
        assert len({event.source for event in report.events if event.kind in {"started", "exited"}}) == 1


@pytest.mark.asyncio
async def test_a_run_goes_on_when_the_one_that_began_before_it_has_ended(probe):
    quick = asyncio.create_task(probe.run(server(), **QUICK))
    await until(lambda: current_lab() is not None)
    later = asyncio.create_task(probe.run(server("slow-end"), in_flight=get("/slow=1.5"), **QUICK))
    (await quick).assert_exit()
    assert not later.done()
    report = await later
    report.assert_in_flight_completed()
    report.assert_exit()
    report.assert_no_survivors()


@pytest.mark.asyncio
async def test_virtual_time_stands_still_for_it_and_goes_on():
    with ChaosLab() as lab:
        async with virtual_time() as clock:
            report = await ShutdownProbe().run(server("slow-end"), in_flight=get("/slow"), **QUICK)
            report.assert_in_flight_completed()
            assert report.exit.took > 0.4
            before = clock.time()
            await asyncio.sleep(3600)
            assert clock.time() - before == 3600
        assert all(event in lab.timeline.events for event in report.events)


WHERE = [
    (server("silent"), {"ready": shutdown.log("NEVER")}, "LISTENING"),
    (server(), {"in_flight": get("/slow=9"), "armed": shutdown.log("NEVER")}, "HANDLER"),
    (server("deaf"), {"kill_after": 20, "within": 20, "route_for": 0}, "signalled"),
    (server("deaf"), {"kill_after": 20, "within": 20, "route_for": 15}, "signalled"),
    (server("second"), {"then": [(15, "SIGTERM")], "route_for": 0}, "signalled"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(("command", "options", "when"), WHERE)
async def test_who_cancels_waits_until_the_server_is_gone(command, options, when, times):
    with ChaosLab() as lab:
        running = asyncio.create_task(ShutdownProbe().run(command, **options))
        await until(lambda: reached(lab, when))
        began = time.monotonic()
        for _ in range(times):
            running.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await running
        assert time.monotonic() - began < 5
        assert not living()


@pytest.mark.asyncio
async def test_the_loop_goes_on_while_what_was_cancelled_tidies_up(probe, monkeypatch):
    def tidy(self):
        time.sleep(0.3)
        close(self)

    close = ServerDriver.close
    monkeypatch.setattr(ServerDriver, "close", tidy)
    with ChaosLab() as lab:
        running = asyncio.create_task(probe.run(server("deaf"), route_for=0))
        await until(lambda: reached(lab, "signalled"))
        running.cancel()
        ticks = 0
        while not running.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks > 10


@pytest.mark.asyncio
async def test_a_time_out_around_it_is_a_time_out(probe):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await probe.run(server("deaf"))
    assert not living()


@pytest.mark.asyncio
async def test_who_cancels_before_it_began_leaves_nothing(probe):
    running = asyncio.create_task(probe.run(server("deaf")))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_a_loop_that_ends_meanwhile_ends_the_server(probe):
    async def main():
        task = asyncio.create_task(probe.run(server("deaf")))
        await asyncio.sleep(0.8)
        assert not task.done()

    asyncio.run(main())


async def until(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def reached(lab, when):
    if when == "signalled":
        return lab.timeline.where("server", "signalled")
    paths = [
        Path(f"/proc/{event.attributes['pid']}/fd/1") for event in lab.timeline.where("server", "started")
    ]
    return any(when in path.read_text(errors="replace") for path in paths if path.exists())


# -- the bundle --------------------------------------------------------------------------------------------------


def test_the_bundle_passes_a_good_server():
    report = assert_graceful_shutdown(
        server("lame-duck"),
        in_flight=[get("/slow")],
        readiness="/ready",
        route_for=0.2,
        ready=shutdown.http("/ready"),
    )
    assert report.exit.code == 0


@pytest.mark.parametrize(
    ("words", "options", "reason"),
    [
        (["cut"], {"in_flight": get("/slow=5")}, "1 of 1 requests in flight were not completed"),
        ([], {"readiness": "/ready"}, "the readiness (said 200 until|went on saying 200)"),
        (["code=1"], {}, "the server ended with exit code 1; expected exit code 0\n"),
        (
            ["slow-end"],
            {"within": 0.2},
            r"the server ended 0\.\d+ s behind the signal; expected at most 0\.2 s",
        ),
        (["deaf"], {"within": 0.2, "kill_after": 0.2}, "the server did not end, and was killed"),
        (["orphan"], {}, "1 process of the server lived on"),
        (["raise"], {}, "the server printed 'Traceback"),
        (
            [],
            {"strict": True, "route_for": 0.2},
            r"\d+ of \d+ new connections .* expected an answer for each",
        ),
        (["default"], {}, r"the server ended with SIGTERM \(-15\); expected exit code 0\n"),
        (["code=143"], {}, r"the server ended with exit code 143; expected exit code 0\n"),
        (
            ["code=142"],
            {"in_flight": get("/slow")},
            r"the server ended with exit code 142; expected exit code -15 or 0 or 143\n",
        ),
        (
            ["lame-duck", "die=/route"],
            {"route_for": 0.2, "route": "/route"},
            r"\d+ of \d+ new connections .* dropped",
        ),
    ],
)
def test_the_bundle_refuses_a_bad_one(words, options, reason):
    with pytest.raises(AssertionError, match=f"^{reason}"):
        assert_graceful_shutdown(server(*words), **{**QUICK, **options})


def test_a_signal_that_is_raised_again_is_a_clean_end_when_all_was_answered():
    assert_graceful_shutdown(server("default"), in_flight=get("/slow"), **QUICK)
    with pytest.raises(AssertionError, match=r"SIGTERM \(-15\); expected exit code 0\n"):
        assert_graceful_shutdown(server("default"), in_flight=get("/slow"), code=0, **QUICK)


def test_a_wrapper_may_say_the_signal_in_its_exit_code():
    assert_graceful_shutdown(server("code=143"), in_flight=get("/slow"), **QUICK)


# -- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "options", "error", "text"),
    [
        (
            "uvicorn app:app",
            {},
            TypeError,
            "command must be a list of words, not 'uvicorn app:app'; *shlex.split(*)",
        ),
        ([], {}, ValueError, "command must have words; it is empty"),
        (None, {}, TypeError, "command must be a list of words such as*not None"),
        (["x", 8000], {}, TypeError, "command must hold texts, not 8000; numbers go as text"),
        (["x", "a\0b"], {}, ValueError, "command must hold no NUL*"),
        (
            ["x"],
            {"in_fligth": []},
            TypeError,
            "*no option 'in_fligth'; did you mean 'in_flight'? It takes ready, *",
        ),
        (["x"], {"in_flight": ["/slow"]}, TypeError, "in_flight must be*did you mean shutdown.get('/slow')?"),
        (["x"], {"in_flight": "/slow"}, TypeError, "in_flight must be a list of requests*"),
        (["x"], {"in_flight": 7}, TypeError, "in_flight must be a list of requests*not 7"),
        (
            ["x"],
            {"signal": "SIGFOO"},
            ValueError,
            "signal must be the name of a signal, such as 'SIGTERM', not*",
        ),
        (["x"], {"signal": 15.5}, ValueError, "signal must be the name of a signal*"),
        (
            ["x"],
            {"signal": "kill"},
            ValueError,
            "signal must be one that a server can act on; SIGKILL never*",
        ),
        (
            ["x"],
            {"target": "groop"},
            ValueError,
            "target must be one of 'leader', 'group', 'tree'*mean 'group'?",
        ),
        (["x"], {"then": [1.0]}, TypeError, "then must be a list of (seconds, signal)*1.0 is no such pair"),
        (["x"], {"then": "SIGTERM"}, TypeError, "then must be a list of (seconds, signal)*"),
        (["x"], {"then": [(0, "TERM")]}, ValueError, "the time in then must be*above 0*"),
        (["x"], {"within": -1}, ValueError, "within must be a finite number of seconds above 0*"),
        (
            ["x"],
            {"within": 5, "kill_after": 2},
            ValueError,
            "kill_after must be at least within (5 s), not 2",
        ),
        (["x"], {"route_for": "1"}, TypeError, "route_for must be a finite number*"),
        (["x"], {"ready": "ready"}, ValueError, "ready must be shutdown.http('/ready'), port()*not 'ready'"),
        (["x"], {"ready": lambda: True}, TypeError, "ready must take one argument, the RunningServer*"),
        (
            ["x"],
            {"armed": "HANDLER"},
            ValueError,
            "armed must be shutdown.log('HANDLER_START') or a callable*",
        ),
        (["x"], {"readiness": "ready"}, ValueError, "readiness must begin with /*"),
        (["x"], {"route": "http://x/"}, ValueError, "route must be a path alone*not the URL*"),
        (["x"], {"preset": "KUBERNETES"}, TypeError, "preset must be a Preset, such as shutdown.KUBERNETES*"),
        (["x"], {"env": {"A": 1}}, TypeError, "env: A must be a text, not 1"),
        (["x"], {"env": {"A=B": "1"}}, ValueError, "env: 'A=B' cannot be the name of a variable"),
        (["x"], {"env": ["A=1"]}, TypeError, "env must be a mapping*"),
        (["x"], {"name": ""}, TypeError, "name must be a text that is not empty*"),
        (["x"], {"start_within": 0}, ValueError, "start_within must be a finite number of seconds above 0*"),
    ],
)
def test_bad_input_is_refused_before_anything_is_started(probe, command, options, error, text):
    with pytest.raises(error) as caught:
        probe.run_sync(command, **options)
    assert re.fullmatch(re.escape(text).replace(r"\*", ".*"), str(caught.value)), caught.value


@pytest.mark.parametrize(
    ("options", "within", "kill_after"),
    [
        ({}, 30, 30),
        ({"within": 3}, 3, 30),
        ({"within": 40}, 40, 40),
        ({"kill_after": 4}, 4, 4),
        ({"kill_after": 50}, 30, 50),
        ({"within": 3, "kill_after": 5}, 3, 5),
        ({"preset": DOCKER}, 10, 10),
    ],
)
def test_times_that_are_not_given_follow_from_the_others(options, within, kill_after):
    plan = plan_of(["x"], options)
    assert (plan.within, plan.kill_after) == (within, kill_after)


def test_what_is_given_wins_over_the_preset():
    plan = plan_of(
        ["bin/app"], {"preset": CTRL_C, "signal": "hup", "target": "tree", "then": [], "route_for": 2}
    )
    preset = plan.preset
    assert (preset.signal, preset.target, preset.then, preset.route_for) == ("SIGHUP", "tree", (), 2)
    assert (preset.name, plan.command.name, plan.route, plan.readiness) == ("Ctrl-C", "app", "/", None)


@pytest.mark.asyncio
async def test_bad_input_is_refused_by_the_asynchronous_one_too(probe):
    async def ready(server):
        return True

    with pytest.raises(TypeError, match="^ready must be a plain function"):
        await probe.run(server(), ready=ready)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: get("slow"), ValueError, r"^path must begin with /"),
        (lambda: get("/a b"), ValueError, r"hold neither spaces"),
        (lambda: get("/é"), ValueError, r"nor other than ASCII"),
        (lambda: get("/a\r\nX: y"), ValueError, r"^path must begin"),
        (lambda: get("http://x/y"), ValueError, r"^path must be a path alone"),
        (lambda: get("/slow?{seconds}"), ValueError, r"nothing is filled in here"),
        (lambda: get(7), TypeError, r"^path must be a path such as '/slow', not 7$"),
        (lambda: get("/", headers={"A": "b\r\nC: d"}), ValueError, r"^headers: A must be a text of one line"),
        (
            lambda: get("/", headers={"A b": "c"}),
            ValueError,
            r"^headers: 'A b' is no name of a header field$",
        ),
        (lambda: get("/", headers="A: b"), TypeError, r"^headers must be a mapping"),
        (lambda: get("/") * 0, ValueError, r"whole number from 1, not 0$"),
        (lambda: shutdown.post("/", json={}, body=b""), ValueError, r"json or body, not both$"),
        (lambda: shutdown.post("/", body=7), TypeError, r"^body must be bytes or text, not 7"),
        (lambda: shutdown.post("/", method="PO ST"), ValueError, r"^method must be one of HTTP"),
        (lambda: idle_keepalive(0), ValueError, r"^times must be a whole number of at least 1, not 0$"),
        (lambda: never_sent("3"), TypeError, r"^times must be a whole number"),
        (lambda: shutdown.half_body(body=b"x"), ValueError, r"^body must be bytes that have a half"),
        (lambda: shutdown.raw("GET /"), TypeError, r"^data must be bytes, and some"),
        (lambda: shutdown.raw(b""), TypeError, r"for silence there is never_sent\(\)$"),
        (lambda: shutdown.log(""), TypeError, r"^log\(\) needs a text"),
        (lambda: shutdown.http("/", 99), ValueError, r"^status must be one of HTTP, such as 200, not 99$"),
        (lambda: shutdown.http("ready"), ValueError, r"^path must begin with /"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_requests_say_what_they_are():
    post = shutdown.post("/jobs", json={"a": 1}, headers={"X-A": "b"})
    assert (post.method, post.body) == ("POST", b'{"a": 1}')
    assert post.headers == {"Content-Type": "application/json", "X-A": "b"}
    assert shutdown.post("/jobs", body="é", method="put").body == "é".encode()
    assert (get("/x") * 8).times == 8
    kinds = [shutdown.stream("/s"), shutdown.sse("/e"), shutdown.websocket("/w"), shutdown.raw(b"x", 2)]
    kinds += [shutdown.half_headers(2), shutdown.half_body(3), never_sent(4), idle_keepalive(5, path="/i")]
    assert [(each.kind, each.times) for each in kinds] == [
        ("stream", 1), ("sse", 1), ("websocket", 1), ("raw", 2),
        ("half-headers", 2), ("half-body", 3), ("silent", 4), ("idle", 5),
    ]  # fmt: skip
