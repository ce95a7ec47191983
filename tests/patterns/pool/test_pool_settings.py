"""The parameters of a pool: what each bad one is told, what the others become."""

from __future__ import annotations

import contextvars
import inspect
import logging
import math
import multiprocessing
import os
import re
import threading
from functools import partial

import pytest

from pytest_prodpatterns.patterns.pool import WorkerPool, retry
from pytest_prodpatterns.patterns.pool._settings import RESTARTS_A_WORKER, checked, checked_deadline

INF, NAN = math.inf, math.nan
VARIABLE = contextvars.ContextVar("VARIABLE")
HUGE = 10**400
"""A whole number that no float can hold."""

DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(WorkerPool.__init__).parameters.items()
    if name != "self"
}


def settings(**changes):
    return checked(**{**DEFAULTS, **changes})


async def prepare():
    """A coroutine function."""


# --- bad ones --------------------------------------------------------------------------------------------------

AT_LEAST_1 = "{name} must be a whole number of at least 1, not {value!r}"
AT_LEAST_1_OR_NONE = "{name} must be a whole number of at least 1, or None, not {value!r}"
AT_LEAST_0 = "{name} must be a whole number of at least 0, not {value!r}"
ABOVE_0 = "{name} must be a finite number of seconds above 0, not {value!r}"
ABOVE_0_OR_NONE = "{name} must be a finite number of seconds above 0, or None, not {value!r}"
FROM_0_OR_NONE = "{name} must be a finite number of seconds of at least 0, or None, not {value!r}"
METHOD = "start_method must be one of 'fork', 'spawn', 'forkserver', not {value!r}"
WHEN_FULL = "when_full must be one of 'block', 'reject', not {value!r}"
ON_CRASH = "on_crash must be 'fail' or retry(n), not {value!r}"
NAME = "name must be a text that is not empty, not {value!r}"
INITARGS = "initargs must be a tuple of arguments, not {value!r}"

WRONG = [
    *[("num_workers", value, TypeError, AT_LEAST_1) for value in (1.0, "2", True, [])],
    *[("num_workers", value, ValueError, AT_LEAST_1) for value in (0, -1)],
    *[("max_queue_size", value, TypeError, AT_LEAST_1_OR_NONE) for value in (INF, "many", False)],
    *[("max_queue_size", value, ValueError, AT_LEAST_1_OR_NONE) for value in (0, -1)],
    *[("name", value, TypeError, NAME) for value in ("", 7, b"pool")],
    *[("start_method", value, ValueError, METHOD) for value in ("thread", "", 3)],
    ("start_method", ["fork"], ValueError, METHOD + "; did you mean 'fork'?"),
    ("start_method", "spwan", ValueError, METHOD + "; did you mean 'spawn'?"),
    ("start_method", "fork_server", ValueError, METHOD + "; did you mean 'forkserver'?"),
    *[("when_full", value, ValueError, WHEN_FULL) for value in (None, "explode", True)],
    ("when_full", "rejected", ValueError, WHEN_FULL + "; did you mean 'reject'?"),
    *[("queue_timeout", value, ValueError, FROM_0_OR_NONE) for value in (-0.1, NAN, INF, HUGE)],
    *[("queue_timeout", value, TypeError, FROM_0_OR_NONE) for value in ("soon", True)],
    *[("on_crash", value, ValueError, ON_CRASH) for value in (None, "retry", 3, retry, ["fail"])],
    *[("task_timeout", value, ValueError, ABOVE_0_OR_NONE) for value in (0, -1, NAN, INF)],
    *[("task_timeout", value, TypeError, ABOVE_0_OR_NONE) for value in ("1s", True)],
    *[("kill_grace", value, ValueError, FROM_0_OR_NONE) for value in (-1, NAN, INF)],
    ("kill_grace", "short", TypeError, FROM_0_OR_NONE),
    *[("max_tasks_per_worker", value, ValueError, AT_LEAST_1_OR_NONE) for value in (0, -1)],
    *[("max_tasks_per_worker", value, TypeError, AT_LEAST_1_OR_NONE) for value in (2.5, "9", True)],
    *[("max_worker_memory", value, ValueError, AT_LEAST_1_OR_NONE) for value in (0, -1)],
    *[("max_worker_memory", value, TypeError, AT_LEAST_1_OR_NONE) for value in (1e9, "1G")],
    *[
        ("initializer", value, TypeError, "initializer must be a callable or None, not {value!r}")
        for value in ("setup", 3)
    ],
    *[("initargs", value, TypeError, INITARGS) for value in (3, "ab", None, {"a": 1})],
    *[("max_restarts", value, ValueError, AT_LEAST_0) for value in (-1,)],
    *[("max_restarts", value, TypeError, AT_LEAST_0) for value in (1.5, INF, True)],
    *[("restart_period", value, ValueError, ABOVE_0) for value in (0, -1, NAN, INF)],
    *[("restart_period", value, TypeError, ABOVE_0) for value in (None, "minute", True)],
    *[("max_boot_failures", value, ValueError, AT_LEAST_1) for value in (0, -1)],
    *[("max_boot_failures", value, TypeError, AT_LEAST_1) for value in (None, 1.5, True)],
    *[("exit_deadline", value, ValueError, FROM_0_OR_NONE) for value in (-1, NAN, INF)],
    ("exit_deadline", "soon", TypeError, FROM_0_OR_NONE),
    (
        "context_vars",
        "VARIABLE",
        TypeError,
        "context_vars must be a list of ContextVars or 'module:attribute', got {value!r}",
    ),
    (
        "context_vars",
        ["VARIABLE"],
        ValueError,
        "a context variable must be given as 'module:attribute', got 'VARIABLE'",
    ),
]


@pytest.mark.parametrize(
    ("name", "value", "kind", "text"),
    WRONG,
    ids=[f"{name}={value!r}"[:40].partition(" at 0x")[0] for name, value, *_ in WRONG],
)
def test_a_bad_parameter_is_told_what_was_expected_and_what_was_got(name, value, kind, text):
    with pytest.raises((TypeError, ValueError)) as caught:
        settings(**{name: value})
    assert (type(caught.value), str(caught.value)) == (kind, text.format(name=name, value=value))


def test_the_table_forgets_no_parameter():
    assert DEFAULTS.keys() - {name for name, *_ in WRONG} == {"forward_logs"}


@pytest.mark.parametrize("initializer", [prepare, partial(prepare)], ids=["function", "partial"])
def test_an_initializer_that_would_only_make_a_coroutine_is_refused(initializer):
    with pytest.raises(
        TypeError, match=r"^prepare is a coroutine function, and a worker runs plain functions; "
    ):
        settings(initializer=initializer)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize(
    ("initializer", "initargs"),
    [(lambda: None, ()), (print, (threading.Lock(),))],
    ids=["initializer", "initargs"],
)
def test_what_starts_a_worker_elsewhere_must_pickle(method, initializer, initargs):
    with pytest.raises(
        TypeError, match=r"^initializer and initargs must be picklable under spawn and forkserver: .*pickle"
    ) as caught:
        settings(start_method=method, initializer=initializer, initargs=initargs)
    assert caught.value.__cause__ is not None


def test_under_fork_nothing_has_to_pickle():
    lock, initializer = threading.Lock(), lambda lock: None
    found = settings(start_method="fork", initializer=initializer, initargs=(lock,))
    assert (found.initializer, found.initargs) == (initializer, (lock,))


# --- good ones -------------------------------------------------------------------------------------------------


def test_defaults():
    found = settings()
    assert found.num_workers == len(os.sched_getaffinity(0))
    assert (found.max_queue_size, found.capacity) == (1000, found.num_workers + 1000)
    assert found.start_method == multiprocessing.get_context().get_start_method()
    assert (found.terms.when_full, found.terms.queue_timeout) == ("block", None)
    assert (found.terms.task.timeout, found.terms.task.on_crash) == (None, "fail")
    assert (found.max_restarts, found.max_boot_failures) == (RESTARTS_A_WORKER * found.num_workers, 3)
    assert (found.kill_grace, found.restart_period, found.exit_deadline) == (0.2, 10.0, 3.0)
    assert (found.places, found.initargs) == ((), ())


def test_names_are_numbers_that_never_come_back():
    numbers = [int(re.fullmatch(r"pool-(\d+)", settings().name)[1]) for _ in range(3)]
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
    assert settings(name="jobs").name == "jobs"


@pytest.mark.parametrize(("workers", "queue", "capacity"), [(1, 1, 2), (3, 40, 43), (2, None, None)])
def test_the_capacity_counts_those_that_run(workers, queue, capacity):
    assert settings(num_workers=workers, max_queue_size=queue).capacity == capacity


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue_timeout", 0),
        ("queue_timeout", 1e300),
        ("task_timeout", 1e-9),
        ("kill_grace", 0),
        ("max_restarts", 0),
        ("max_boot_failures", 1),
        ("max_tasks_per_worker", 1),
        ("exit_deadline", 0),
    ],
)
def test_the_edge_is_allowed(name, value):
    found = settings(**{name: value})
    terms = {"queue_timeout": found.terms.queue_timeout, "task_timeout": found.terms.task.timeout}
    assert (terms[name] if name in terms else getattr(found, name)) == value


@pytest.mark.parametrize("name", ["kill_grace", "exit_deadline"])
def test_no_grace_is_none_at_all(name):
    assert getattr(settings(**{name: None}), name) == 0.0


def test_arguments_may_come_as_a_list():
    assert settings(initializer=print, initargs=["a", 1]).initargs == ("a", 1)


@pytest.mark.skipif(
    not hasattr(os, "process_cpu_count"), reason="before 3.13 the processors are counted otherwise"
)
def test_the_processors_that_this_process_may_use_are_counted(monkeypatch):
    monkeypatch.setattr(os, "process_cpu_count", lambda: 7)
    assert settings().num_workers == 7
    monkeypatch.setattr(os, "process_cpu_count", lambda: None)
    assert settings().num_workers == 1


# --- what a worker is told -------------------------------------------------------------------------------------


def test_a_worker_is_told_its_part(monkeypatch):
    monkeypatch.setenv("PRODPATTERNS_TIMELINE", "somewhere")
    told = settings(
        start_method="fork",
        initializer=print,
        initargs=("a",),
        max_tasks_per_worker=5,
        max_worker_memory=10**9,
        context_vars=[VARIABLE],
    ).setup()
    assert (told.initializer, told.initargs) == (print, ("a",))
    assert (told.max_tasks, told.max_memory, told.spool) == (5, 10**9, "somewhere")
    assert [place.variable for place in told.places] == [VARIABLE]


def test_a_worker_is_told_the_levels_of_the_moment(monkeypatch):
    monkeypatch.delenv("PRODPATTERNS_TIMELINE", raising=False)
    found, logger = settings(), logging.getLogger("test_pool_settings.noisy")
    monkeypatch.setattr(logger, "level", 7)
    assert found.setup().log_levels[logger.name] == 7
    monkeypatch.setattr(logger, "level", 8)
    assert found.setup().log_levels[logger.name] == 8
    assert found.setup().spool is None
    assert settings(forward_logs=False).setup().log_levels is None


# --- options and deadlines -------------------------------------------------------------------------------------


def test_options_change_what_they_name_and_keep_the_rest():
    terms = settings(task_timeout=5, queue_timeout=3).terms
    changed = terms.but(on_crash=retry(2), queue_timeout=None)
    assert (changed.task.timeout, changed.task.on_crash) == (5, retry(2))
    assert (changed.queue_timeout, changed.when_full) == (None, "block")
    assert changed.but(timeout=None, when_full="reject").task.timeout is None
    assert terms.but() == terms
    assert (terms.task.on_crash, terms.queue_timeout) == ("fail", 3), "the original is as it was"


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"timeout": 0}, ValueError, "timeout must be a finite number of seconds above 0, or None, not 0"),
        ({"timeout": "1"}, TypeError, "timeout must be a finite number of seconds above 0, or None, not '1'"),
        ({"on_crash": "ignore"}, ValueError, "on_crash must be 'fail' or retry(n), not 'ignore'"),
        ({"when_full": "wait"}, ValueError, "when_full must be one of 'block', 'reject', not 'wait'"),
        (
            {"queue_timeout": -1},
            ValueError,
            "queue_timeout must be a finite number of seconds of at least 0, or None, not -1",
        ),
        (
            {"task_timeout": 1},
            TypeError,
            "options() takes on_crash, queue_timeout, timeout, when_full, not 'task_timeout'",
        ),
        (
            {"timeout": 1, "zeal": 1, "name": "a"},
            TypeError,
            "options() takes on_crash, queue_timeout, timeout, when_full, not 'name'",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_bad_options_are_told_so_too(changes, kind, text):
    with pytest.raises((TypeError, ValueError)) as caught:
        settings().terms.but(**changes)
    assert (type(caught.value), str(caught.value)) == (kind, text)


@pytest.mark.parametrize("deadline", [None, 0, 0.5, 30])
def test_a_deadline_is_seconds_or_none(deadline):
    assert checked_deadline(deadline) == deadline


@pytest.mark.parametrize(
    ("deadline", "kind"), [(-1, ValueError), (NAN, ValueError), (INF, ValueError), ("1", TypeError)]
)
def test_a_deadline_that_is_none_is_refused(deadline, kind):
    with pytest.raises((TypeError, ValueError)) as caught:
        checked_deadline(deadline)
    text = f"deadline must be a finite number of seconds of at least 0, or None, not {deadline!r}"
    assert (type(caught.value), str(caught.value)) == (kind, text)


@pytest.mark.parametrize("times", [1, 3, 10**6])
def test_a_retry_is_a_number_of_times(times):
    assert retry(times).times == times


@pytest.mark.parametrize("times", [0, -1, 1.0, True, "3", None])
def test_a_retry_that_is_no_number_of_times_is_refused(times):
    with pytest.raises(ValueError) as caught:
        retry(times)
    assert str(caught.value) == f"retry(times) must be a whole number of at least 1, got {times!r}"
