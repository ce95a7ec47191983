"""A small breaker that keeps every promise, and can be told to break each of them.

It shares no code with ours: that it holds all scenarios shows that they can be held, and each flaw shows that
a scenario can fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
import time

from pytest_prodpatterns.lab import now
from pytest_prodpatterns.targets.breaker import BreakerTarget


class Rejected(Exception):
    def __init__(self, retry_after):
        super().__init__(retry_after)
        self.retry_after = retry_after


class Mute(Exception):
    pass


class Unpicklable(Rejected):
    def __init__(self, retry_after):
        super().__init__(retry_after)
        self.lock = threading.Lock()


class Forgetful(Rejected):
    def __reduce__(self):
        return (type(self), (0.5,))


class Small:
    def __init__(self, settings, flaw):
        self.settings = settings
        self.flaw = flaw
        self.lock = threading.Lock()
        self.call_lock = threading.Lock()
        self.state = "closed"
        self.generation = 0
        self.failures = self.successes = self.rejections = 0
        self.opened_at = self.probe_since = None
        self.born = time.time() - time.monotonic()
        self.shared = Rejected(1.0)
        self.turn = None

    def clock(self):
        return now() + (time.time() - time.monotonic() - self.born if self.flaw == "wall-clock" else 0.0)

    def move(self, state):
        self.state = state
        self.generation += 1
        self.successes = 0
        self.probe_since = None
        if self.flaw != "remembers":
            self.failures = 0
        if state == "open":
            self.opened_at = self.clock()

    def admit(self):
        with self.lock:
            wait = self.settings.recovery_timeout
            if (
                self.state == "open"
                and self.clock() - self.opened_at >= wait
                and self.flaw != "never-recovers"
            ):
                self.move("half-open")
            if self.state == "open":
                self.reject(wait - (self.clock() - self.opened_at))
            elif self.state == "half-open" and self.flaw != "no-limit":
                leased = self.probe_since is not None and (
                    self.flaw == "no-lease" or now() - self.probe_since < wait
                )
                if leased:
                    self.reject(1.0)
                self.probe_since = now()
            return self.generation

    def reject(self, retry_after):
        self.rejections += 1
        if self.flaw == "leaks" and self.rejections % 7 == 0:
            return
        if self.flaw == "shared-error":
            raise self.shared
        kind = {"says-nothing": Mute, "unpicklable": Unpicklable, "forgetful": Forgetful}.get(
            self.flaw, Rejected
        )
        raise kind(retry_after * (1000 if self.flaw == "milliseconds" else 1))

    def done(self, generation, error):
        if self.flaw == "unlocked" and self.state == "closed":
            failures = self.failures
            time.sleep(0)
            self.failures = failures + 1
            if self.failures >= self.settings.failure_threshold:
                self.move("open")
            return
        with self.lock:
            self.judge(generation, self.meaning(error))

    def meaning(self, error):
        if error is None:
            return "success"
        if isinstance(error, Exception) or self.flaw == "counts-everything":
            return "failure"
        if isinstance(error, asyncio.CancelledError):
            return {"cancel-is-failure": "failure", "cancel-is-success": "success"}.get(self.flaw, "neutral")
        return "neutral"

    def judge(self, generation, meaning):
        if self.flaw == "extends" and self.state == "open" and meaning == "failure":
            self.opened_at = self.clock()
        if generation != self.generation and (self.flaw != "no-generations" or self.state == "open"):
            return
        if self.flaw != "cancel-keeps-slot" or meaning != "neutral":
            self.probe_since = None
        if meaning == "success":
            self.succeeded()
        elif meaning == "failure":
            self.failed()

    def succeeded(self):
        self.failures = self.failures if self.flaw == "remembers" else 0
        self.successes += 1
        if self.state == "half-open" and self.successes >= self.settings.success_threshold:
            self.move("closed")

    def failed(self):
        self.failures += 1
        threshold = self.settings.failure_threshold + {"late": 1, "early": -1}.get(self.flaw, 0)
        patient = self.flaw == "counts-anew" or (self.flaw == "success-forgives" and self.successes)
        if (self.state == "half-open" and not patient) or self.failures >= threshold:
            self.move("open")

    @contextlib.contextmanager
    def guard(self):
        generation = self.admit()
        try:
            yield
        except BaseException as error:
            self.done(generation, error)
            if self.flaw == "replaces" and self.state == "open":
                raise Mute from error
            raise
        else:
            self.done(generation, None)

    def call(self, func, *args):
        with self.call_lock if self.flaw in {"lock-held", "queues"} else contextlib.nullcontext():
            with self.guard():
                return func(*args)

    async def call_async(self, func, *args):
        self.turn = self.turn or asyncio.Lock()
        async with self.turn if self.flaw == "queues" else contextlib.nullcontext():
            with self.guard():
                async with asyncio.timeout(
                    None if self.flaw == "no-deadline" else self.settings.call_timeout
                ):
                    return await func(*args)

    def decorate(self, func):
        if self.flaw == "naked":
            return lambda *args, **kwargs: self.call(func, *args, **kwargs)
        if self.flaw == "refuses" and (inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func)):
            raise TypeError("generators cannot be guarded")
        if self.flaw == "sync-only":
            return functools.wraps(func)(functools.partial(self.call, func))
        return self.wrapper(func)

    def wrapper(self, func):
        if inspect.isasyncgenfunction(func):

            @functools.wraps(func)
            async def wrapped(*args):
                with self.guard():
                    async for item in func(*args):
                        yield item

        elif inspect.isgeneratorfunction(func):

            @functools.wraps(func)
            def wrapped(*args):
                with self.guard():
                    yield from func(*args)

        elif inspect.iscoroutinefunction(func):

            @functools.wraps(func)
            async def wrapped(*args):
                return await self.call_async(func, *args)

        else:

            @functools.wraps(func)
            def wrapped(*args):
                return self.call(func, *args)

        return wrapped


class SmallTarget(BreakerTarget):
    name = "small"
    time = "virtual"

    def __init__(self, flaw=None):
        self.flaw = flaw

    def make(self, settings):
        return Small(settings, self.flaw)

    def call(self, breaker, func, *args):
        return breaker.call(func, *args)

    async def call_async(self, breaker, func, *args):
        return await breaker.call_async(func, *args)

    def decorate(self, breaker, func, kind):
        return breaker.decorate(func)
