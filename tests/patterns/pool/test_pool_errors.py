"""The pool's errors: their words, their attributes, and that all of it pickles."""

from __future__ import annotations

import copy
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import BrokenExecutor

import pytest

from pytest_prodpatterns.patterns.pool import (
    PoisonTask,
    PoolBroken,
    PoolClosed,
    PoolError,
    QueueFull,
    RemoteError,
    ShutdownCancelled,
    TaskTimeout,
    WorkerCrashed,
)
from pytest_prodpatterns.patterns.pool._errors import describe_exit

KILLED = WorkerCrashed(task_id="17", task="app.resize", pid=4711, exitcode=-9)
EXITED = WorkerCrashed(task_id="17", task="app.resize", pid=4712, exitcode=3, attempt=2)

ERRORS = {
    "QueueFull": (
        QueueFull(capacity=102, name="images"),
        "pool 'images' is full: 102 of 102 places are taken",
        {"capacity": 102, "waited": None, "name": "images"},
    ),
    "QueueFull after a wait": (
        QueueFull(capacity=2, waited=1.50001, name="images"),
        "pool 'images' is full: 2 of 2 places are taken; no place became free within 1.5 s",
        {"capacity": 2, "waited": 1.50001},
    ),
    "PoolClosed": (
        PoolClosed(name="images"),
        "pool 'images' is shut down and takes no more tasks",
        {"name": "images"},
    ),
    "PoolClosed without a name": (
        PoolClosed(),
        "the pool is shut down and takes no more tasks",
        {"name": None},
    ),
    "WorkerCrashed by a signal": (
        KILLED,
        "the worker of task 17 (app.resize) died (pid 4711): SIGKILL (perhaps out of memory?)",
        {
            "task_id": "17",
            "task": "app.resize",
            "pid": 4711,
            "exitcode": -9,
            "signal": "SIGKILL",
            "attempt": 1,
        },
    ),
    "WorkerCrashed by itself": (
        EXITED,
        "the worker of task 17 (app.resize) died (pid 4712, attempt 2): exit code 3",
        {"exitcode": 3, "signal": None, "attempt": 2},
    ),
    "WorkerCrashed without a task": (
        WorkerCrashed(pid=4713, exitcode=-signal.SIGSEGV),
        "a worker without a task died (pid 4713): SIGSEGV",
        {"task_id": None, "task": None, "signal": "SIGSEGV"},
    ),
    "PoisonTask": (
        PoisonTask(task_id="17", task="app.resize", history=[KILLED, EXITED]),
        "task 17 (app.resize) killed its worker 2 times and is not tried again: SIGKILL, exit code 3",
        {"pid": 4712, "exitcode": 3, "signal": None, "attempt": 2, "task_id": "17", "task": "app.resize"},
    ),
    "PoisonTask at once": (
        PoisonTask(task_id="17", history=[KILLED]),
        "task 17 killed its worker once and is not tried again: SIGKILL",
        {"pid": 4711, "exitcode": -9, "signal": "SIGKILL", "attempt": 1},
    ),
    "TaskTimeout": (
        TaskTimeout(task_id="17", task="app.resize", timeout=1.5, pid=4711),
        "task 17 (app.resize) ran longer than 1.5 s; its worker (pid 4711) was killed",
        {"task_id": "17", "task": "app.resize", "timeout": 1.5, "pid": 4711, "errno": None},
    ),
    "PoolBroken": (
        PoolBroken(name="images", causes=[KILLED, EXITED]),
        (
            "pool 'images' is broken: its workers keep ending; the last cause: WorkerCrashed: the worker of task"
            " 17 (app.resize) died (pid 4712, attempt 2): exit code 3"
        ),
        {"name": "images"},
    ),
    "PoolBroken without a cause": (
        PoolBroken(name="images"),
        "pool 'images' is broken: its workers keep ending",
        {"causes": ()},
    ),
    "PoolBroken for a reason": (
        PoolBroken(name="images", reason="no worker could be started"),
        "pool 'images' is broken: no worker could be started",
        {"causes": (), "reason": "no worker could be started"},
    ),
    "ShutdownCancelled": (
        ShutdownCancelled(task_id="17", task="app.resize", name="images"),
        "pool 'images' shut down before task 17 (app.resize) was done",
        {"task_id": "17", "task": "app.resize", "name": "images"},
    ),
    "RemoteError": (
        RemoteError(type_name="app.Odd", text="so odd", traceback="Traceback …"),
        "app.Odd: so odd",
        {"type_name": "app.Odd", "text": "so odd", "traceback": "Traceback …"},
    ),
    "RemoteError without a text": (
        RemoteError(type_name="SystemExit"),
        "SystemExit",
        {"text": "", "traceback": ""},
    ),
}

each_error = pytest.mark.parametrize(("error", "text", "attributes"), ERRORS.values(), ids=ERRORS)


def state(error):
    """What an error is, with the errors that it holds told in the same way."""
    held = {
        name: [state(each) for each in value] if isinstance(value, tuple) else value
        for name, value in vars(error).items()
    }
    return type(error), str(error), repr(error), error.args, held


@each_error
def test_an_error_says_what_happened_and_keeps_it(error, text, attributes):
    assert str(error) == text
    assert {name: getattr(error, name) for name in attributes} == attributes
    assert isinstance(error, PoolError)
    assert isinstance(error, RuntimeError)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@each_error
def test_an_error_pickles_with_all_that_it_knows(error, text, attributes, protocol):
    loaded = pickle.loads(pickle.dumps(error, protocol))
    assert state(loaded) == state(error)
    assert {name: getattr(loaded, name) for name in attributes} == attributes


@each_error
def test_an_error_can_be_copied(error, text, attributes):
    assert state(copy.copy(error)) == state(copy.deepcopy(error)) == state(error)


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (QueueFull, queue.Full),
        (PoolBroken, BrokenExecutor),
        (WorkerCrashed, BrokenExecutor),
        (PoisonTask, WorkerCrashed),
        (TaskTimeout, TimeoutError),
    ],
)
def test_an_error_is_caught_by_the_standard_librarys_name_too(kind, also):
    assert issubclass(kind, also)


def test_notes_travel_with_an_error():
    error = TaskTimeout(task_id="1", timeout=1, pid=2)
    error.add_note("see the log")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["see the log"]


class PlacedFull(QueueFull):
    """A user's own, with a constructor of its own."""

    def __init__(self, place):
        super().__init__(capacity=1)
        self.place = place


def test_a_subclass_with_another_constructor_pickles_as_well():
    loaded = pickle.loads(pickle.dumps(PlacedFull("here")))
    assert (type(loaded), loaded.place, loaded.capacity) == (PlacedFull, "here", 1)


def test_the_history_of_a_poison_task_travels():
    loaded = pickle.loads(pickle.dumps(PoisonTask(task_id="17", history=[KILLED, EXITED])))
    assert [state(crash) for crash in loaded.history] == [state(KILLED), state(EXITED)]


def test_a_broken_pool_shows_its_last_cause_also_after_a_journey():
    error = PoolBroken(name="images", causes=[KILLED, EXITED])
    assert (error.causes, error.__cause__) == ((KILLED, EXITED), EXITED)
    loaded = pickle.loads(pickle.dumps(error))
    assert [state(cause) for cause in loaded.causes] == [state(KILLED), state(EXITED)]
    assert loaded.__cause__ is loaded.causes[-1]


class Needy(Exception):
    """Breaks the pickle that holds it."""

    def __init__(self, lock, text):
        super().__init__(lock, text)

    def __str__(self):
        return self.args[1] if isinstance(self.args[1], str) else self.args[2]


def test_a_cause_that_does_not_pickle_travels_as_a_remote_error():
    error = PoolBroken(name="images", causes=[Needy(threading.Lock(), "no database"), KILLED])
    first, second = pickle.loads(pickle.dumps(error)).causes
    assert (type(first), str(first)) == (RemoteError, "Needy: no database")
    assert state(second) == state(KILLED)


def test_a_cause_without_words_does_not_hide_the_broken_pool():
    error = PoolBroken(name="images", causes=[Needy(1, 2)])
    assert str(error) == "pool 'images' is broken: its workers keep ending; the last cause: Needy"


@pytest.mark.parametrize(
    ("exitcode", "words"),
    [
        (None, "unknown exit code"),
        (0, "exit code 0"),
        (137, "exit code 137"),
        (-signal.SIGKILL, "SIGKILL"),
        (-signal.SIGTERM, "SIGTERM"),
        (-signal.SIGRTMIN, "SIGRTMIN"),
        (-40, "signal 40"),
    ],
)
def test_an_exit_is_described_in_words(exitcode, words):
    assert describe_exit(exitcode) == words


@pytest.mark.parametrize("module", ["_errors", "_remote", "_context", "_logs"])
def test_what_the_errors_need_is_light(module):
    heavy = {"asyncio", "multiprocessing", "psutil", "concurrent.futures.process"}
    program = f"""
import sys, types
for name in ("patterns.pool",):  # the package itself is not the subject
    package = types.ModuleType(f"pytest_prodpatterns.{{name}}")
    import pytest_prodpatterns.patterns as patterns
    package.__path__ = [patterns.__path__[0] + "/pool"]
    sys.modules[package.__name__] = package
import pytest_prodpatterns.patterns.pool.{module}
print({heavy!r} & set(sys.modules))
"""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=bare, capture_output=True, text=True, timeout=30
    )
    assert (answer.stdout, answer.stderr) == ("set()\n", "")
