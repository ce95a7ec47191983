"""A process of its own for a target: what it does to it must never reach the engine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from targets.host_service import SERVICE

from pytest_prodpatterns.lab import ChaosLab, guard
from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets._host import Host, HostDied, HostFailed, HostHung, start_time


@pytest.fixture
def host():
    host = Host(SERVICE)
    host.call("echo", within=20, value=0)
    yield host
    host.close(0)


def gone(pid, deadline=5.0):
    return wait_until(lambda: start_time(pid) is None, deadline)


def test_it_answers(host):
    assert host.call("echo", within=5, value=["plain", {"data": None}]) == ["plain", {"data": None}]


def test_verbs_run_in_threads_except_those_of_the_main_thread(host):
    assert host.call("where", within=5)
    assert host.call("thread", within=5)


def test_it_is_a_process_like_that_of_an_application(host):
    around = host.call("surroundings", within=5)
    assert around == {
        "session": host.pid,
        "sigterm": True,
        "temporary": str(host.directory),
        "engine": [],
    }
    assert os.getsid(0) != host.pid


def test_a_verb_that_raises_says_so(host):
    with pytest.raises(HostFailed, match=r"^ValueError: it does not work$") as caught:
        host.call("fail", within=5)
    assert "raise ValueError" in caught.value.traceback
    assert host.call("echo", within=5, value=1) == 1


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        ("fail_badly", "SystemExit: 3"),
        ("fail_without_words", "Wordless: <its str() raises RuntimeError>"),
        ("no_such_verb", "AttributeError: 'Service' object has no attribute 'no_such_verb'"),
    ],
)
def test_whatever_a_verb_raises_the_host_lives_on(host, verb, text):
    with pytest.raises(HostFailed) as caught:
        host.call(verb, within=5)
    assert str(caught.value) == text
    assert host.call("echo", within=5, value=1) == 1


def test_a_hung_verb_is_evidence_and_blocks_no_other(host):
    began = time.monotonic()
    with pytest.raises(
        HostHung, match=r"^no answer to 'hang' within 0\.2 s, at threading\.py, line \d+ in wait$"
    ) as caught:
        host.call("hang", within=0.2)
    assert time.monotonic() - began < 4
    assert "host_service.py" in caught.value.stacks
    assert host.call("echo", within=5, value=1) == 1


def test_a_host_that_hangs_with_the_interpreters_lock_can_still_be_asked_where(host):
    with pytest.raises(HostHung) as caught:
        host.call("hang_in_c", within=0.2)
    assert " in hang_in_c" in caught.value.stacks
    with pytest.raises(HostHung):
        host.call("echo", within=0.1, value=1)


def test_a_stopped_host_is_said_not_to_run(host):
    os.kill(host.pid, signal.SIGSTOP)
    with pytest.raises(HostHung) as caught:
        host.call("echo", within=0.1, value=1)
    assert caught.value.stacks == "it does not run (stopped, or stuck in the kernel)"
    assert caught.value.where == ""


def test_a_host_that_dies_tells_how_and_its_last_words(host):
    with pytest.raises(
        HostDied, match=r"^the host process ended \(exit code 9\) while asked to 'die': the last words$"
    ) as caught:
        host.call("die", within=10, code=9)
    assert caught.value.how == "exit code 9"
    assert not host.alive


def test_the_death_is_noticed_while_a_child_holds_the_socket_open(host):
    child = host.call("start", within=20, how="holds the line")
    os.kill(host.pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(HostDied, match=r"\(SIGKILL\)"):
        host.call("echo", within=10, value=1)
    assert time.monotonic() - began < 5
    assert [member.pid for member in host.descendants()] == [child]


def sockets(pid):
    links = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(path.readlink()))
    return [link for link in links if link.startswith("socket:")]


def test_what_it_forks_does_not_inherit_the_line_to_the_engine(host):
    child = host.call("fork", within=5)
    assert len(sockets(host.pid)) == 1
    assert wait_until(lambda: not sockets(child), 5)
    assert host.call("echo", within=5, value=1) == 1


def test_a_killed_host_is_reaped_at_once_for_its_children_may_look_for_its_pid(host):
    os.kill(host.pid, signal.SIGKILL)
    assert host.await_end(5) == "SIGKILL"
    assert not Path(f"/proc/{host.pid}").exists()


def test_exit_in_the_main_thread_ends_it_with_that_code(host):
    with pytest.raises(HostDied, match=r"\(exit code 4\)"):
        host.call("leave_by_exit", within=10)


def test_signals_reach_the_main_thread_while_verbs_hang():
    with ChaosLab(1, "signals") as lab:
        host = Host(SERVICE)
        try:
            host.call("handle_sigterm", within=20)
            host.begin("hang")
            os.kill(host.pid, signal.SIGTERM)
            assert wait_until(lambda: lab.timeline.where("dependency:host", "left"), 5)
            assert host.alive
        finally:
            host.close(0)


def test_its_events_reach_the_timeline():
    with ChaosLab(1, "events") as lab:
        host = Host(SERVICE)
        try:
            host.call("tell", within=20)
            [event] = lab.timeline.where("dependency:host", "entered")
            assert event.process == host.pid
        finally:
            host.close()


WAYS = ["child", "session of its own", "no environment", "orphan", "orphan of the session", "lost orphan"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("first", ["host lives", "host was killed"])
def test_close_ends_everything_it_ever_started(host, how, first):
    pid = host.call("start", within=20, how=how)
    if how != "lost orphan":  # nobody but the session and the marker could tell, and it has neither
        assert pid in [member.pid for member in host.descendants()]
    else:
        host._family._known.add((pid, start_time(pid)))  # as if it had been seen while its parent lived
    if first == "host was killed":
        os.kill(host.pid, signal.SIGKILL)
        host.await_end(5)
        assert pid in [member.pid for member in host.descendants()]
    assert host.close(0) == []
    assert gone(pid)
    assert not host.directory.exists()
    assert not guard().has_started(pid)


def test_a_closed_host_left_by_itself_when_it_could(host):
    host.close(10)
    assert host.how == "exit code 0"


def test_strangers_are_no_members(host):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        host.call("start", within=20, how="child")
        assert stranger.pid not in [member.pid for member in host.descendants()]
        host.close(0)
        assert stranger.poll() is None
        stranger.stdin.close()


ENGINE = """
import os, signal, sys
sys.path[:0] = {path!r}
from pytest_prodpatterns.targets._host import Host
host = Host({service!r})
child = host.call("start", within=20, how="session of its own")
print(host.pid, child, flush=True)
host.begin("hang")
host.descendants()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_outlives_an_engine_that_was_killed(tmp_path):
    program = ENGINE.format(path=sys.path, service=SERVICE)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # a killed engine leaves its host's directory behind
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    for pid in map(int, done.stdout.split()):
        assert gone(pid, 10), pid
