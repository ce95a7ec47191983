"""Pools that are closed whatever happens, and a check after each test that nothing of them is left."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pool_support import REPEAT, SECONDS, Gate, Script, bounded, children, descriptors, soon

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config, items):
    """No test of this folder may hang the suite."""
    if config.pluginmanager.hasplugin("timeout"):
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker(pytest.mark.timeout(60 + 5 * REPEAT))


@pytest.fixture(scope="session")
def fork_server():
    """Start what multiprocessing keeps for good, once a process: its fork server and its resource tracker."""
    from pytest_prodpatterns.patterns.pool import WorkerPool

    with WorkerPool(1, start_method="forkserver") as pool:
        pool.submit(len, "warm").result(SECONDS)


@pytest.fixture(autouse=True)
def nothing_left(fork_server):
    """Descriptors, threads and child processes are after the test what they were before it."""
    before = descriptors(), {thread.ident for thread in threading.enumerate()}, len(children())

    def left():
        more_descriptors = descriptors() - before[0]
        more_threads = [thread for thread in threading.enumerate() if thread.ident not in before[1]]
        more_children = children() if len(children()) > before[2] else []
        return [found for found in (more_descriptors, more_threads, more_children) if found]

    yield
    try:
        soon(lambda: not left(), seconds=3.0)
    except AssertionError:
        pytest.fail(f"left behind: {left()}", pytrace=False)


@pytest.fixture
def make(nothing_left):
    """Make pools that end with the test."""
    from pytest_prodpatterns.patterns.pool import WorkerPool

    pools = []

    def make(num_workers=2, max_queue_size=1000, **settings):
        pools.append(WorkerPool(num_workers, max_queue_size, **settings))
        return pools[-1]

    yield make
    for pool in pools:
        bounded(pool.shutdown, deadline=0, seconds=SECONDS)


@pytest.fixture
def gate(tmp_path, nothing_left):
    """A door for tasks; open at the end of the test, whatever happened."""
    folder = tmp_path / "gate"
    folder.mkdir()
    gate = Gate(folder)
    yield gate
    gate.open()


@pytest.fixture
def other_gate(tmp_path, nothing_left):
    """One more."""
    folder = tmp_path / "other_gate"
    folder.mkdir()
    gate = Gate(folder)
    yield gate
    gate.open()


@pytest.fixture
def script(tmp_path, nothing_left):
    """Run programs that have a pool; nothing of them outlives the test."""
    scripts = []

    def script(body, *arguments, **options):
        scripts.append(Script(tmp_path, body, *arguments, **options))
        return scripts[-1]

    yield script
    for each in scripts:
        each.close()
