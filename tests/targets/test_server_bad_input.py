"""Servers that do not come up: each in an error of its own, with what it said last, in time, and nothing left."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest
from targets.bad_servers import argv_of, is_free, pids_of

from pytest_prodpatterns.lab import ChaosLab
from pytest_prodpatterns.targets import TargetError
from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets.server._driver import ServerDriver
from pytest_prodpatterns.targets.server._errors import (
    CannotStart,
    DiedBeforeReady,
    ListensElsewhere,
    NeverReady,
)
from pytest_prodpatterns.targets.server._protocol import ServerCommand

OVERHEAD = 4.0
"""Seconds beyond its time limit for a start on a busy machine."""


@pytest.fixture
def lab():
    with ChaosLab(1, "bad input") as lab:
        yield lab


def command(argv, **fields):
    return ServerCommand(argv=tuple(argv), name="app", **{"ready": "port", "start_within": 10.0, **fields})


@contextlib.contextmanager
def driver_of(argv, **fields):
    """A driver; in the end nothing of its server lives or listens."""
    with ServerDriver(command(argv, **fields)) as driver:
        yield driver
    assert pids_of(driver.address) == []
    assert isinstance(driver.address, str) or is_free(driver.address)


def refused(kind, argv, **fields):
    """Return the text of the error with which the start of a command ends."""
    with driver_of(argv, **fields) as driver:
        began = time.monotonic()
        with pytest.raises(kind) as caught:
            driver.start()
        assert time.monotonic() - began < driver.command.start_within + OVERHEAD
    assert isinstance(caught.value, TargetError)
    text = str(caught.value)
    assert len(text) < 10_000
    assert all(line.replace("\t", "").isprintable() for line in text.split("\n"))
    return text


def tail(text):
    first, *lines = text.split("\n")
    assert lines.pop(0) == "the last that it printed:"
    assert "\n" not in first
    return [line.removeprefix("  | ") for line in lines]


# -- it cannot be run ----------------------------------------------------------------------------------------------


def test_a_command_that_does_not_exist(lab):
    assert refused(CannotStart, ["no-such-server", "{port}"]) == (
        "the server cannot be started: cannot run 'no-such-server': no such command on PATH"
    )


def test_a_file_that_is_not_executable(lab, tmp_path):
    (file := tmp_path / "server").write_text("#!/bin/sh\n")
    assert refused(CannotStart, [str(file)]) == (
        f"the server cannot be started: cannot run {str(file)!r}: permission denied"
    )


def test_a_file_that_is_no_program(lab, tmp_path):
    (file := tmp_path / "server").write_bytes(b"\0\1\2")
    file.chmod(0o755)
    assert refused(CannotStart, [str(file)]) == (
        f"the server cannot be started: cannot run {str(file)!r}: exec format error"
    )


def test_a_directory(lab, tmp_path):
    assert "permission denied" in refused(CannotStart, [str(tmp_path)])


def test_a_script_whose_interpreter_does_not_exist(lab, tmp_path):
    (file := tmp_path / "server").write_text("#!/no/such/python\n")
    file.chmod(0o755)
    text = refused(CannotStart, [str(file)])
    assert "interpreter" in text
    assert str(file) in text


def test_a_working_directory_that_does_not_exist(lab, tmp_path):
    assert refused(CannotStart, argv_of("good"), cwd=str(tmp_path / "gone")) == (
        f"the server cannot be started: no such directory: '{tmp_path}/gone'"
    )


def test_a_command_without_words(lab):
    assert refused(CannotStart, []) == "the server cannot be started: there is no command"


def test_a_command_with_a_null_byte(lab):
    assert "null byte" in refused(CannotStart, [*argv_of("good"), "a\0b"])


# -- it ends before it is ready ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "ready", "how", "last"),
    [
        ("start-fails", "port", "exit code 3", "cannot read the configuration"),
        ("start-fails", "/ready", "exit code 3", "cannot read the configuration"),
        ("start-fails", "log:READY", "exit code 3", "cannot read the configuration"),
        ("start-fails", "notify", "exit code 3", "cannot read the configuration"),
        ("start-raises", "port", "exit code 1", "RuntimeError: no database"),
        ("start-killed", "port", "SIGKILL", "about to run out of memory"),
    ],
)
def test_an_end_before_it_is_ready_says_how_and_why(lab, mode, ready, how, last):
    text = refused(DiedBeforeReady, argv_of(mode), ready=ready)
    assert text.startswith(f"the server ended before it was ready ({how})")
    assert tail(text)[-1] == last


def test_binary_rubbish_is_shown_as_text(lab):
    text = refused(DiedBeforeReady, argv_of("start-fails-binary"))
    assert tail(text)[-1].endswith(r"\x1b[31mred\x1b[2J")


@pytest.mark.parametrize("ready", ["port", "log:READY"])
def test_five_megabytes_are_shown_by_their_end(lab, ready):
    lines = tail(refused(DiedBeforeReady, argv_of("start-floods-and-fails"), ready=ready))
    assert lines[-2:] == ["one more line of a long greeting...", "and then nothing"]
    assert len(lines) <= 15


def test_an_end_that_leaves_a_child_behind(lab):
    text = refused(DiedBeforeReady, argv_of("start-fails-orphan"))
    assert tail(text) == ["cannot read the configuration"]


def test_a_server_that_goes_to_the_background(lab):
    text = refused(DiedBeforeReady, argv_of("start-daemonizes"))
    assert text.startswith("the server ended before it was ready (exit code 0)")


def test_a_port_that_is_taken(lab):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        text = refused(DiedBeforeReady, argv_of("good", str(stranger.getsockname()[1])))
    assert tail(text)[-1].endswith("Address already in use")


def test_a_stranger_at_our_port_is_not_the_server(lab):
    with driver_of(argv_of("good")) as driver, socket.create_server(("127.0.0.1", driver.address)):
        with pytest.raises(DiedBeforeReady) as caught:
            driver.start()
        assert tail(str(caught.value))[-1].endswith("Address already in use")


# -- it is never ready ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "ready", "words"),
    [
        ("start-hangs", "port", "a listener on port "),
        ("start-hangs", "/ready", "a status below 400 for /ready (it does not answer)"),
        ("start-hangs", "log:READY", "'READY' in its output"),
        ("start-hangs", "notify", "READY=1 on its NOTIFY_SOCKET"),
        ("start-ignores-term", "port", "a listener on port "),
    ],
)
def test_a_server_that_hangs_in_its_start(lab, mode, ready, words):
    text = refused(NeverReady, argv_of(mode), ready=ready, start_within=0.4)
    assert text.startswith(f"the server was not ready within 0.4 s; it was waited for {words}")
    assert tail(text) == ["waiting for the database"]


def test_a_server_that_says_for_ever_that_it_is_not_ready(lab):
    text = refused(NeverReady, argv_of("start-unready"), ready="/ready", start_within=0.5)
    assert "(the last answer: 500)" in text


@pytest.mark.parametrize("mode", ["start-silent", "start-trickles"])
def test_a_server_that_never_answers_to_the_end(lab, mode):
    text = refused(NeverReady, argv_of(mode), ready="/ready", start_within=0.5)
    assert "(it does not answer)" in text


@pytest.mark.parametrize("ready", ["port", "/ready"])
def test_a_server_that_listens_elsewhere(lab, ready):
    text = refused(ListensElsewhere, argv_of("start-elsewhere"), ready=ready, start_within=0.6)
    [last, _] = tail(text)
    port = last.split()[-1]
    assert f"listens on port {port} and not on port " in text
    assert "{port}" in text
    assert is_free(int(port))


def test_a_server_that_listens_elsewhere_is_not_waited_for_to_the_end(lab):
    began = time.monotonic()
    refused(ListensElsewhere, argv_of("start-elsewhere"), start_within=60)
    assert time.monotonic() - began < 15


# -- and those that do come up -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ready", ["port", "/ready", "log:READY", "notify"])
@pytest.mark.parametrize("where", ["{port}", "{uds}"])
def test_each_way_to_be_ready(lab, ready, where):
    with driver_of(argv_of("good", where), ready=ready) as driver:
        driver.start()
        assert driver.alive
        [told] = lab.timeline.where("server:app", "ready")
        assert told.attributes["took"] < 10


@pytest.mark.parametrize("ready", ["port", "log:READY"])
def test_five_megabytes_before_it_is_ready_do_not_hold_it(lab, ready):
    with driver_of(argv_of("start-floods"), ready=ready) as driver:
        driver.start()
        assert driver.output_tail().endswith("READY\n")


def test_a_port_from_the_environment(lab):
    words = argv_of("good", "$PORT")
    with driver_of(["/bin/sh", "-c", f"exec {' '.join(words)}"]) as driver:
        driver.start()
        assert driver.alive


def test_a_failed_start_is_closed_at_once(lab):
    with driver_of(argv_of("start-hangs"), start_within=0.2) as driver:
        with pytest.raises(NeverReady):
            driver.start()
        began = time.monotonic()
        driver.close()
        assert time.monotonic() - began < 3
        assert wait_until(lambda: not pids_of(driver.address), 1)
