"""Processes to strike at, and how to look at them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil

DEADLINE = 15.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until a condition holds and return its value."""
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {DEADLINE} s in vain: {what}"
        time.sleep(0.005)
    return found


def state(pid: int) -> str:
    """Return the letter of a process: R, S, T (stopped), Z; X when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


PRELUDE = r"""
import os, signal, subprocess, sys, time

def print(*words, **_):  # in one go: others write there, too
    os.write(1, (" ".join(map(str, words)) + "\n").encode())
"""


class Script:
    """A Python process that runs some code, then says "ready", then what it does for each line that it gets."""

    def __init__(self, code: str = "", *, each_line: str = "pass", after: str = "", **options: Any) -> None:
        lines = [
            PRELUDE,
            textwrap.dedent(code),
            "print('ready', flush=True)",
            "for line in sys.stdin:",
            textwrap.indent(textwrap.dedent(each_line), "    "),
            textwrap.dedent(after),
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-c", "\n".join(lines)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )
        self.words = self.read_until("ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    def read_until(self, word: str) -> list[str]:
        words = []
        while True:
            line = self.process.stdout.readline()  # type: ignore[union-attr]
            assert line, f"the script ended before it said {word!r}: {words}"
            if line.strip() == word:
                return words
            words.append(line.strip())

    def ask(self, line: str = "") -> str:
        self.process.stdin.write(f"{line}\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return self.process.stdout.readline().strip()  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children(recursive=True):
                child.kill()
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.stdout.close()  # type: ignore[union-attr]


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
