"""Which pool a specification names, and what is said when there is none."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest
from targets import pool_factories

from pytest_prodpatterns import targets
from pytest_prodpatterns.scenarios._subjects import SUBJECTS
from pytest_prodpatterns.targets import TargetError
from pytest_prodpatterns.targets.pool import PoolTarget, _target
from pytest_prodpatterns.targets.pool._catalogue import adapter
from pytest_prodpatterns.targets.pool._factory import FactoryAdapter
from pytest_prodpatterns.targets.pool._protocol import REQUIREMENTS, PoolSettings

STANDARD = ["ppe-fork", "ppe-forkserver", "ppe-spawn", "multiprocessing-pool"]
LIBRARIES = {
    "loky": "loky",
    "pebble": "pebble",
    "mpire": "mpire",
    "billiard": "billiard",
    "deadpool": "deadpool-executor",
    "anyio": "anyio",
    "dask": "distributed",
}
FACTORIES = pool_factories.__name__
PYTHON = ".".join(map(str, sys.version_info[:3]))


def test_ours_stands_first_among_the_known():
    assert targets.known("pool") == ["ours", *STANDARD, *LIBRARIES, "ours-on-dask"]


def test_the_words_of_the_subject_are_those_that_adapters_know():
    assert SUBJECTS["pool"].requirements == frozenset(REQUIREMENTS)
    assert not SUBJECTS["pool"].in_process


@pytest.mark.parametrize("name", ["ours", *STANDARD, *LIBRARIES])
def test_what_an_adapter_lacks_has_a_reason_of_one_line(name):
    found = adapter(name)
    assert found.name == name
    assert found.description
    assert set(found.lacks) <= set(REQUIREMENTS)
    assert all(reason and "\n" not in reason and len(reason) < 120 for reason in found.lacks.values())


def test_ours_lacks_nothing():
    target = targets.resolve("pool", "ours")
    assert [target.missing(word) for word in REQUIREMENTS] == [None] * len(REQUIREMENTS)
    assert target.version == importlib.metadata.version("pytest-prodpatterns")


@pytest.mark.parametrize("name", STANDARD)
def test_a_pool_of_the_standard_library_has_the_version_of_python(name):
    target = targets.resolve("pool", name)
    assert isinstance(target, PoolTarget)
    assert (target.name, target.version) == (name, PYTHON)
    assert target.missing("retry")
    target.close()


@pytest.mark.parametrize(("name", "distribution"), LIBRARIES.items())
def test_a_missing_library_says_what_to_install(name, distribution, monkeypatch):
    def not_found(distribution):
        raise importlib.metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(importlib.metadata, "version", not_found)
    with pytest.raises(
        TargetError,
        match=rf"^{name} is not installed; install it with: python -m pip install {distribution}$",
    ):
        targets.resolve("pool", name)


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(
        TargetError,
        match=r"^unknown pool 'lokyy', did you mean 'loky'\? There are: ours, .*, and module:callable",
    ):
        targets.resolve("pool", "lokyy")


WRONG = {
    "number": r"^'number' is of type int; expected a callable that makes an Executor of num_workers$",
    "executor": (
        r"^executor is a ProcessPoolExecutor, not a factory of executors;"
        r" write: def make_executor\(\*, num_workers\): return ProcessPoolExecutor\(\.\.\.\)$"
    ),
    "takes_nothing": (
        r"^takes_nothing takes no num_workers, and a scenario has to set it;"
        r" write: def make_executor\(\*, num_workers\): …$"
    ),
    "returns_none": r"^returns_none returned None; expected an Executor \(is a `return` missing\?\)$",
    "returns_threads": r"^returns_threads returned a ThreadPoolExecutor; expected a pool of processes$",
    "returns_class": r"^returns_class returned the class Stranger; expected an Executor made of it$",
    "returns_number": (
        r"^returns_number returned something of type int; expected an Executor, which has"
        r" submit\(fn, \*args\) and shutdown\(wait\)$"
    ),
    "is_async": r"^is_async is async; expected a plain function that returns an Executor$",
    "raises": r"^raises raised ValueError\('no database'\) for {'num_workers': 1}$",
    "exits": r"^exits raised SystemExit\(3\) for {'num_workers': 1}$",
    "immortal": r"^the Immortal that immortal made cannot be shut down: RuntimeError\('never'\)$",
}


@pytest.mark.parametrize(("factory", "message"), WRONG.items())
def test_a_factory_that_does_not_work_says_why(factory, message):
    with pytest.raises(TargetError, match=message):
        described(factory)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            ":make",
            r"^':make' names no factory; expected module:callable, for example app\.workers:make_executor$",
        ),
        (
            "no_such_module:make",
            r"^cannot load the factory 'no_such_module:make': No module named 'no_such_module'$",
        ),
        ("json:make", r"^cannot load the factory 'json:make': module 'json' has no attribute 'make'$"),
        (f"{FACTORIES}:dies", rf"^{FACTORIES}:dies ended its process \(exit code 5\)$"),
    ],
)
def test_a_specification_that_cannot_be_followed_says_why(spec, message):
    with pytest.raises(TargetError, match=message):
        targets.resolve("pool", spec)


def test_a_factory_that_hangs_is_no_hang_of_ours(monkeypatch):
    monkeypatch.setattr(_target, "_GRACE", 1.5)
    with pytest.raises(
        TargetError,
        match=rf"^{FACTORIES}:hangs made no pool within 2 s; it stands at pool_factories\.py, line \d+ in hangs$",
    ):
        targets.resolve("pool", f"{FACTORIES}:hangs")


def test_a_factory_of_a_known_library_gets_its_adapter():
    target = targets.resolve("pool", f"{FACTORIES}:standard")
    assert (
        target.description == f"concurrent.futures.process.ProcessPoolExecutor made by {FACTORIES}:standard"
    )
    assert target.version == PYTHON
    assert target.missing("bounded-queue") == "ProcessPoolExecutor accepts any number of tasks"
    assert target.missing("async-submit") is None


def described(factory):
    return FactoryAdapter(FACTORIES, factory, None, factory).describe()


def test_a_stranger_is_asked_what_it_takes():
    assert described("stranger")["lacks"] == {
        "bounded-queue": "stranger takes no max_queue_size",
        "reject-when-full": "stranger takes no when_full",
        "queue-timeout": "stranger takes no queue_timeout",
        "retry": "stranger takes no retries",
        "drain-on-sigterm": "Stranger has no drain_on_sigterm",
        "shutdown-deadline": "Stranger.shutdown takes no deadline",
    }
    assert described("stranger")["version"] == ""


def test_a_stranger_may_know_our_words():
    assert not {"drain-on-sigterm", "shutdown-deadline"} & set(described("patient")["lacks"])


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("stranger", {"wait": False, "cancel_futures": True}),
        ("patient", {"wait": False, "cancel_futures": True, "deadline": 2.0}),
        ("plain", {"wait": False}),
    ],
)
def test_a_stranger_is_shut_down_in_the_words_that_it_knows(factory, said, monkeypatch):
    adapter = FactoryAdapter(FACTORIES, factory, None, factory)
    pool = adapter.make(PoolSettings())
    pool.shutdown()
    heard = []
    monkeypatch.setattr(pool, "shutdown", lambda **words: heard.append(words))
    adapter.shutdown(pool, wait=False, cancel=True, deadline=2.0)
    assert heard == [said]


def test_what_a_factory_insists_on_it_gets():
    assert "bounded-queue" not in described("insists")["lacks"]


def test_a_factory_of_our_pool_lacks_what_it_does_not_take():
    target = targets.resolve("pool", f"{FACTORIES}:ours")
    assert target.version == importlib.metadata.version("pytest-prodpatterns")
    lacking = {word for word in REQUIREMENTS if target.missing(word)}
    assert lacking == {"reject-when-full", "queue-timeout", "task-timeout", "initializer"}


def test_a_class_is_a_factory_too():
    target = targets.resolve("pool", "pytest_prodpatterns.patterns.pool:WorkerPool")
    assert [target.missing(word) for word in REQUIREMENTS] == [None] * len(REQUIREMENTS)


def test_a_method_is_called_on_an_object_made_in_the_host():
    target = targets.from_instances("pool", pool_factories.Suite().make_executor, name="my suite")
    assert target.name == "my suite"
    assert target.description == "concurrent.futures.process.ProcessPoolExecutor made by my suite"


@pytest.mark.parametrize("make", [lambda *, num_workers: None, pool_factories.local()])
def test_a_factory_without_a_name_of_its_own_is_refused(make):
    with pytest.raises(
        TargetError, match=r" cannot be found by its name; a pool is made in another process,"
    ):
        targets.from_instances("pool", make)


def test_a_module_outside_of_the_path_is_found_by_its_file(tmp_path, monkeypatch):
    (tmp_path / "outside_workers.py").write_text(
        "import concurrent.futures\n"
        "def make(*, num_workers):\n"
        "    return concurrent.futures.ProcessPoolExecutor(num_workers)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import outside_workers

    sys.path.remove(str(tmp_path))
    target = targets.from_instances("pool", outside_workers.make)
    assert "ProcessPoolExecutor" in target.description


def test_settings_are_plain_data():
    settings = PoolSettings(workers=3, queue_size=5)
    assert PoolSettings(**settings.as_dict()) == settings


def test_a_worker_that_imports_its_task_loads_little():
    heavy = ("asyncio", "psutil", "importlib.metadata", "multiprocessing", "inspect", "difflib", "ctypes")
    program = (
        "import sys; before = set(sys.modules); import pytest_prodpatterns.lab; lab = set(sys.modules);"
        "import pytest_prodpatterns.targets.pool._tasks; "
        "print(sorted((set(sys.modules) - lab - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert not [name for name in heavy if f"'{name}'" in done.stdout], done.stdout
