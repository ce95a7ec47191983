"""What is said when a host process does not answer: evidence, for whoever has to find out why."""

from __future__ import annotations

from pathlib import Path


class HostError(Exception):
    """A host process did not answer."""


class HostHung(HostError):  # noqa: N818 - it says what happened
    """No answer by the deadline.

    Attributes:
        verb: What was asked.
        seconds: How long the engine waited.
        where: The innermost line of the thread that should answer, or an empty string.
        stacks: The stacks of all threads of the host, innermost line first, or why there are none.
    """

    def __init__(self, verb: str, seconds: float, stacks: str) -> None:
        self.verb = verb
        self.seconds = seconds
        self.stacks = stacks
        self.where = _where(stacks, verb)
        at = f", at {self.where}" if self.where else ""
        super().__init__(f"no answer to {verb!r} within {seconds:.1f} s{at}")


class HostDied(HostError):  # noqa: N818
    """The process ended.

    Attributes:
        how: How it ended: `SIGKILL`, `exit code 1`.
        stderr: The end of what it wrote to standard error.
    """

    def __init__(self, verb: str, how: str, stderr: str) -> None:
        self.how = how
        self.stderr = stderr
        last = stderr.strip().rpartition("\n")[2]
        super().__init__(
            f"the host process ended ({how}) while asked to {verb!r}{f': {last}' if last else ''}"
        )


class HostFailed(HostError):  # noqa: N818
    """What was asked for raised an error.

    Attributes:
        error: The name of its type.
        text: What it says.
        traceback: Its traceback, as text.
    """

    def __init__(self, error: str, text: str, traceback: str) -> None:
        self.error = error
        self.text = text
        self.traceback = traceback
        super().__init__(f"{error}: {text}")


def _where(stacks: str, verb: str) -> str:
    """Return the innermost line of the thread that performs `verb`: `queue.py, line 171 in get`."""
    for block in stacks.split("\n\n"):
        lines = [line.strip() for line in block.splitlines() if line.strip().startswith("File ")]
        if any(line.endswith(f" in {verb}") for line in lines):
            path, _, rest = lines[0].removeprefix('File "').partition('"')
            return f"{Path(path).name}{rest}"
    return ""
