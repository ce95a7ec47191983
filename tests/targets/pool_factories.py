"""Factories of executors as users write them, good and bad; and an Executor of their own."""

from __future__ import annotations

import concurrent.futures
import os
import sys
import time


class Stranger(concurrent.futures.Executor):
    """An Executor that nobody wrote an adapter for."""

    def __init__(self, workers):
        self.inner = concurrent.futures.ProcessPoolExecutor(workers)

    def submit(self, fn, /, *args, **kwargs):
        return self.inner.submit(fn, *args, **kwargs)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.inner.shutdown(wait, cancel_futures=cancel_futures)


class Patient(Stranger):
    """One that takes a deadline, and drains."""

    def shutdown(self, wait=True, *, cancel_futures=False, deadline=None):
        self.inner.shutdown(wait, cancel_futures=cancel_futures)

    def drain_on_sigterm(self, *, deadline):
        raise NotImplementedError


class Plain(Stranger):
    """One of before Python 3.9."""

    def shutdown(self, wait=True):
        self.inner.shutdown(wait)


class Immortal(Stranger):
    """One that cannot be shut down."""

    def shutdown(self, wait=True, *, cancel_futures=False):
        super().shutdown(wait)
        raise RuntimeError("never")


def standard(*, max_workers):
    return concurrent.futures.ProcessPoolExecutor(max_workers)


def stranger(*, num_workers, task_timeout=None, initializer=None, initargs=()):
    assert task_timeout is None
    return Stranger(num_workers)


def patient(*, num_workers):
    return Patient(num_workers)


def insists(*, num_workers, max_queue_size, queue_timeout):
    assert (max_queue_size, queue_timeout) == (1000, None)
    return Stranger(num_workers)


def ours(*, num_workers, max_queue_size=1000, on_crash="fail"):
    from pytest_prodpatterns.patterns.pool import WorkerPool

    return WorkerPool(num_workers, max_queue_size, on_crash=on_crash)


def plain(*, num_workers):
    return Plain(num_workers)


def immortal(*, num_workers):
    return Immortal(num_workers)


def returns_none(*, num_workers):
    pass


def returns_threads(*, num_workers):
    return concurrent.futures.ThreadPoolExecutor(num_workers)


def returns_class(*, num_workers):
    return Stranger


def returns_number(*, num_workers):
    return 42


async def is_async(*, num_workers):
    return Stranger(num_workers)


def takes_nothing():
    return Stranger(2)


def raises(*, num_workers):
    raise ValueError("no database")


def exits(*, num_workers):
    sys.exit(3)


def dies(*, num_workers):
    os._exit(5)


def hangs(*, num_workers):
    time.sleep(100)


def local():
    def make(*, num_workers):
        return Stranger(num_workers)

    return make


class Suite:
    """As a test class of a user."""

    def make_executor(self, *, num_workers):
        return standard(max_workers=num_workers)


executor = concurrent.futures.ProcessPoolExecutor(1)
number = 3
