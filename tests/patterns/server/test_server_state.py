"""The life of a server as a table."""

from __future__ import annotations

import pytest

from pytest_prodpatterns.patterns.server import LifeEvent, ServerState, advance

S, E = ServerState, LifeEvent


@pytest.mark.parametrize(
    "way",
    [
        [(E.STARTED, S.READY), (E.WARNED, S.LAME_DUCK), (E.TOLD, S.DRAINING), (E.EMPTIED, S.STOPPING)],
        [(E.STARTED, S.READY), (E.TOLD, S.DRAINING), (E.EMPTIED, S.STOPPING), (E.CLEANED, S.STOPPED)],
        [(E.EMPTIED, S.STOPPING), (E.CLEANED, S.STOPPED)],
    ],
)
def test_each_way_through_life(way):
    state = S.STARTING
    for event, expected in way:
        state = advance(state, event)
        assert state is expected


def test_there_are_no_other_ways():
    possible = 0
    for state in S:
        for event in E:
            try:
                advance(state, event)
                possible += 1
            except ValueError as error:
                assert str(error) == f"a server that is {state} cannot be {event}"
    assert possible == 7
