"""Plans: what each decides, that they are values, and that they round-trip through text."""

from __future__ import annotations

import copy
import math
import pickle
import random
import threading

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from pytest_prodpatterns.faults import Plan, PlanError, flaky, plan, returns
from pytest_prodpatterns.faults._plan import MAX_DEPTH
from pytest_prodpatterns.lab import ChaosLab

numbers = st.integers(1, 30)
leaves = st.one_of(
    st.just(plan.always()),
    st.just(plan.never()),
    numbers.map(plan.first),
    st.lists(st.integers(1, 10**30), min_size=1, max_size=4).map(lambda chosen: plan.calls(*chosen)),
    numbers.map(plan.every),
    st.floats(0, 1).map(plan.rate),
    st.builds(
        lambda letters, repeat: plan.sequence(letters, repeat=repeat),
        st.text("F.", min_size=1, max_size=6),
        st.booleans(),
    ),
    st.builds(
        lambda begin, length: plan.between(begin, math.inf if begin + length == begin else begin + length),
        st.floats(0, 1e300),
        st.floats(0.001, 1e300) | st.just(math.inf),
    ),
)
plans = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        inner.map(lambda a: ~a),
    ),
    max_leaves=12,
)


def moments() -> list[plan.Moment]:
    """Return some moments; each has its own random number, the same whenever it is asked for."""
    draws = random.Random(5)
    return [_moment(call, draws.uniform(0, 40), draws.random()) for call in range(1, 41)]


def _moment(call: int, elapsed: float, drawn: float) -> plan.Moment:
    return plan.Moment(call, elapsed, lambda: drawn)


def decisions(which: Plan) -> list[bool]:
    return [which.decide(moment) for moment in moments()]


def written(which: Plan, calls: int = 12) -> str:
    return "".join(
        "F" if which.decide(plan.Moment(n, float(n - 1), lambda: 0.5)) else "." for n in range(1, calls + 1)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("always()", "FFFFFFFFFFFF"),
        ("never()", "............"),
        ("first(3)", "FFF........."),
        ("calls(2, 5)", ".F..F......."),
        ("calls(5, 2, 5)", ".F..F......."),
        ("every(4)", "...F...F...F"),
        ("every(1)", "FFFFFFFFFFFF"),
        ('sequence("F..F")', "F..F........"),
        ("sequence('F..F', repeat=True)", "F..FF..FF..F"),
        ("sequence('F.F', repeat=False)", "F.F........."),
        ("between(2, 4)", "..FF........"),
        ("between(9.5, inf)", "..........FF"),
        ("rate(0.5)", "............"),
        ("rate(0.51)", "FFFFFFFFFFFF"),
        ("rate(1)", "FFFFFFFFFFFF"),
        ("rate(0)", "............"),
        ("first(3) | every(10)", "FFF......F.."),
        ("every(3) & ~first(5)", ".....F..F..F"),
        ("~first(1) & first(3) | calls(12)", ".FF........F"),
        ("~(first(1) | every(2))", "..F.F.F.F.F."),
        ("~~first(2)", "FF.........."),
    ],
)
def test_a_plan_decides_each_call(text: str, expected: str) -> None:
    assert written(plan.parse(text)) == expected


@given(plans)
def test_every_plan_reads_back_from_its_text(some: Plan) -> None:
    again = plan.parse(str(some))
    assert again == some
    assert hash(again) == hash(some)
    assert str(again) == repr(some)
    assert decisions(again) == decisions(some)


@given(plans)
def test_the_text_of_a_plan_is_python(some: Plan) -> None:
    names = {name: getattr(plan, name) for name in plan.__all__} | {"inf": math.inf}
    assert eval(str(some), names) == some


@given(plans)
def test_a_plan_survives_copies_and_pickles(some: Plan) -> None:
    assert pickle.loads(pickle.dumps(some)) == copy.deepcopy(some) == some


@given(plans, plans, plans)
def test_the_laws_of_logic_hold(a: Plan, b: Plan, c: Plan) -> None:
    assert decisions(~(a & b)) == decisions(~a | ~b)
    assert decisions(~(a | b)) == decisions(~a & ~b)
    assert decisions(a & (b | c)) == decisions(a & b | a & c)
    assert decisions(a & b) == decisions(b & a)
    assert decisions(a & ~a) == decisions(plan.never())
    assert decisions(a | ~a) == decisions(plan.always())
    assert decisions(~a) == [not decision for decision in decisions(a)]
    assert ~~a == a
    assert (a & b) & c == a & (b & c)
    assert (a | b) | c == a | (b | c)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_lower_rate_only_takes_faults_away(p: float, q: float) -> None:
    low, high = sorted([p, q])
    assert decisions(plan.rate(low) & plan.rate(high)) == decisions(plan.rate(low))


def test_different_plans_are_different() -> None:
    texts = [
        "always()",
        "never()",
        "first(2)",
        "every(2)",
        "calls(2)",
        "rate(1)",
        'sequence("F")',
        "between(0, 1)",
    ]
    texts += ["first(2) & every(2)", "first(2) | every(2)", "every(2) | first(2)", "~first(2)", "first(3)"]
    texts += ['sequence("F", repeat=True)', "between(0, 2)"]
    assert len({plan.parse(text) for text in texts}) == len(texts)


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        plan.first(3).n = 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: plan.first(0), ValueError, r"^plan\.first\(\): n must be a whole number from 1, not 0$"),
        (lambda: plan.first("3"), TypeError, r"^plan\.first\(\): n must be a whole number from 1, not '3'$"),
        (
            lambda: plan.first(True),
            TypeError,
            r"^plan\.first\(\): n must be a whole number from 1, not True$",
        ),
        (lambda: plan.first(math.nan), TypeError, r"^plan\.first\(\): n must be .* not nan$"),
        (lambda: plan.every(-1), ValueError, r"^plan\.every\(\): n must be a whole number from 1, not -1$"),
        (lambda: plan.every(2.0), TypeError, r"^plan\.every\(\): n must be .* not 2\.0$"),
        (lambda: plan.calls(), ValueError, r"^plan\.calls\(\) needs at least one call number, .*$"),
        (lambda: plan.calls(1, 0), ValueError, r"^plan\.calls\(\): numbers must be .* not 0$"),
        (
            lambda: plan.rate(1.1),
            ValueError,
            r"^plan\.rate\(\): p must be a probability from 0 to 1, not 1\.1$",
        ),
        (lambda: plan.rate(-0.1), ValueError, r"^plan\.rate\(\): p must be .* not -0\.1$"),
        (lambda: plan.rate(math.nan), ValueError, r"^plan\.rate\(\): p must be .* not nan$"),
        (lambda: plan.rate(True), TypeError, r"^plan\.rate\(\): p must be a number, not True$"),
        (lambda: plan.rate("0.1"), TypeError, r"^plan\.rate\(\): p must be a number, not '0\.1'$"),
        (lambda: plan.sequence(""), ValueError, r"^plan\.sequence\(\): letters must be .* not ''$"),
        (lambda: plan.sequence("FX"), ValueError, r"^plan\.sequence\(\): letters must be .* not 'FX'$"),
        (lambda: plan.sequence(["F"]), TypeError, r"^plan\.sequence\(\): letters must be a string .*$"),
        (
            lambda: plan.sequence("F", repeat=1),
            TypeError,
            r"^plan\.sequence\(\): repeat must be True or False, not 1$",
        ),
        (lambda: plan.between(5, 5), ValueError, r"^plan\.between\(\): t1 must be after t0 \(5\), not 5$"),
        (lambda: plan.between(-1, 5), ValueError, r"^plan\.between\(\): t0 must be seconds from 0, not -1$"),
        (lambda: plan.between(0, math.nan), ValueError, r"^plan\.between\(\): t1 must be after .* not nan$"),
        (lambda: plan.between(math.nan, 1), ValueError, r"^plan\.between\(\): t0 must be .* not nan$"),
        (
            lambda: plan.between(0, 10**400),
            ValueError,
            r"^plan\.between\(\): t1 must be a number that fits .*$",
        ),
        (lambda: plan.between(0, None), TypeError, r"^plan\.between\(\): t1 must be a number, not None$"),
        (
            lambda: plan.parse(3),
            TypeError,
            r"^plan\.parse\(\): text must be a string such as 'first\(3\)', not 3$",
        ),
        (lambda: plan.first(3) & "first(3)", TypeError, r"^unsupported operand type\(s\) for &: .*$"),
        (lambda: plan.first(3) | 3, TypeError, r"^unsupported operand type\(s\) for \|: .*$"),
        (
            lambda: plan.first(3) and plan.first(4),
            TypeError,
            r"^the plan first\(3\) is neither true nor false: .*$",
        ),
        (lambda: plan.strategy(0), ValueError, r"^plan\.first\(\): n must be .* not 0$"),
    ],
)
def test_a_wrong_argument_is_named(make, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("", 1, "expected a plan such as first(3), ~ or (, got the end"),
        ("first(3) |", 11, "expected a plan such as first(3), ~ or (, got the end"),
        ("frist(3)", 1, "'frist' is unknown; did you mean 'first'?"),
        ("always() & evry(2)", 12, "'evry' is unknown; did you mean 'every'?"),
        (
            "xyzzy()",
            1,
            "'xyzzy' is unknown; known are always, between, calls, every, first, never, rate, sequence",
        ),
        ("first", 6, "expected ( after first, got the end"),
        ("first(3", 8, "expected , or ), got the end"),
        ("first(3 4)", 9, "expected , or ), got '4'"),
        ("first(3,)", 9, "expected a number, a string, True or False, got ')'"),
        ("first(n 3)", 9, "expected = after n, got '3'"),
        ("first(3) first(4)", 10, "expected & or | or the end, got 'first'"),
        ("(first(3)", 10, "expected & or | or ), got the end"),
        ("first(3))", 9, "expected & or | or the end, got ')'"),
        ("first(3) + 1", 10, "expected & or | or the end, got '+'"),
        ("never() | first(0)", 11, "plan.first(): n must be a whole number from 1, not 0"),
        ("first(-1)", 1, "plan.first(): n must be a whole number from 1, not -1"),
        ("rate(nan)", 1, "plan.rate(): p must be a probability from 0 to 1, not nan"),
        ("first('3')", 1, "plan.first(): n must be a whole number from 1, not '3'"),
        ("first(at=3)", 1, "first() got an unexpected keyword argument 'at'"),
        ("sequence('F', repeat=True, repeat=False)", 28, "repeat is given twice"),
        ("sequence('F)", 10, """expected a number, a string, True or False, got "'\""""),
    ],
)
def test_a_text_that_is_no_plan_says_why(text: str, position: int, problem: str) -> None:
    with pytest.raises(PlanError) as caught:
        plan.parse(text)
    assert (caught.value.position, caught.value.problem) == (position, problem)
    assert str(caught.value) == f"{text!r} is no plan: at position {position}, {problem}"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@given(st.text("firstev(),&|~\"'F. 0123eal=-") | st.text())
def test_any_other_text_is_refused_with_a_plan_error(text: str) -> None:
    try:
        some = plan.parse(text)
    except PlanError as error:
        assert 1 <= error.position <= len(text) + 1
    else:
        assert plan.parse(str(some)) == some


def test_white_space_does_not_matter() -> None:
    assert plan.parse(" first ( 3 )|\n ~ every(10)\t") == plan.first(3) | ~plan.every(10)


@pytest.mark.parametrize("text", ["(" * 5000 + "first(1)" + ")" * 5000, "~(first(1) & " * 5000 + "first(1)"])
def test_a_text_that_nests_too_deeply_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match=rf"deeper than {MAX_DEPTH} levels"):
        plan.parse(text)


def test_many_tildes_are_no_nesting() -> None:
    assert plan.parse("~" * 5001 + "first(1)") == ~plan.first(1)


def test_a_plan_that_nests_too_deeply_is_refused() -> None:
    some: Plan = plan.first(1)
    with pytest.raises(ValueError, match=rf"^the plan nests deeper than {MAX_DEPTH} levels; use .*$"):
        for _ in range(MAX_DEPTH + 1):
            deepest, some = some, ~(some & plan.every(2))
    assert plan.parse(str(deepest)) == deepest


@given(plan.strategy(6))
def test_the_strategy_stays_within_its_calls(some: Plan) -> None:
    assert not any(decision for decision in decisions(some)[6:])


def test_the_strategy_shrinks_to_the_fewest_and_earliest_calls() -> None:
    assert find(plan.strategy(), lambda some: written(some, 20).count("F") >= 2) == plan.calls(1, 2)
    assert find(plan.strategy(), lambda _some: True) == plan.never()


def struck_calls(seed: int, test: str, name: str, threads: int = 1, when: str = "rate(0.3)") -> list[int]:
    """Make 60 calls, spread over threads, and return the numbers of those that were struck."""
    with ChaosLab(seed, test) as lab:
        call = flaky(lambda: None, fault=returns("struck"), when=when, name=name)
        barrier = threading.Barrier(threads)

        def caller() -> None:
            barrier.wait(10)
            for _ in range(60 // threads):
                call()

        crowd = [threading.Thread(target=caller) for _ in range(threads)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join(10)
        assert call.calls == 60
        struck = [event.attributes["call"] for event in lab.timeline.where(f"fault:{name}", "fired")]
        assert call.fault.fired == len(struck)
    assert struck == sorted(struck)
    return struck


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 4]))
def test_a_rate_strikes_the_same_calls_under_any_interleaving_of_threads(seed: int, threads: int) -> None:
    assert struck_calls(seed, "t", "n", threads) == struck_calls(seed, "t", "n")


def test_a_rate_depends_on_seed_test_and_name() -> None:
    drawn = {
        tuple(struck_calls(*origin))
        for origin in [(1, "t", "n"), (2, "t", "n"), (1, "other", "n"), (1, "t", "other")]
    }
    assert len(drawn) == 4


def test_a_rate_is_about_right() -> None:
    counts = [len(struck_calls(seed, "t", "n")) for seed in range(50)]
    assert 0.26 < sum(counts) / 3000 < 0.34


def test_other_draws_do_not_shift_a_rate() -> None:
    alone = struck_calls(1, "t", "n")
    assert struck_calls(1, "t", "n", when="~~rate(0.3) & rate(0.9)") == alone
