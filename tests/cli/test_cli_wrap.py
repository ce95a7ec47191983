"""`prodpatterns wrap`, with real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

SECONDS = 15.0
WRAP = [sys.executable, "-c", "from pytest_prodpatterns.cli._wrap import wrap; wrap(prog_name='wrap')"]


def soon(condition, what=""):
    end = time.monotonic() + SECONDS
    while not (seen := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.01)
    return seen


@contextmanager
def wrapped(tmp_path, script, *options):
    """Run a Python script under wrap; what it writes goes to a file."""
    output = tmp_path / "output"
    words = [*WRAP, *options, "--", sys.executable, "-c", script]
    with output.open("wb") as file:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    process.output = output
    try:
        yield process
    finally:
        if process.poll() is None:
            for pid in children(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.kill()
        process.wait()


def children(pid):
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]


def says(process, word):
    soon(lambda: word in process.output.read_text(), f"{word} in {process.output.read_text()}")


SERVER = """
import signal, sys, time
def stop(number, frame):
    print("GOT", signal.Signals(number).name, flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, lambda *_: print("HUP", flush=True))
print("UP", flush=True)
while True:
    time.sleep(0.05)
"""


def test_readiness_goes_first_then_the_signal_and_the_exit_code_comes_back(tmp_path):
    ready = tmp_path / "ready"
    with wrapped(tmp_path, SERVER, "--lame-duck", "0.7", "--ready-file", str(ready)) as process:
        says(process, "UP")
        assert ready.exists()
        process.send_signal(signal.SIGHUP)
        says(process, "HUP")
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        soon(lambda: not ready.exists())
        assert "GOT" not in process.output.read_text()
        assert process.wait(SECONDS) == 7
        assert time.monotonic() - start >= 0.7
        says(process, "GOT SIGTERM")


def test_a_second_signal_reaches_the_command_at_once_and_only_once(tmp_path):
    with wrapped(tmp_path, SERVER, "--lame-duck", "60") as process:
        says(process, "UP")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.1)  # two pending signals of one kind are one
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 7
        assert process.output.read_text().count("GOT") == 1


def test_the_ready_port_says_503_from_the_signal_on(tmp_path):
    def status():
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return client.recv(4096).split()[1]

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with wrapped(tmp_path, SERVER, "--lame-duck", "60", "--ready-port", str(port)) as process:
        says(process, "UP")
        assert status() == b"200"
        process.send_signal(signal.SIGTERM)
        soon(lambda: status() == b"503")


@pytest.mark.parametrize(
    ("script", "code"),
    [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137), ("", 0)],
    ids=["code", "signal", "clean"],
)
def test_the_exit_code_is_passed_on(script, code, tmp_path):
    with wrapped(tmp_path, script) as process:
        assert process.wait(SECONDS) == code


def test_a_command_that_cannot_run_is_one_line_and_127(tmp_path):
    words = [*WRAP, "--", "no-such-command-here"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 127
    assert done.stderr == "cannot run no-such-command-here: No such file or directory\n"


def test_what_the_command_orphans_is_reaped(tmp_path):
    script = "import os, time\nif os.fork() == 0:\n    os.fork() or os._exit(0)\n    os._exit(0)\nprint('UP', flush=True)\n"
    script += "os.waitpid(-1, 0)\ntime.sleep(60)"
    with wrapped(tmp_path, script, "--lame-duck", "0") as process:
        says(process, "UP")
        soon(lambda: len(children(process.pid)) == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 143


FAMILY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("GOT", os.getpid() == LEADER, flush=True), os._exit(5)))
LEADER = os.getpid()
if os.fork() == 0:
    signal.alarm(60)  # nobody else ends it
    signal.pause()
print("UP", flush=True)
signal.pause()
"""


def test_a_signal_to_the_group_reaches_the_command_once_and_from_the_wrapper_alone(tmp_path):
    with wrapped(tmp_path, FAMILY, "--lame-duck", "0") as process:
        says(process, "UP")
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(SECONDS) == 5
        assert process.output.read_text().split() == ["UP", "GOT", "True"]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGWINCH])
def test_other_signals_are_passed_on_and_take_no_readiness_away(number, tmp_path):
    ready = tmp_path / "ready"
    script = SERVER.replace("signal.SIGHUP", str(int(number))).replace("HUP", "PASSED")
    with wrapped(tmp_path, script, "--lame-duck", "60", "--ready-file", str(ready)) as process:
        says(process, "UP")
        process.send_signal(number)
        says(process, "PASSED")
        assert ready.exists()


def test_a_command_that_ends_by_itself_ends_the_lame_duck_and_takes_readiness_along(tmp_path):
    ready = tmp_path / "ready"
    script = f"import os, time\nprint('UP', flush=True)\nwhile os.path.exists({str(ready)!r}): time.sleep(0.01)\nos._exit(9)"
    with wrapped(tmp_path, script, "--lame-duck", "60", "--ready-file", str(ready)) as process:
        says(process, "UP")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 9
    with wrapped(tmp_path, "", "--ready-file", str(ready)) as process:
        assert process.wait(SECONDS) == 0
        assert not ready.exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--", "/dev/null"], 126, "cannot run /dev/null: Permission denied\n"),
        (["--ready-file", "/no/such/place/ready", "--", "true"], 2, "readiness cannot be shown"),
        (["--lame-duck", "-1", "--", "true"], 2, "is not in the range"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_run_is_told_in_one_line_and_runs_nothing(words, code, text):
    done = subprocess.run([*WRAP, *words], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_that_cannot_run_leaves_no_readiness_behind(tmp_path):
    ready = tmp_path / "ready"
    words = [*WRAP, "--ready-file", str(ready), "--", "no-such-command-here"]
    assert subprocess.run(words, capture_output=True, timeout=SECONDS, check=False).returncode == 127
    assert not ready.exists()


def test_a_ready_port_in_use_is_told(tmp_path):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        words = [*WRAP, "--ready-port", str(port), "--", "true"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert "in use" in done.stderr


def test_a_silent_client_of_the_ready_port_holds_up_no_other(tmp_path):
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    with wrapped(tmp_path, SERVER, "--ready-port", str(port)) as process:
        says(process, "UP")
        silent = [socket.create_connection(("127.0.0.1", port), timeout=SECONDS) for _ in range(20)]
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        for each in silent:
            each.close()


def test_as_process_1_it_reaps_what_is_orphaned_forwards_the_signal_and_passes_the_code_on(tmp_path):
    """As in a container: the first process of a namespace, whose signals have no default actions."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no namespace of processes can be made here")
    script = tmp_path / "server.py"
    script.write_text(ORPHANS)
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*unshare, *WRAP, "--lame-duck", "0.2", "--", sys.executable, str(script)],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        process.output = output
        says(process, "ALL REAPED")
        [inside] = children(process.pid)
        os.kill(inside, signal.SIGTERM)
        assert process.wait(SECONDS) == 6
        says(process, "GOT TERM")
    finally:
        process.kill()
        process.wait()


ORPHANS = """
import os, pathlib, signal, sys, time

def processes():
    return {int(each.name) for each in pathlib.Path("/proc").iterdir() if each.name.isdecimal()}

assert os.getppid() == 1
signal.signal(signal.SIGTERM, lambda *_: (print("GOT TERM", flush=True), os._exit(6)))
for _ in range(5):
    if (child := os.fork()) == 0:
        if os.fork() == 0:
            time.sleep(0.05)
            os._exit(0)
        os._exit(0)
    os.waitpid(child, 0)
end = time.monotonic() + 10
while processes() != {1, os.getpid()} and time.monotonic() < end:
    time.sleep(0.01)
print("ALL REAPED" if processes() == {1, os.getpid()} else processes(), flush=True)
while True:
    time.sleep(1)
"""
