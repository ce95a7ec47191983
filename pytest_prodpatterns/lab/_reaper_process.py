"""The reaper itself: a small program beside the test process, which outlives it and cleans up behind it.

Run as a script with the pid and the start time of the process to watch; it reads `verb pid start` lines from
standard input.  It ends when that process is gone, or when its input ends, and then continues what was stopped
and kills what was started.  The end of the input alone would not do: a forked child of the watched process
holds the other end open, too.

Everything here is the standard library, and little of it, as the script must start in milliseconds.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress

POLL = 0.2
"""How often (seconds) the watched process is looked at where it cannot be waited for."""


def start_time(pid: int) -> int | None:
    """Return when a process started (clock ticks since boot), or None when it is gone or only a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in b"ZX" else int(fields[19])


def send(pid: int, start: int, number: int) -> None:
    """Send a signal, unless the pid belongs to another process by now."""
    with suppress(OSError):
        handle = os.pidfd_open(pid)  # from here on the pid is this process, or nobody
        try:
            if start_time(pid) == start:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


class Ledger:
    """What is to be done at the end: a set of verbs for each (pid, start time)."""

    def __init__(self) -> None:
        self.duties: dict[tuple[int, int], set[str]] = {}
        self.rest = b""

    def read(self, descriptor: int) -> bool:
        """Take over the lines that wait; return False at the end of the input."""
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return False
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            verb, pid, start = line.decode().split()
            self.note(verb, (int(pid), int(start)))
        return bool(data)

    def note(self, verb: str, process: tuple[int, int]) -> None:
        """Add a duty (`started`, `stopped`), or take it off (`continued`, `forget`)."""
        if verb == "forget":
            self.duties.pop(process, None)
        elif verb == "continued":
            self.duties.get(process, set()).discard("stopped")
        else:
            self.duties.setdefault(process, set()).add(verb)

    def fulfil(self) -> None:
        """Continue what was stopped, kill what was started, the newest first."""
        for (pid, start), verbs in reversed(self.duties.items()):
            if "stopped" in verbs:
                send(pid, start, signal.SIGCONT)
            if "started" in verbs:
                send(pid, start, signal.SIGKILL)


def watch(descriptor: int, parent: int, start: int, ledger: Ledger) -> None:
    """Read duties until the parent is gone or closes its end."""
    handle = None
    with suppress(AttributeError, OSError):
        handle = os.pidfd_open(parent)
    while start_time(parent) == start:
        wanted = [descriptor] if handle is None else [descriptor, handle]
        ready, _, _ = select.select(wanted, [], [], POLL if handle is None else None)
        if descriptor in ready and not ledger.read(descriptor):
            return
        if handle is not None and handle in ready:
            return


def detach() -> None:
    """Become nobody's child in a session of its own, deaf to what is sent to the terminal."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    os.setsid()  # before the fork: whoever waits for us to end may send Ctrl-C right then
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.closerange(3, 1024)  # an inherited descriptor would keep a stranger's pipe open


def main(parent: int, start: int) -> None:
    """Watch, then clean up."""
    detach()
    ledger = Ledger()
    watch(0, parent, start, ledger)
    os.set_blocking(0, False)
    while ledger.read(0):  # what was written just before the end
        pass
    ledger.fulfil()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
