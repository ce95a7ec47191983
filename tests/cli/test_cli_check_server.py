"""`prodpatterns check server`: the report card of any command, and what is said of a command that cannot be checked."""

from __future__ import annotations

import json

import pytest
from targets.bad_servers import argv_of, is_free, pids_of

from pytest_prodpatterns.cli import _execute, main
from pytest_prodpatterns.targets.server._spec import spec_of

SOME = {
    f"server/{name}"
    for name in (
        "bad-request-line",
        "lame-duck",
        "malformed-json",
        "no-zombies",
        "sigterm-in-flight",
        "slow-headers",
    )
}
PATHS = {
    "ready": "/ready",
    "slow-path": "/slow?seconds={seconds}",
    "stream-path": "/stream?seconds={seconds}",
    "sse-path": "/sse",
    "websocket-path": "/ws",
    "json-path": "/json",
    "error-path": "/error",
}
KNOWN = {"drain": "2", "limit": "60", "lame-duck": "1.2", "header-timeout": "1"}


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run the command in this process; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as caught:
            main([*(words if words[:1] == ("run",) else ("check", "server", *words))])
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return run


def named(scenarios, mode, **known):
    """The words that run some scenarios against a mode of the bad servers: a whole card takes a minute."""
    spec = spec_of(argv_of(mode), {name.replace("_", "-"): value for name, value in known.items()})
    return ["run", "-j", "2", "--target", spec, *(f"server/{name}" for name in scenarios)]


def options(**known):
    return [word for name, value in known.items() for word in (f"--{name.replace('_', '-')}", value)]


def card(document):
    """Verdict -> the scenarios that got it, without the subject."""
    cards: dict[str, set[str]] = {}
    for entry in json.loads(document)["scenarios"]:
        cards.setdefault(entry["verdict"], set()).add(entry["name"].removeprefix("server/"))
    return cards


def test_a_good_server_keeps_every_promise(call, monkeypatch):
    """A few scenarios stand for all, each of which holds on that server in test_server_scenarios."""
    everything = _execute.selected
    chosen = lambda words, tags: [one for one in everything(words, tags) if one.name in SOME]  # noqa: E731
    monkeypatch.setattr(_execute, "selected", chosen)
    for name, value in KNOWN.items():
        monkeypatch.setenv(name.upper().replace("-", "_"), value)
    known = {name.replace("-", "_"): value for name, value in {**PATHS, **KNOWN}.items()}
    code, out, err = call("-j", "2", "--json", *options(**known), "--", *argv_of("good"))
    assert (code, err) == (0, ""), out
    cards = card(out)
    assert cards.pop("not applicable") == {"no-zombies"}
    assert {f"server/{name}" for name in cards.pop("held")} == SOME - {"server/no-zombies"}
    assert cards == {}


def test_the_promise_that_a_server_breaks_deviates_with_evidence(call):
    scenarios = (
        "exit-code-tells-the-truth", "listener-is-gone", "no-orphans", "second-signal-forces", "sigterm-idle",
        "sigterm-in-flight",
    )  # fmt: skip
    code, out, _ = call(*named(scenarios, "exits-zero-though-cut", slow_path="/slow?seconds={seconds}"))
    assert code == 3  # the second signal finds nobody any more: not injected
    lines = {line.split("server/")[1].split()[0]: line for line in out.splitlines() if " server/" in line}
    assert lines["second-signal-forces"].startswith("not injected")
    assert "the server had ended before SIGTERM: exit code 0" in lines["second-signal-forces"]
    assert lines["sigterm-in-flight"].startswith("deviated")
    assert "3 of 3 requests in flight were lost: 3 eof" in lines["sigterm-in-flight"]
    assert lines["exit-code-tells-the-truth"].startswith("deviated")
    assert "exit code 0 after 2 requests were lost" in lines["exit-code-tells-the-truth"]
    assert all(lines[name].startswith("held") for name in ("sigterm-idle", "no-orphans", "listener-is-gone"))
    [repeat] = [line for line in out.splitlines() if line.startswith("repeat with:")]
    assert "exits-zero-though-cut" in repeat


def test_who_leaves_an_orphan_behind_is_told_and_nobody_lives_on(call):
    code, out, _ = call(*named(("no-orphans", "sigterm-idle"), "orphan"), "--json")
    assert code == 1
    deviated = {
        entry["name"]: entry for entry in json.loads(out)["scenarios"] if entry["verdict"] == "deviated"
    }
    assert "server/no-orphans" in deviated
    assert "bad_servers.py orphan" in json.dumps(deviated["server/no-orphans"])
    assert pids_of("orphan") == []


# -- what cannot be checked ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "Missing argument 'TARGET'."),
        (("--",), "Missing argument 'TARGET'."),
        (("--slowpath", "/x", "--", "true"), "No such option '--slowpath'. (Did you mean one of: "),
        (
            ("uvicorn", "app:app", "--port", "{port}"),
            "The command of a server goes behind --, as in: check server -- uvicorn app:app --port {port}",
        ),
        (("--drain", "0", "--", "true"), "Invalid value for '--drain'"),
        (("--limit", "none", "--", "true"), "Invalid value for '--limit'"),
        (("--preset", "kubernets", "--", "true"), "Invalid value for '--preset'"),
        (
            ("--ready", "log:", "--", "true"),
            "ready must be port, notify, log:TEXT, or a path such as /ready, not 'log:'",
        ),
        (("--path", "index.html", "--", "true"), "path must be a path that begins with /, not 'index.html'"),
        (
            ("--", "no-such-server", "{port}"),
            "there is no command 'no-such-server'; is it installed, and on the PATH?",
        ),
        (("--", "/no/such/server", "{port}"), "there is no command '/no/such/server'"),
        (("--", "/proc/version", "{port}"), "cannot run '/proc/version': permission denied"),
    ],
)
def test_a_command_that_cannot_be_checked_is_refused_at_once(call, words, text):
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert text in " ".join(err.split())


@pytest.mark.parametrize(
    ("mode", "text", "last"),
    [
        (
            "start-fails",
            "the server ended before it was ready (exit code 3)",
            "cannot read the configuration",
        ),
        ("start-killed", "the server ended before it was ready (SIGKILL)", "about to run out of memory"),
        ("start-fails-binary", "the server ended before it was ready (exit code 3)", r"\x1b[31mred\x1b[2J"),
    ],
)
def test_a_server_that_does_not_come_up_is_told_once_and_not_by_each_scenario(call, mode, text, last):
    code, out, err = call("-j", "2", "--", *argv_of(mode))
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: {text}")
    assert err.rstrip("\n").endswith(last)
    assert len(err.splitlines()) < 20


def test_a_command_that_does_not_say_where_it_listens_is_told_how(call):
    code, out, err = call("--", *argv_of("start-elsewhere"))
    assert (code, out) == (2, "")
    assert "let the command say where by {port} (or {uds}), or let it read PORT from its environment" in err
    port = err.split("listens on port ")[1].split()[0]
    assert is_free(int(port))
