"""A service for the host that does what tests want to see survived."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from pytest_prodpatterns.lab import emit

SLEEPER = "import time; time.sleep(120)"


class Service:
    on_main = frozenset({"where", "leave_by_exit", "handle_sigterm"})

    def __init__(self):
        self.started = []

    def echo(self, value):
        return value

    def where(self):
        return threading.current_thread() is threading.main_thread()

    def thread(self):
        return threading.current_thread() is not threading.main_thread()

    def fail(self):
        raise ValueError("it does not work")

    def fail_badly(self):
        raise SystemExit(3)

    def fail_without_words(self):
        raise Wordless

    def hang(self):
        threading.Event().wait(60)

    def hang_in_c(self):
        ctypes.PyDLL(None).sleep(60)  # holds the interpreter's lock

    def die(self, code):
        sys.stderr.write("the last words\n")
        sys.stderr.flush()
        os._exit(code)

    def leave_by_exit(self):
        sys.exit(4)

    def tell(self):
        emit("dependency:host", "entered")

    def surroundings(self):
        return {
            "session": os.getsid(0),
            "sigterm": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
            "temporary": tempfile.gettempdir(),
            "engine": sorted({"chaoslib", "pytest", "hypothesis"} & set(sys.modules)),
        }

    def start(self, how):
        """Start a process that lives on, and return its pid."""
        environment = (
            {} if how in ("no environment", "orphan of the session", "lost orphan") else dict(os.environ)
        )
        session = how not in ("child", "orphan of the session")
        if "orphan" in how:
            program = (
                "import subprocess, sys;"
                f"sys.stdout.write(str(subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], stdout=-3, stderr=-3,"
                f" start_new_session={session}, env={environment}).pid))"
            )
            return int(
                subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
            )
        lines = [int(path.name) for path in Path("/proc/self/fd").iterdir() if _is_socket(path)]
        process = subprocess.Popen(
            [sys.executable, "-c", SLEEPER],
            env=environment,
            start_new_session=session,
            pass_fds=lines if how == "holds the line" else (),
        )
        self.started.append(process)
        return process.pid

    def fork(self):
        """Fork a child that keeps everything that it inherited."""
        pid = os.fork()
        if not pid:
            time.sleep(120)
            os._exit(0)
        return pid

    def handle_sigterm(self):
        signal.signal(signal.SIGTERM, lambda *_: emit("dependency:host", "left"))


def _is_socket(path):
    try:
        return str(path.readlink()).startswith("socket:")
    except FileNotFoundError:
        return False


class Wordless(Exception):
    def __str__(self):
        raise RuntimeError("no words")


SERVICE = f"{__name__}:Service"
