"""A server is named by one word or told by one line; whatever is wrong with it is said at the door."""

from __future__ import annotations

import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_prodpatterns.targets import TargetError, from_instances, known, resolve
from pytest_prodpatterns.targets.server import ServerCommand
from pytest_prodpatterns.targets.server._protocol import REQUIREMENTS
from pytest_prodpatterns.targets.server._spec import known_of, parse, spec_of


def test_a_command_is_told_in_one_line():
    command = parse(
        "ready=/ready slow-path=/slow?s={seconds} drain=2.5 workers=yes limit=8 -- sh -c 'a b' {port}"
    )
    assert command.argv == ("sh", "-c", "a b", "{port}")
    assert (command.ready, command.slow_path, command.drain) == ("/ready", "/slow?s={seconds}", 2.5)
    assert (command.workers, command.limit, command.name) == (True, 8, "sh")


def test_a_command_needs_nothing_before_it():
    assert parse("sh -c {port}").argv == ("sh", "-c", "{port}")
    assert resolve("server", "{port}").command.argv == ("{port}",)


VALUES = {
    "ready": st.sampled_from(["port", "notify", "log:is up = now", "/ready?a=b c"]),
    "path": st.text("ab=?&{} '\"-/", max_size=8).map("/{}".format),
    "drain": st.floats(0.001, 1e6),
    "limit": st.integers(1, 10**6),
    "workers": st.just(True),
    "name": st.text("ab -='", min_size=1, max_size=8),
}


@given(st.fixed_dictionaries({}, optional=VALUES), st.lists(st.text("ab{}-= '\"\n", max_size=6), max_size=4))
def test_whatever_is_known_survives_the_line(values, words):
    command = ServerCommand(argv=("sh", *words), **({"name": "sh"} | values))
    assert parse(spec_of(command.argv, known_of(command))) == command


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("x=1 -- sh", "nothing of a server is called 'x'; there are: ready, name"),
        ("drian=1 -- sh", "nothing of a server is called 'drian'; did you mean 'drain'?"),
        ("drain -- sh", "expected key=value before --, not 'drain'"),
        ("drain=soon -- sh", "drain must be a number of seconds above 0, not 'soon'"),
        ("drain=nan -- sh", "drain must be a number of seconds above 0, not 'nan'"),
        ("drain=0 -- sh", "drain must be a number of seconds above 0, not '0'"),
        ("limit=0 -- sh", "limit must be a whole number from 1, not '0'"),
        ("limit=2.5 -- sh", "limit must be a whole number from 1, not '2.5'"),
        ("workers=two -- sh", "workers must be yes or no, not 'two'"),
        ("path=x -- sh", "path must be a path that begins with /, not 'x'"),
        ("ready=soon -- sh", "ready must be port, notify, log:TEXT, or a path such as /ready, not 'soon'"),
        ("ready=log: -- sh", "ready must be port, notify, log:TEXT, or a path such as /ready, not 'log:'"),
        ("drain=1 --", "there is no command; expected one behind --"),
        (
            "-- no-such-command {port}",
            "there is no command 'no-such-command'; is it installed, and on the PATH?",
        ),
        ("-- ./no-such-file {port}", "there is no command './no-such-file'"),
        ("-- sh 'open", "is no command: No closing quotation"),
    ],
)
def test_a_line_that_says_nothing_sensible_is_refused(spec, text):
    with pytest.raises(TargetError) as error:
        resolve("server", spec)
    assert text in str(error.value)


def test_an_unknown_name_is_refused_with_the_nearest_and_with_how_to_give_a_command():
    with pytest.raises(
        TargetError, match="did you mean 'uvicorn'.*prodpatterns check server -- uvicor --port {port}"
    ):
        resolve("server", "uvicor")


def test_a_library_that_is_missing_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TargetError, match="hypercorn is not installed; .* python -m pip install hypercorn"):
        resolve("server", "hypercorn")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TargetError, match="nginx needs the program 'nginx', which is not on the PATH"):
        resolve("server", "nginx")


def test_ours_is_known_first_and_can_be_asked_everything_but_for_workers():
    names = known("server")
    assert names[0] == "ours"
    missing = [word for word in REQUIREMENTS if resolve("server", "ours").missing(word)]
    assert missing == ["workers"]
    assert resolve("server", "ours-workers").missing("workers") is None


def test_what_is_not_known_of_a_command_is_asked_for():
    target = resolve("server", "-- sh {port}")
    assert set(REQUIREMENTS) == {word for word in REQUIREMENTS if target.missing(word)}
    assert "--slow-path" in target.missing("slow-path")
    slow = resolve("server", "slow-path=/slow -- sh {port}")
    assert slow.missing("slow-path") is None
    assert "{seconds} in --slow-path" in slow.missing("slow-path-seconds")


def test_what_a_server_cannot_do_at_all_is_said_in_its_own_words():
    assert resolve("server", "aiohttp").missing("limit") == "sheds no load"


def test_words_and_commands_of_a_user_are_taken_as_they_are():
    words = from_instances("server", [sys.executable, "{port}"], name="mine")
    assert (words.name, words.command.name, words.command.argv) == (
        "mine",
        "mine",
        (sys.executable, "{port}"),
    )
    command = ServerCommand(argv=("sh",), name="sh", drain=1.0)
    assert from_instances("server", command).command == command


@pytest.mark.parametrize("wrong", [None, "uvicorn app:app", [], [1], 5])
def test_what_is_no_command_is_refused(wrong):
    with pytest.raises(
        TargetError, match="a server is a ServerCommand, or a list of the words of its command, not"
    ):
        from_instances("server", wrong)


def test_a_card_names_no_path_of_this_machine():
    assert resolve("server", "aiohttp").description.startswith("python -m ")
    assert shlex.split(resolve("server", "ours").description)[0] == "python"
