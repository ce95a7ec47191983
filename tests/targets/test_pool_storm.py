"""The caller in a storm goes as far as it is told, and no further."""

from __future__ import annotations

import threading

import pytest

from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets.pool._storm import Storm


class Answered:
    """A call that has its answer at once."""

    def then(self, action):
        self.action = action


@pytest.fixture
def caller():
    """A storm of ten calls, four of which may be made, in a thread; and the calls that it made."""
    made = []

    def submit(pool, call):
        made.append(call)
        call.action()

    storm = Storm(submit, lambda pool, error: None, "pool", window=2, upto=4)
    thread = threading.Thread(target=storm.run, args=([Answered() for _ in range(10)],))
    thread.start()
    yield storm, made, thread
    storm.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_it_stands_until_it_is_told_to_go_on(caller):
    storm, made, thread = caller
    assert wait_until(lambda: len(made) == 4, 10)
    assert not wait_until(lambda: len(made) > 4, 0.05)
    storm.go_on(6)
    assert wait_until(lambda: len(made) == 6, 10)
    storm.go_on(5)  # told late
    assert not wait_until(lambda: len(made) > 6, 0.05)
    storm.go_on(10)
    thread.join(10)
    assert len(made) == 10


def test_it_ends_where_it_stands_when_it_is_told_to_stop(caller):
    storm, made, thread = caller
    assert wait_until(lambda: len(made) == 4, 10)
    storm.stop()
    thread.join(10)
    assert (thread.is_alive(), len(made)) == (False, 4)
