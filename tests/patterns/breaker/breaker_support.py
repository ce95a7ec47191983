"""A clock that is set by hand, and calls that end as told."""

from __future__ import annotations

import asyncio

from pytest_prodpatterns.patterns.breaker import CircuitBreaker, CircuitOpenError


class Clock:
    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


def make(*args, **kwargs):
    clock = kwargs.setdefault("clock", Clock())
    return CircuitBreaker(*args, **kwargs), clock


def fail(error=None):
    raise error or ConnectionError("down")


def good(value="ok"):
    return value


def failing(breaker, times=1, error=None):
    for _ in range(times):
        try:
            breaker.call(fail, error)
        except CircuitOpenError:
            raise
        except BaseException:
            continue


def run(coroutine):
    """Run on a loop of its own that is nobody's current loop afterwards or before."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
