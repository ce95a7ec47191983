"""Which breaker a specification names, and what is said when there is none."""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import sys
import types

import pytest

from pytest_prodpatterns import targets
from pytest_prodpatterns.scenarios._subjects import SUBJECTS
from pytest_prodpatterns.targets import TargetError
from pytest_prodpatterns.targets.breaker import Settings

LIBRARIES = [
    "pybreaker",
    "aiobreaker",
    "purgatory",
    "circuitbreaker",
    "nopanic",
    "pyresilience",
    "interlock-cb",
    "hyx",
    "fluxgate",
]


def test_ours_stands_first_among_the_known():
    assert targets.known("breaker") == ["ours", *LIBRARIES]


@pytest.mark.parametrize("name", ["ours", *LIBRARIES])
def test_every_known_target_resolves_and_makes_a_breaker(name):
    target = targets.resolve("breaker", name)
    assert target.name == name
    assert target.version == importlib.metadata.version(target.distribution)
    assert target.description
    breaker = target.make(Settings(failure_threshold=2, success_threshold=1, call_timeout=1.0))
    assert isinstance(target.state(breaker), str)
    target.close()


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_says_what_to_install(name, monkeypatch):
    def not_found(distribution):
        raise importlib.metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(importlib.metadata, "version", not_found)
    with pytest.raises(
        TargetError, match=rf"^{name} is not installed; install it with: python -m pip install {name}$"
    ):
        targets.resolve("breaker", name)


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(
        TargetError, match=r"^unknown breaker 'pybraker', did you mean 'pybreaker'\? There are: ours, .*$"
    ):
        targets.resolve("breaker", "pybraker")


def test_an_unknown_subject_gets_a_suggestion():
    with pytest.raises(
        TargetError, match=r"^no targets of the subject 'braker'; .*; did you mean 'breaker'\?$"
    ):
        targets.known("braker")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "no_such_module:make",
            r"^cannot load the factory 'no_such_module:make': No module named 'no_such_module'$",
        ),
        ("json:make", r"^cannot load the factory 'json:make': module 'json' has no attribute 'make'$"),
        (":make", r"^':make' names no factory; expected module:callable, for example app\.breakers:make$"),
        ("json:", r"^'json:' names no factory; expected module:callable, .*$"),
        ("sys:path", r"^'sys:path' is a list, expected a callable that makes a breaker of .*$"),
        (
            "os.path:basename",
            r"^os\.path:basename takes no failure_threshold, and a scenario has to set it; write: def make_.*\.\.\.$",
        ),
    ],
)
def test_a_wrong_factory_is_refused_at_the_door(spec, message):
    with pytest.raises(TargetError, match=message):
        targets.resolve("breaker", spec)


def test_a_factory_that_raises_is_refused_with_what_it_was_given():
    def make(failure_threshold, recovery_timeout):
        raise RuntimeError("no database")

    with pytest.raises(
        TargetError, match=r"^mine raised RuntimeError\('no database'\) for \{'failure_threshold': 5, .*$"
    ):
        targets.from_instances("breaker", make, name="mine")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise ValueError('no settings')", r"ValueError\('no settings'\)"),
        ("def (", r"SyntaxError\(.*\)"),
        ("import sys; sys.exit(3)", r"SystemExit\(3\)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_refused_with_what_it_raised(tmp_path, monkeypatch, text, told):
    (tmp_path / "spoiled_breakers.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    message = rf"^cannot load the factory 'spoiled_breakers:make': spoiled_breakers raised {told}$"
    with pytest.raises(TargetError, match=message):
        targets.resolve("breaker", "spoiled_breakers:make")


async def _made_later(failure_threshold, recovery_timeout):
    return SyncOnly()


def _leaves(failure_threshold, recovery_timeout):
    sys.exit(7)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_made_later, "is async; expected a plain function that returns a breaker"),
        (lambda failure_threshold, recovery_timeout: None, r"returned None; expected a breaker \(.*\)"),
        (
            lambda failure_threshold, recovery_timeout: SyncOnly,
            "returned the class SyncOnly; expected a breaker made of it",
        ),
        (_leaves, r"raised SystemExit\(7\) for \{.*\}"),
    ],
)
def test_a_factory_that_returns_no_breaker_is_refused(make, told):
    with pytest.raises(TargetError, match=rf"^mine {told}$"):
        targets.from_instances("breaker", make, name="mine")


def test_a_factory_that_returns_one_breaker_for_all_is_refused_at_the_door():
    shared = SyncOnly()
    message = r"^mine returned the same breaker twice; each scenario needs a new one$"
    with pytest.raises(TargetError, match=message):
        targets.from_instances("breaker", lambda failure_threshold, recovery_timeout: shared, name="mine")


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("import pybreaker\nbank = pybreaker.CircuitBreaker()", "CircuitBreaker"),
        ("from pytest_prodpatterns import CircuitBreaker\nbank = CircuitBreaker()", "CircuitBreaker"),
        ("class Mine:\n    def call(self, func, *args): ...\nbank = Mine()", "Mine"),
        (
            "class Mine:\n    def call(self, func): ...\n    def __call__(self, *args, **kwargs): ...\nbank = Mine()",
            "Mine",
        ),
    ],
)
def test_a_breaker_in_place_of_a_factory_is_refused_with_the_line_to_write(
    tmp_path, monkeypatch, source, kind
):
    monkeypatch.setitem(sys.modules, "payments_with_a_breaker", types.ModuleType("payments_with_a_breaker"))
    exec(source, vars(sys.modules["payments_with_a_breaker"]))
    with pytest.raises(TargetError) as caught:
        targets.resolve("breaker", "payments_with_a_breaker:bank")
    assert str(caught.value) == (
        f"payments_with_a_breaker:bank is a {kind}, not a factory of breakers; write: def make_breaker("
        f"*, failure_threshold, recovery_timeout, success_threshold): return {kind}(...)"
    )


def test_a_method_is_told_the_signature_of_a_method():
    class Breakers:
        def make_breaker(self):
            return SyncOnly()

    with pytest.raises(
        TargetError, match=r"write: def make_breaker\(self, \*, failure_threshold, .*\): \.\.\.$"
    ):
        targets.from_instances("breaker", Breakers().make_breaker)


def test_what_a_stranger_lacks_is_told_in_words_that_fit_the_command_line_too():
    def make(failure_threshold, recovery_timeout):
        return SyncOnly()

    assert targets.from_instances("breaker", make).missing("async") == (
        "SyncOnly has no call for coroutine functions that is known;"
        " if it has one, override call_async() in a CircuitBreakerContract"
    )


def test_a_factory_without_a_deadline_cannot_be_asked_for_one_and_is_told_what_to_do():
    def make_breaker(failure_threshold, recovery_timeout):
        return SyncOnly()

    def make_with_deadline(failure_threshold, recovery_timeout, call_timeout):
        return SyncOnly()

    target = targets.from_instances("breaker", make_breaker, name="mine")
    assert target.missing("deadline") == (
        "make_breaker takes no call_timeout; accept it and give the breaker a deadline of its own,"
        " or its callers' timeouts count as nothing"
    )
    assert targets.from_instances("breaker", make_with_deadline).missing("deadline") is None


@pytest.mark.parametrize("name", ["ours", *LIBRARIES])
def test_every_library_is_asked_for_a_deadline_and_lacks_only_what_scenarios_may_require(name):
    target = targets.resolve("breaker", name)
    assert target.missing("deadline") is None
    assert set(target.lacks) <= SUBJECTS["breaker"].requirements


def test_an_object_that_cannot_be_called_through_is_refused():
    def make(failure_threshold, recovery_timeout):
        return object()

    with pytest.raises(
        TargetError, match=r"^cannot call through a object: it has neither \.call\(func\) nor .*$"
    ):
        targets.from_instances("breaker", make)


def test_a_factory_from_the_working_directory_is_attacked_by_the_adapter_of_what_it_returns(
    tmp_path, monkeypatch
):
    (tmp_path / "my_breakers.py").write_text(
        "import pybreaker\n"
        "def make(failure_threshold, recovery_timeout):\n"
        "    return pybreaker.CircuitBreaker(fail_max=failure_threshold, reset_timeout=recovery_timeout)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    target = targets.resolve("breaker", "my_breakers:make")
    assert target.name == "my_breakers:make"
    assert target.version == importlib.metadata.version("pybreaker")
    assert target.description == "pybreaker.CircuitBreaker made by my_breakers:make"
    assert target.missing("async") == "pybreaker has no asyncio API (its call_async is for Tornado)"
    assert target.missing("success-threshold") == "my_breakers:make takes no success_threshold"
    assert target.missing("threads") is None


@pytest.mark.parametrize(
    ("name", "requirement", "able"),
    [
        ("pybreaker", "async", False),
        ("pybreaker", "overlap", False),
        ("hyx", "threads", False),
        ("hyx", "async", True),
        ("purgatory", "success-threshold", False),
        ("nopanic", "success-threshold", True),
        ("fluxgate", "threads", False),
        ("ours", "anything", True),
    ],
)
def test_a_target_knows_what_it_cannot_do(name, requirement, able):
    assert (targets.resolve("breaker", name).missing(requirement) is None) is able


class Both:
    def call(self, func, *args):
        return ("sync", func(*args))

    async def call_async(self, func, *args):
        return ("async", await func(*args))


class AsyncOnly:
    async def call(self, func, *args):
        return ("async", await func(*args))


class SyncOnly:
    def call(self, func, *args):
        return ("sync", func(*args))


class Decorator:
    def __call__(self, func):
        if inspect.iscoroutinefunction(func):

            async def wrapped(*args):
                return ("async", await func(*args))

            return wrapped
        return lambda *args: ("sync", func(*args))


class AsyncDecorator:
    def __call__(self, func):
        async def wrapped(*args):
            return ("async", await func(*args))

        return wrapped


class Refusing(SyncOnly):
    def __call__(self, func):
        raise TypeError("plain functions only")


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        (Both, {"decorator"}),
        (AsyncOnly, {"sync", "threads", "decorator"}),
        (SyncOnly, {"async", "decorator"}),
        (Decorator, set()),
        (AsyncDecorator, {"sync", "threads"}),
        (Refusing, {"async"}),
    ],
)
def test_what_a_stranger_can_do_is_read_off_its_methods(kind, lacks):
    def make(failure_threshold, recovery_timeout):
        return kind()

    async def double(number):
        return 2 * number

    target = targets.from_instances("breaker", make)
    assert {name for name in ("sync", "async", "threads", "decorator") if target.missing(name)} == lacks
    breaker = target.make(Settings())
    if "sync" not in lacks:
        assert target.call(breaker, int, "3") == ("sync", 3)
    if "async" not in lacks:
        assert asyncio.run(target.call_async(breaker, double, 3)) == ("async", 6)


def test_a_stranger_may_say_of_itself_in_what_state_it_is():
    def make(failure_threshold, recovery_timeout):
        return Both()

    target = targets.from_instances("breaker", make)
    breaker = target.make(Settings())
    assert target.state(breaker) == "?"
    breaker.state = "open"
    assert target.state(breaker) == "open"


@pytest.mark.parametrize(
    ("value", "told"), [(3, 3.0), (0.5, 0.5), (True, None), ("soon", None), (None, None)]
)
def test_retry_after_is_a_number_of_seconds_or_nothing(value, told):
    error = RuntimeError("open")
    error.retry_after = value
    assert targets.resolve("breaker", "ours").retry_after(error) == told
