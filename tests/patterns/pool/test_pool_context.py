"""Context variables: found where they are, captured where the caller is, set in the worker for one task."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types
from contextvars import Context, ContextVar
from pathlib import Path

import context_places
import pytest
from context_places import Settings, language, request_id, told
from hypothesis import given
from hypothesis import strategies as st

from pytest_prodpatterns.patterns.pool._context import Place, apply, capture, locate

ALL = (
    "context_places:request_id",
    "context_places:tenant",
    "context_places:language",
    "context_places:Settings.verbose",
)


def in_a_context(**values):
    """Return a context in which these variables are set."""
    context = Context()
    for name, value in values.items():
        variable = Settings.verbose if name == "verbose" else getattr(context_places, name)
        context.run(variable.set, value)
    return context


@pytest.mark.parametrize("given", [request_id, "context_places:request_id"])
def test_a_variable_is_given_as_itself_or_by_its_place(given):
    (place,) = locate([given])
    assert place.variable is request_id
    assert place == Place(place.name)


def test_a_variable_is_found_whatever_it_is_called():
    (place,) = locate([context_places.tenant])
    assert place == Place("context_places:tenant")
    assert place.variable.name == "another name"


def test_places_keep_their_order_and_are_named_once():
    places = locate(iter([context_places.tenant, request_id, "context_places:tenant", request_id]))
    assert [place.variable for place in places] == [context_places.tenant, request_id]
    assert locate([]) == ()


def test_a_module_that_nobody_imported_yet_is_imported(tmp_path, monkeypatch):
    Path(tmp_path, "kept_for_later.py").write_text(
        "from contextvars import ContextVar; here = ContextVar('here')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kept_for_later", raising=False)
    (place,) = locate(["kept_for_later:here"])
    assert place.variable.name == "here"


def test_a_module_of_the_application_is_preferred_over_the_program(monkeypatch):
    variable = ContextVar("variable")
    modules = {name: sys.modules[name] for name in ("__main__", "context_places")}
    for module in modules.values():
        monkeypatch.setattr(module, "only_for_this_test", variable, raising=False)
    assert locate([variable]) == (Place("context_places:only_for_this_test"),)
    monkeypatch.delattr(context_places, "only_for_this_test")
    assert locate([variable])[0].name.startswith("__main__:")


def test_odd_modules_are_no_obstacle(monkeypatch):
    monkeypatch.setitem(sys.modules, "odd.nothing", None)
    monkeypatch.setitem(sys.modules, "odd.number", 7)
    monkeypatch.setitem(sys.modules, "odd.attributes", types.SimpleNamespace(request_id="no variable"))
    assert locate([request_id])[0].variable is request_id


@pytest.mark.parametrize(
    ("variables", "kind", "words"),
    [
        (
            request_id,
            TypeError,
            r"^context_vars must be a list of ContextVars or 'module:attribute', got <Context",
        ),
        ("a:b", TypeError, r"^context_vars must be a list of ContextVars or 'module:attribute', got 'a:b'$"),
        (7, TypeError, r"^context_vars must be a list of ContextVars or 'module:attribute', got 7$"),
        ([7], TypeError, r"^context_vars must hold ContextVars or 'module:attribute', got 7$"),
        (
            ["request_id"],
            ValueError,
            r"^a context variable must be given as 'module:attribute', got 'request_id'$",
        ),
        ([":x"], ValueError, r"^a context variable must be given as 'module:attribute', got ':x'$"),
        (["x:"], ValueError, r"^a context variable must be given as 'module:attribute', got 'x:'$"),
        (
            ["no_such:x"],
            ValueError,
            r"^there is no context variable at 'no_such:x': No module named 'no_such'$",
        ),
        (
            ["context_places:x"],
            ValueError,
            r"^there is no context variable at 'context_places:x': module 'context_places' has no attribute 'x'$",
        ),
        (
            ["context_places:not_a_variable"],
            ValueError,
            r"^there is no context variable at 'context_places:not_a_variable', but 7$",
        ),
        (
            [ContextVar("local")],
            ValueError,
            (
                r"^no imported module has 'local' as an attribute, so a worker could not find it; make the"
                r" ContextVar at the top of a module, or say where it is: 'module:attribute'$"
            ),
        ),
    ],
)
def test_what_a_worker_could_not_find_is_refused_at_the_door(variables, kind, words):
    with pytest.raises(kind, match=words):
        locate(variables)


def test_a_module_that_fails_to_import_is_refused_with_its_reason(tmp_path, monkeypatch):
    Path(tmp_path, "breaks_at_once.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match=r"^there is no context variable at 'breaks_at_once:x': no licence$"
    ) as caught:
        locate(["breaks_at_once:x"])
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_what_the_caller_has_set_is_what_the_task_sees():
    places = locate(ALL)
    caller = in_a_context(request_id=7, tenant="us", verbose=True)
    values = caller.run(capture, places)
    assert values == {0: 7, 1: "us", 3: True}
    assert apply(places, values).run(told) == (7, "us", None, True)


def test_what_the_caller_has_not_set_does_not_travel():
    assert Context().run(capture, locate(ALL)) == {}
    assert apply(locate(ALL), {}).run(told) == (None, "nobody", None, None)


def test_a_value_equal_to_the_default_travels_when_it_was_set():
    assert in_a_context(tenant="nobody", request_id=None).run(capture, locate(ALL)) == {0: None, 1: "nobody"}


def test_a_task_sees_nothing_of_the_context_around_it():
    places = locate(ALL)

    def worker():
        request_id.set("the worker's own")
        language.set("the worker's own")
        return apply(places, {0: 7}).run(told), told()

    inside, outside = Context().run(worker)
    assert inside == (7, "nobody", None, None)
    assert outside == ("the worker's own", "nobody", "the worker's own", None)


def test_what_a_task_sets_is_not_seen_by_the_next():
    places = locate(ALL)

    def task():
        seen = told()
        language.set("of the task")
        request_id.set("of the task")
        return seen

    def worker():
        return [apply(places, {0: number}).run(task) for number in range(3)]

    assert Context().run(worker) == [(number, "nobody", None, None) for number in range(3)]


def test_places_pickle_and_are_looked_up_where_they_arrive(tmp_path):
    file = tmp_path / "sent"
    file.write_bytes(pickle.dumps((locate(ALL), {0: 7, 3: "yes"})))
    program = (
        "import pickle, sys; places, values = pickle.load(open(sys.argv[1], 'rb'));"
        "assert 'context_places' not in sys.modules;"
        "from pytest_prodpatterns.patterns.pool._context import apply; context = apply(places, values);"
        "import context_places; print(context.run(context_places.told))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parent,
    )
    assert (answer.stdout, answer.stderr.replace("ResourceWarning", "")) == (
        "(7, 'nobody', None, 'yes')\n",
        "",
    )


def test_a_variable_that_the_worker_does_not_have_is_named():
    with pytest.raises(
        ValueError, match=r"^there is no context variable at 'no_such:x': No module named 'no_such'$"
    ):
        apply([Place("no_such:x")], {0: 1})
    assert apply([Place("no_such:x")], {}) is not None


@given(st.dictionaries(st.sampled_from(["request_id", "tenant", "language", "verbose"]), st.integers()))
def test_any_set_of_values_arrives(values):
    places = locate(ALL)
    arrived = apply(places, pickle.loads(pickle.dumps(in_a_context(**values).run(capture, places))))
    assert arrived.run(told) == tuple(
        values.get(name, default)
        for name, default in [
            ("request_id", None),
            ("tenant", "nobody"),
            ("language", None),
            ("verbose", None),
        ]
    )
