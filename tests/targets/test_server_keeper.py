"""The keeper knows everybody whom a server starts, sees the instant of its end, and ends the rest."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pytest_prodpatterns.targets import _family
from pytest_prodpatterns.targets._family import MARKER, Family, Member, look, wait_until
from pytest_prodpatterns.targets._host import Host, HostFailed
from pytest_prodpatterns.targets.server import _keeper_start
from pytest_prodpatterns.targets.server._keeper import SERVICE
from pytest_prodpatterns.targets.server._keeper_limits import Limits

HELPERS = """
import os, signal, sys, time

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def forever():
    while True:
        time.sleep(60)

def fork(task):
    pid = os.fork()
    if not pid:
        try:
            task()
        finally:
            os._exit(0)
    return pid

def tell(name):
    "Tell of SIGTERM and live on."
    signal.signal(signal.SIGTERM, lambda *_: say("SIGTERM", name))
    say("up", name, os.getpid())
    forever()

def run_away(task):
    "As daemons do: a session of its own, nobody's child, no trace of where it comes from."
    def child():
        os.setsid()
        fork(task)
    os.waitpid(fork(child), 0)

def become(*words):
    os.execve(sys.executable, [sys.executable, "-S", "-c", *words], {})
"""

SLEEPER = "import time; time.sleep(120)"


class Kept:
    """A keeper in its host, and what a test asks of it."""

    def __init__(self, directory):
        self.host = Host(SERVICE)
        self.output = directory / "output"
        self.output.touch()

    def __getattr__(self, verb):
        return lambda **arguments: self.host.call(verb, within=20, **arguments)

    def command(self, *argv, env=None, cwd=None, output=None, **options):
        output = str(output or self.output)
        return self.start(argv=argv, env=env, cwd=cwd, output=output, **options)

    def run(self, program, *arguments, **options):
        """Start a server that is a Python program."""
        program = HELPERS + textwrap.dedent(program)
        return self.command(sys.executable, "-S", "-c", program, *arguments, **options)["pid"]

    def text(self):
        return self.output.read_text(errors="replace")

    def await_text(self, text, times=1, within=15.0):
        wait_until(lambda: self.text().count(text) >= times, within)
        assert self.text().count(text) >= times, self.text()

    def told(self, word):
        """Return what was said behind a word, wherever that was."""
        self.await_text(word)
        return [line.split(word, 1)[1].strip() for line in self.text().splitlines() if word in line]

    def pid_of(self, name):
        self.await_text(f"up {name} ")
        return int(self.told(f"up {name} ")[0])

    def ends(self, within=15.0):
        ended = self.host.call("await_exit", within=within + 10, seconds=within)
        assert ended is not None, self.text()
        return ended

    def how(self):
        return self.ends()["how"]


@pytest.fixture
def kept(tmp_path):
    kept = Kept(tmp_path)
    yield kept
    assert kept.host.close(10) == []
    assert kept.host.how == "exit code 0"


def gone(pid, within=10.0):
    return wait_until(lambda: not Path(f"/proc/{pid}").exists(), within)


def lives(pid):
    there = look(pid)
    return there is not None and not there.dead


def everybody_with(word):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


# -- the start ---------------------------------------------------------------------------------------------


def test_a_server_is_started_as_by_a_process_manager(kept, tmp_path):
    pid = kept.run(
        """
        import json
        fds = sorted((int(fd), os.readlink(f"/proc/self/fd/{fd}")) for fd in os.listdir("/proc/self/fd")
                     if os.path.exists(f"/proc/self/fd/{fd}"))
        print(json.dumps([os.getsid(0), os.getpgid(0), os.getcwd(), fds]), flush=True)
        """,
        cwd=str(tmp_path),
    )
    assert kept.how() == "exit code 0"
    session, group, cwd, fds = json.loads(kept.text())
    output = str(kept.output)
    assert (session, group, cwd) == (pid, pid, str(tmp_path))
    assert [fd for fd in fds if fd[0] < 3] == [[0, "/dev/null"], [1, output], [2, output]]
    assert [fd for fd in fds if fd[0] > 2] == []


def test_a_server_inherits_neither_blocked_nor_ignored_signals(tmp_path):
    ignored = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
    try:
        kept = Kept(tmp_path)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in before.items():
            signal.signal(number, handler)
    try:
        kept.command("cat", "/proc/self/status")
        assert kept.how() == "exit code 0"
        status = dict(line.partition(":\t")[::2] for line in kept.text().splitlines())
        # Signals 32 and 33 are the C library's own: its posix_spawn() may hand them on ignored, and nobody can ask.
        ours = ~(1 << 31 | 1 << 32)
        assert [int(status[name], 16) & ours for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]
        os.kill(kept.host.pid, signal.SIGHUP)  # which the keeper ignores on
        assert kept.look()["pids"] == []
    finally:
        kept.host.close(10)


@pytest.fixture
def environ(monkeypatch):
    for name in ("PYTHONUNBUFFERED", "PYTHONFAULTHANDLER", "LISTEN_FDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/of-the-engine")
    monkeypatch.setenv("OURS", "1")
    monkeypatch.setenv("BOTH", "ours")
    return monkeypatch


def environment_of(kept, **options):
    kept.command("env", **options)
    assert kept.how() == "exit code 0"
    return dict(line.partition("=")[::2] for line in kept.text().splitlines())


def test_a_server_gets_our_environment_and_its_own_and_can_be_observed(environ, kept):
    env = environment_of(kept, env={"THEIRS": "2", "BOTH": "theirs", MARKER: "another"})
    expected = {
        "OURS": "1",
        "THEIRS": "2",
        "BOTH": "theirs",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    assert expected.items() <= env.items()
    assert "NOTIFY_SOCKET" not in env
    assert env[MARKER] not in {"", "another"}


def test_what_is_set_stays_and_it_may_notify_whom_we_say(environ, kept):
    env = environment_of(
        kept, env={"PYTHONUNBUFFERED": "", "PYTHONFAULTHANDLER": "0"}, notify="/run/of-the-test"
    )
    assert (env["PYTHONUNBUFFERED"], env["PYTHONFAULTHANDLER"]) == ("", "0")
    assert env["NOTIFY_SOCKET"] == "/run/of-the-test"


def script(directory, text, mode=0o755):
    path = directory / "script"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


CANNOT = {
    "no command": ([], {}, "there is no command"),
    "not on PATH": (["no-such-command"], {}, "cannot run 'no-such-command': no such command on PATH"),
    "not on its PATH": (
        ["ls"],
        {"env": {"PATH": "/none"}},
        "cannot run 'ls': no such command on PATH",
    ),
    "no file": (["/no/such/file"], {}, "cannot run '/no/such/file': no such file or directory"),
    "not executable": (
        lambda tmp: [script(tmp, "#!/bin/sh\n", 0o644)],
        {},
        "cannot run '{tmp}/script': permission denied",
    ),
    "no interpreter": (
        lambda tmp: [script(tmp, "#!/no/such\n")],
        {},
        "cannot run '{tmp}/script': its first line names an interpreter that does not exist",
    ),
    "no interpreter, relative": (
        lambda tmp: [script(tmp, "#!/no/such\n") and "./script"],
        {"cwd": "{tmp}"},
        "cannot run './script': its first line names an interpreter that does not exist",
    ),
    "no program": (
        lambda tmp: [script(tmp, "\0\1\2")],
        {},
        "cannot run '{tmp}/script': exec format error",
    ),
    "no directory": (["ls"], {"cwd": "/no/such"}, "no such directory: '/no/such'"),
    "a directory that is a file": (["ls"], {"cwd": "/etc/passwd"}, "no such directory: '/etc/passwd'"),
    "a zero byte": (["a\0b"], {}, r"cannot run 'a\x00b': embedded null byte"),
    "no output": (
        ["ls"],
        {"output": "/no/such/file"},
        "cannot write '/no/such/file': no such file or directory",
    ),
}


@pytest.mark.parametrize("why", CANNOT)
def test_a_command_that_cannot_start_says_why(kept, tmp_path, why):
    argv, options, text = CANNOT[why]
    argv = argv(tmp_path) if callable(argv) else argv
    options = {
        name: value.format(tmp=tmp_path) if isinstance(value, str) else value
        for name, value in options.items()
    }
    with pytest.raises(HostFailed) as caught:
        kept.command(*argv, **options)
    assert caught.value.error == "CannotStart"
    assert caught.value.text == text.format(tmp=tmp_path)
    kept.command("true")
    assert kept.how() == "exit code 0"


@pytest.mark.parametrize("number", [77, 10**9], ids=["lower", "more than is possible"])
def test_a_server_starts_with_the_number_of_files_that_it_is_allowed(kept, number):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pid = kept.run("forever()", nofile=number)
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (min(number, hard), hard)


class NoPrctl:
    pass


class Refused:
    def prctl(self, *_):
        return -1


@pytest.mark.parametrize("libc", [NoPrctl, Refused])
def test_it_is_known_whether_orphans_can_be_adopted(monkeypatch, libc):
    monkeypatch.setattr(_keeper_start.ctypes, "CDLL", lambda _: libc())
    assert _keeper_start.adopt_orphans() is False


def test_it_tells_that_it_adopts_orphans(kept):
    assert kept.command("true")["adopts"] is True


def test_a_machine_on_which_a_server_cannot_be_watched_starts_none(monkeypatch, tmp_path):
    def missing(_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    with pytest.raises(_keeper_start.CannotStart, match=r"^servers are watched by pidfds.*not implemented$"):
        _keeper_start.start(["touch", str(tmp_path / "file")], {}, None, str(tmp_path / "output"))
    assert list(tmp_path.iterdir()) == []


def test_there_is_one_server_at_a_time(kept):
    first = kept.run("tell('first')")
    with pytest.raises(
        HostFailed, match=rf"^RuntimeError: somebody of the server before lives: \[{first}\]$"
    ):
        kept.command("true")
    assert kept.kill() == [first]
    assert kept.command("true")["pid"] != first
    assert kept.how() == "exit code 0"


def test_a_start_waits_a_moment_for_the_last_of_the_server_before(kept):
    kept.command("sh", "-c", "sleep 0.2 & exit 1")
    assert kept.how() == "exit code 1"
    kept.command("true")
    assert kept.how() == "exit code 0"


@pytest.mark.parametrize("verb", ["look", "kill", "survivors", "stacks"])
def test_without_a_server_there_is_nothing_to_ask(kept, verb):
    with pytest.raises(HostFailed, match="^RuntimeError: no server was started$"):
        getattr(kept, verb)()


def test_the_keeper_loads_nothing_heavy():
    heavy = ["asyncio", "aiohttp", "pytest", "psutil", "multiprocessing", "http.client", "ssl", "redis"]
    program = f"import sys, {SERVICE.partition(':')[0]}; print([m for m in {heavy} if m in sys.modules])"
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=env)
    assert done.stdout == "[]\n"


# -- the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "code", "how"),
    [
        ("exit 0", 0, "exit code 0"),
        ("exit 3", 3, "exit code 3"),
        ("kill -KILL $$", -9, "SIGKILL"),
        ("kill -TERM $$", -15, "SIGTERM"),
        ("kill -40 $$", -40, "signal 40"),
    ],
)
def test_it_tells_how_a_server_ended(kept, end, code, how):
    pid = kept.command("sh", "-c", end)["pid"]
    ended = kept.ends()
    assert (ended["code"], ended["how"]) == (code, how)
    seen = kept.look()
    assert seen == {"exit": ended, "pids": [], "zombies": []}
    assert kept.survivors() == []
    assert gone(pid)


def test_the_instant_of_the_end_is_that_of_the_end_whoever_asks_and_when(kept):
    kept.run("say(time.monotonic()); os._exit(0)")
    ended = kept.ends()
    seen = time.monotonic()
    said = float(kept.text())
    assert said <= ended["at"] <= seen
    assert kept.look()["exit"] == ended
    assert kept.await_exit(seconds=0) == ended
    assert kept.kill() == []


def test_the_end_is_noted_before_it_is_waited_for(kept):
    pid = kept.command("sleep", "0.2")["pid"]
    assert gone(pid)
    seen = time.monotonic()
    assert kept.ends()["at"] <= seen


def test_a_server_that_lives_has_no_end(kept):
    pid = kept.run("tell('server')")
    kept.pid_of("server")
    assert kept.await_exit(seconds=0.05) is None
    assert kept.look() == {"exit": None, "pids": [pid], "zombies": []}


def test_verbs_do_not_wait_for_each_other(kept):
    pid = kept.run("tell('server')")
    kept.pid_of("server")
    waits = [kept.host.begin("await_exit", seconds=60) for _ in range(5)]
    looks = [kept.host.begin("look") for _ in range(20)]
    assert all(kept.host.wait_for(number, 20)["value"]["pids"] == [pid] for number in looks)
    kills = [kept.host.begin("kill") for _ in range(5)]
    answers = [kept.host.wait_for(number, 20)["value"] for number in kills]
    assert set().union(*answers) == {pid}
    assert {kept.host.wait_for(number, 20)["value"]["how"] for number in waits} == {"SIGKILL"}


# -- who belongs to it -------------------------------------------------------------------------------------


def test_who_runs_away_into_a_session_of_his_own_is_adopted_and_told_and_killed(kept):
    kept.run(
        """
        run_away(lambda: become("import os, time; os.write(1, b'up daemon %d\\\\n' % os.getpid()); time.sleep(120)"))
        sys.exit(0)
        """
    )
    assert kept.how() == "exit code 0"
    daemon = kept.pid_of("daemon")
    there = look(daemon)
    assert (there.parent, there.session) != (kept.host.pid, kept.host.pid)
    assert there.parent == kept.host.pid
    [survivor] = kept.survivors()
    assert survivor["pid"] == daemon
    assert "time.sleep(120)" in survivor["command"]
    assert kept.look()["pids"] == [daemon]
    assert kept.kill() == [daemon]
    assert gone(daemon)
    assert kept.survivors() == []


def test_an_adopted_one_that_ends_is_waited_for_at_once_and_no_zombie(kept):
    pid = kept.run(
        """
        def daemon():
            say("up daemon", os.getpid())
            os.read(0, 1)
        run_away(daemon)
        tell("server")
        """
    )
    kept.pid_of("server")
    assert gone(kept.pid_of("daemon"))
    assert kept.look() == {"exit": None, "pids": [pid], "zombies": []}


def test_a_child_that_the_server_never_waits_for_is_a_zombie(kept):
    pid = kept.run(
        """
        signal.signal(signal.SIGUSR1, lambda *_: say("waited", os.wait()[0]))
        say("child", fork(lambda: None))
        tell("server")
        """
    )
    child = int(kept.told("child")[0])
    kept.pid_of("server")
    assert wait_until(lambda: kept.look()["zombies"] == [child], 10)
    assert kept.look() == {"exit": None, "pids": [pid], "zombies": [child]}
    kept.signal(name="SIGUSR1", target="leader")
    kept.await_text("waited")
    assert kept.look()["zombies"] == []


def test_zombies_of_a_worker_are_zombies_of_the_server_and_end_with_it(kept):
    kept.run(
        """
        def worker():
            say("child", fork(lambda: None))
            tell("worker")
        fork(worker)
        tell("server")
        """
    )
    child, worker = int(kept.told("child")[0]), kept.pid_of("worker")
    assert wait_until(lambda: kept.look()["zombies"] == [child], 10)
    os.kill(worker, signal.SIGKILL)
    assert wait_until(lambda: kept.look()["zombies"] == [worker], 10)
    assert gone(child)


@pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="the number of the system call")
def test_a_process_whose_first_thread_has_ended_lives(kept):
    pid = kept.run(
        """
        import ctypes, threading
        def other():
            while open(f"/proc/{os.getpid()}/stat").read().split()[2] != "Z":
                time.sleep(0.01)
            say("up server", os.getpid())
            time.sleep(0.2)
            forever()
        threading.Thread(target=other).start()
        ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
        """
    )
    assert kept.pid_of("server") == pid
    assert kept.look() == {"exit": None, "pids": [pid], "zombies": []}
    assert kept.signal(name="SIGTERM", target="leader")["pids"] == [pid]
    assert kept.how() == "SIGTERM"


def test_the_tracker_of_multiprocessing_has_a_second_to_end(kept):
    kept.run(
        f"""
        fork(lambda: become({SLEEPER!r}, "resource_tracker"))
        fork(lambda: become({SLEEPER!r}, "worker"))
        signal.pause()
        """
    )
    named = lambda: {one["command"].split()[-1]: one["pid"] for one in kept.survivors()}  # noqa: E731
    assert wait_until(lambda: set(named()) == {"resource_tracker", "worker"}, 10)
    pids = named()
    kept.signal(name="SIGKILL", target="leader")
    at = kept.ends()["at"]
    first = [one["pid"] for one in kept.survivors()]
    if time.monotonic() - at < 1.0:
        assert first == [pids["worker"]]
    assert wait_until(lambda: {one["pid"] for one in kept.survivors()} == set(pids.values()), 10)
    assert time.monotonic() - at >= 1.0


def test_strangers_are_no_members(kept):
    with subprocess.Popen([sys.executable, "-S", "-c", SLEEPER], start_new_session=True) as stranger:
        pid = kept.run("tell('server')")
        kept.pid_of("server")
        assert kept.look()["pids"] == [pid]
        assert kept.kill() == [pid]
        assert stranger.poll() is None
        stranger.kill()


def test_a_pid_that_belongs_to_another_process_by_now_is_not_signalled():
    with subprocess.Popen([sys.executable, "-S", "-c", SLEEPER]) as stranger:
        there = look(stranger.pid)
        before = Member(there.pid, there.start - 1, there.parent, there.session, there.group, dead=False)
        assert before.signal(signal.SIGKILL) is False
        assert stranger.poll() is None
        assert there.signal(signal.SIGKILL) is True
        assert stranger.wait(10) == -signal.SIGKILL
        assert there.signal(signal.SIGKILL) is False


def test_a_session_that_belongs_to_another_leader_by_now_is_a_strangers():
    with subprocess.Popen([sys.executable, "-S", "-c", SLEEPER], start_new_session=True) as stranger:
        family = Family(stranger.pid, "no mark")
        assert [member.pid for member in family.look()[0]] == [stranger.pid]
        family.forget()
        family = Family(stranger.pid, "no mark")
        family._root_start -= 1  # as if the root had ended, and its pid had been given away again
        assert family.look() == ([], [])
        stranger.kill()


class Census:
    """What /proc shows, look by look, while processes come and go."""

    def __init__(self, monkeypatch, lists, looks):
        self.lists = lists
        self.looks = looks
        monkeypatch.setattr(_family.os, "listdir", lambda _: [str(pid) for pid in self._next(self.lists)])
        monkeypatch.setattr(_family, "look", lambda pid: self._next(self.looks[pid]))

    @staticmethod
    def _next(answers):
        return answers.pop(0) if len(answers) > 1 else answers[0]


def process(pid, parent, dead=False):
    return Member(pid, 100, parent, 1, 1, dead)


def test_who_is_born_behind_the_list_of_a_parent_who_ends_before_he_is_looked_at_is_seen(monkeypatch):
    Census(monkeypatch, [[1, 7], [1, 8]], {1: [process(1, 0)], 7: [None], 8: [process(8, 1)]})
    assert _family._everybody() == {1: process(1, 0), 8: process(8, 1)}


@pytest.mark.parametrize("parent", [None, process(7, 1, dead=True)], ids=["gone", "a zombie"])
def test_whose_parent_ended_after_he_was_looked_at_is_looked_at_again(monkeypatch, parent):
    looks = {1: [process(1, 0)], 8: [process(8, 9), process(8, 1)], 9: [parent]}
    Census(monkeypatch, [[1, 8, 9]], looks)
    assert _family._everybody()[8] == process(8, 1)


def test_a_look_ends_however_many_are_born(monkeypatch):
    lists = [list(range(1, number)) for number in range(2, 200)]
    Census(monkeypatch, lists, {pid: [process(pid, pid - 1)] for pid in range(1, 200)})
    assert 1 < len(_family._everybody()) < 20


def test_the_keeper_knows_whether_nobody_is_left(kept):
    kept.run("fork(lambda: tell('worker'))")
    worker = kept.pid_of("worker")
    assert kept.how() == "exit code 0"
    assert kept.nobody_left() is False
    os.kill(worker, signal.SIGKILL)
    assert wait_until(kept.nobody_left, 10)
    assert kept.survivors() == []


# -- signals -----------------------------------------------------------------------------------------------

TREE = """
def sessionless():
    os.setsid()
    tell("away")
fork(lambda: tell("worker"))
fork(sessionless)
run_away(lambda: tell("daemon"))
tell("leader")
"""
NAMES = ["leader", "worker", "away", "daemon"]


@pytest.mark.parametrize(
    ("target", "names"),
    [("leader", ["leader"]), ("group", ["leader", "worker"]), ("tree", NAMES)],
)
def test_a_signal_reaches_its_target_and_nobody_else(kept, target, names):
    leader = kept.run(TREE)
    pids = {name: kept.pid_of(name) for name in NAMES}
    before = time.monotonic()
    sent = kept.signal(name="SIGTERM", target=target)
    assert set(sent["pids"]) == {pids[name] for name in names}
    assert sent["pids"][0] == leader
    assert before <= sent["at"] <= time.monotonic()
    for name in names:
        kept.await_text(f"SIGTERM {name}")
    kept.signal(name="SIGTERM", target="tree")  # who was not reached before is reached now, once
    for name in NAMES:
        kept.await_text(f"SIGTERM {name}", 2 if name in names else 1)
    assert kept.text().count("SIGTERM") == len(names) + len(NAMES)


def test_who_has_ended_gets_no_signal_and_the_rest_of_his_group_does(kept):
    leader = kept.run(TREE)
    pids = {name: kept.pid_of(name) for name in NAMES}
    assert kept.signal(name="SIGKILL", target="leader")["pids"] == [leader]
    assert kept.how() == "SIGKILL"
    assert kept.signal(name="SIGTERM", target="leader")["pids"] == []
    assert gone(leader)
    assert kept.signal(name="SIGTERM", target="group")["pids"] == [pids["worker"]]
    kept.await_text("SIGTERM worker")
    assert set(kept.signal(name="SIGKILL", target="tree")["pids"]) == set(pids.values()) - {leader}
    assert wait_until(lambda: kept.look()["pids"] == [], 10)
    for target in ("leader", "group", "tree"):
        assert kept.signal(name="SIGTERM", target=target)["pids"] == []


@pytest.mark.parametrize(
    ("name", "target", "text"),
    [
        ("SIGNONE", "leader", "KeyError: 'SIGNONE'"),
        ("SIGTERM", "all", "ValueError: no such target: 'all'; there are: leader, group, tree"),
    ],
)
def test_unknown_signals_and_targets_are_refused(kept, name, target, text):
    kept.run("tell('server')")
    with pytest.raises(HostFailed) as caught:
        kept.signal(name=name, target=target)
    assert str(caught.value) == text
    kept.pid_of("server")


def test_a_server_that_writes_a_megabyte_when_it_is_told_to_end_is_not_held_up(kept):
    kept.run(
        """
        def end(*_):
            for descriptor in (1, 2):
                os.write(descriptor, b"x" * 500_000)
            sys.exit(5)
        signal.signal(signal.SIGTERM, end)
        say("up server", os.getpid())
        forever()
        """
    )
    kept.pid_of("server")
    kept.signal(name="SIGTERM", target="leader")
    assert kept.how() == "exit code 5"
    assert kept.text().count("x") == 1_000_000


# -- limits ------------------------------------------------------------------------------------------------

OPENER = """
def fill(name):
    def count(*_):
        taken = []
        try:
            while len(taken) < 50:
                taken.append(os.open("/dev/null", 0))
        except OSError as error:
            pass
        for one in taken:
            os.close(one)
        say(name, "opened", len(taken))
    signal.signal(signal.SIGUSR1, count)
    for number in (10, 11, 40, 300):  # with gaps between them
        os.dup2(1, number)
    say("up", name, os.getpid())
    forever()
fork(lambda: fill("worker"))
fill("leader")
"""


def test_members_may_open_exactly_so_many_more_files_until_they_are_freed(kept):
    kept.run(OPENER)
    pids = [kept.pid_of(name) for name in ("leader", "worker")]
    before = [Path(f"/proc/{pid}/limits").read_text() for pid in pids]
    for extra in (8, 3, 0):
        lowest = kept.limit_files(extra=extra)
        assert isinstance(lowest, int)
        assert lowest >= 3 + extra
        kept.signal(name="SIGUSR1", target="tree")
        for name in ("leader", "worker"):
            kept.await_text(f"{name} opened {extra}\n")
    kept.free_files()
    kept.signal(name="SIGUSR1", target="tree")
    for name in ("leader", "worker"):
        kept.await_text(f"{name} opened 50")
    assert [Path(f"/proc/{pid}/limits").read_text() for pid in pids] == before
    kept.free_files()


def test_who_is_born_under_a_limit_is_freed_with_the_others(kept):
    pid = kept.run(
        """
        signal.signal(signal.SIGUSR1, lambda *_: fork(lambda: tell("worker")))
        tell("leader")
        """
    )
    kept.pid_of("leader")
    kept.limit_files(extra=2)
    kept.signal(name="SIGUSR1", target="leader")
    worker = kept.pid_of("worker")
    limit = [line for line in Path(f"/proc/{worker}/limits").read_text().splitlines() if "open files" in line]
    kept.free_files()
    limits = [Path(f"/proc/{one}/limits").read_text() for one in (pid, worker)]
    assert limits[0] == limits[1]
    assert limit[0] not in limits[1]


def test_who_has_ended_has_no_limits():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    limits = Limits()
    limits.set(process.pid, 5)
    limits.no_core(process.pid)
    assert limits.limit([process.pid], 3) == 0
    limits.free([process.pid])


# -- the last resort ---------------------------------------------------------------------------------------


def test_a_stuck_server_tells_where_and_so_do_its_workers(kept, tmp_path):
    leader = kept.run(
        """
        import resource
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        def stuck_in_worker():
            say("up worker", os.getpid())
            forever()
        def stuck_in_leader():
            say("up leader", os.getpid())
            forever()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        fork(stuck_in_worker)
        stuck_in_leader()
        """,
        cwd=str(tmp_path),
    )
    worker, _ = kept.pid_of("worker"), kept.pid_of("leader")
    kept.signal(name="SIGTERM", target="group")
    assert kept.await_exit(seconds=0.1) is None
    stacks = kept.stacks()
    assert "up leader" not in stacks
    assert stacks.index("in stuck_in_leader") < stacks.index("in stuck_in_worker")
    assert stacks.count("Fatal Python error: Aborted") == 2
    assert kept.how() == "SIGABRT"
    assert gone(leader)
    assert gone(worker)
    assert list(tmp_path.glob("core*")) == []


def test_who_has_no_stacks_to_tell_is_said_to_have_none(kept):
    kept.command("sleep", "60")
    assert kept.stacks() == "no stacks: only Python writes them, where nothing else handles SIGABRT"
    assert kept.how() == "SIGABRT"


def test_who_does_not_even_heed_that_is_asked_for_no_longer_than_said(kept):
    pid = kept.run(
        """
        signal.signal(signal.SIGABRT, lambda *_: say("not now"))
        tell("server")
        """
    )
    kept.pid_of("server")
    began = time.monotonic()
    text = kept.stacks(grace=0.3)
    assert 0.3 <= time.monotonic() - began < 10
    assert text.startswith("no stacks: ")
    assert text.endswith("\nnot now")
    assert kept.kill() == [pid]
    assert kept.how() == "SIGKILL"


def test_a_server_that_ignores_what_it_is_told_is_killed(kept):
    pid = kept.run(
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        say("up server", os.getpid())
        forever()
        """
    )
    kept.pid_of("server")
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        assert kept.signal(name=name, target="tree")["pids"] == [pid]
    assert kept.await_exit(seconds=0.1) is None
    assert kept.kill() == [pid]
    assert kept.ends()["code"] == -signal.SIGKILL


def test_a_stopped_server_is_killed(kept):
    pid = kept.run("tell('server')")
    kept.pid_of("server")
    kept.signal(name="SIGSTOP", target="leader")
    assert kept.kill() == [pid]
    assert kept.how() == "SIGKILL"


STORMS = {
    "the leader forks": """
        def child():
            time.sleep(0.001 * (os.getpid() % 7))
        while True:
            fork(child)
            say("storm")
            time.sleep(0.001)
        """,
    "a worker forks": """
        def worker():
            while True:
                fork(lambda: time.sleep(5))
                say("storm")
                time.sleep(0.002)
        fork(worker)
        forever()
        """,
    "all fork, in a group": """
        def generation():
            time.sleep(0.003)
            for _ in range(2):
                fork(lambda: time.sleep(0.1))
            say("storm")
            fork(generation)
        generation()
        forever()
        """,
    "a worker in a session of its own forks": """
        def worker():
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            while True:
                fork(lambda: time.sleep(1))
                say("storm")
                time.sleep(0.002)
        fork(worker)
        forever()
        """,
    "daemons of daemons": """
        def daemon():
            say("storm")
            time.sleep(0.05)
            run_away(daemon)
        run_away(daemon)
        forever()
        """,
    "killed workers are started again": """
        while True:
            pid = fork(forever)
            say("storm")
            os.waitpid(pid, 0)
        """,
}


@pytest.mark.parametrize("storm", STORMS)
def test_nobody_outlives_the_kill_whoever_is_born_meanwhile(kept, storm):
    word = f"storm-{os.urandom(6).hex()}"
    pid = kept.run(STORMS[storm], word)
    kept.await_text("storm", 1 if "again" in storm else 5)
    killed = kept.kill()
    assert killed[0] == pid
    assert everybody_with(word) == []
    assert kept.look()["pids"] == []
    assert kept.how() == "SIGKILL"


@pytest.mark.parametrize("close", ["leaves", "is closed", "was killed"])
def test_nobody_outlives_the_keeper(tmp_path, close):
    word = f"tree-{os.urandom(6).hex()}"
    kept = Kept(tmp_path)
    kept.run(TREE, word)
    for name in NAMES:
        kept.pid_of(name)
    pids = kept.look()["pids"]
    assert len(pids) == 4
    assert sorted(member.pid for member in kept.host.descendants()) == sorted(
        pids
    )  # the reaper is none of them
    if close == "was killed":
        os.kill(kept.host.pid, signal.SIGKILL)
        assert wait_until(lambda: everybody_with(word) == [], 10)  # by the reaper: nobody has closed it yet
    assert kept.host.close(10 if close == "leaves" else 0) == []
    assert everybody_with(word) == []


ENGINE = """
import os, signal, sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from targets.test_server_keeper import NAMES, TREE, Kept
kept = Kept(Path({directory!r}))
kept.run(TREE, {word!r})
print([kept.pid_of(name) for name in NAMES], flush=True)
kept.look()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nobody_outlives_an_engine_that_was_killed(tmp_path):
    word = f"tree-{os.urandom(6).hex()}"
    program = ENGINE.format(path=sys.path, directory=str(tmp_path), word=word)
    done = subprocess.run(
        [sys.executable, "-"],
        input=program,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(json.loads(done.stdout)) == 4
    assert wait_until(lambda: everybody_with(word) == [], 10)
