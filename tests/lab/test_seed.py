"""Seeds and the random streams that derive from them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_prodpatterns.lab import new_seed, parse_seed, stream

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.text(), st.text())
def test_a_stream_is_the_same_each_time(seed, test, name):
    assert stream(seed, test, name).random() == stream(seed, test, name).random()


def test_a_stream_is_the_same_for_ever():
    """These numbers are a promise: a seed in an old bug report still reproduces."""
    draws = stream(7, "test_it.py::test_it", "load")
    assert [draws.randrange(1000) for _ in range(5)] == [446, 939, 405, 274, 615]


@given(SEEDS, st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_other_names_give_other_streams(seed, first, second):
    same = stream(seed, *first).random() == stream(seed, *second).random()
    assert same == (first == second)


def test_parts_do_not_run_into_each_other():
    draws = [
        stream(*parts).random() for parts in [(1, "1a", "b"), (11, "a", "b"), (1, "1", "ab"), (1, "", "1ab")]
    ]
    assert len(set(draws)) == 4


def test_streams_leave_the_global_one_alone():
    state = random.getstate()
    stream(1, "a", "b").random()
    assert random.getstate() == state


def test_new_seeds_are_valid_and_differ():
    seeds = {new_seed() for _ in range(20)}
    assert len(seeds) > 15
    assert all(parse_seed(seed) == seed for seed in seeds)


@pytest.mark.parametrize(
    ("value", "seed"), [(0, 0), ("12", 12), (" 7 ", 7), (2**32 - 1, 2**32 - 1), ("007", 7)]
)
def test_a_whole_number_is_a_seed(value, seed):
    assert parse_seed(value) == seed


@pytest.mark.parametrize("value", [-1, 2**32, 1.5, True, None, "", "x", "1_000", "٣", "0x10", "1 2"])
def test_anything_else_is_not(value):
    with pytest.raises(
        ValueError, match=r"^a chaos seed is a whole number from 0 to 4294967295, not "
    ) as caught:
        parse_seed(value)
    assert str(caught.value).endswith(repr(value))
