"""What the tests of server targets share."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pytest_prodpatterns.lab import Timeline, _ambient
from pytest_prodpatterns.targets.server._clients import Clients


@pytest.fixture
def history():
    timeline = Timeline("test")
    before = _ambient.set_sink(timeline)
    yield timeline
    _ambient.set_sink(before)


@pytest.fixture
def clients_of():
    """Makes clients, which are closed behind the test with nothing left behind."""
    made = []
    threads, files = set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))

    def make(address, **options):
        made.append(Clients(address, **options))
        return made[-1]

    yield make
    for clients in made:
        clients.close()
    assert not [
        each for each in threading.enumerate() if each.name.startswith("clients") and each not in threads
    ]
    assert len(list(Path("/proc/self/fd").iterdir())) <= files
