"""A random walk over a breaker's life beside an oracle that is written plainly, from the promises alone."""

from __future__ import annotations

import asyncio

import pytest
from breaker_support import Clock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pytest_prodpatterns.patterns.breaker import CircuitBreaker, CircuitOpenError, CountWindow, TimeWindow


class Failed(Exception):
    pass


class Ignored(Exception):
    pass


class Oracle:
    """Remembers every outcome for ever and counts anew each time."""

    def __init__(self, threshold, pause, successes, window, rate, minimum, max_probes, lease, backoff):
        self.threshold, self.pause, self.needed = threshold, pause, successes
        self.window, self.rate, self.minimum = window, rate, minimum
        self.max_probes, self.lease, self.backoff = max_probes, lease, backoff
        self.life = 0
        self.close()

    def close(self):
        self.state, self.log, self.opened = "closed", [], 0
        self.life += 1

    def open(self, now):
        self.until = now + min(self.pause * self.backoff**self.opened, self.pause * 10)
        self.opened += 1
        self.state = "open"
        self.life += 1

    def tick(self, now):
        if self.state == "open" and now >= self.until:
            self.state, self.good, self.running = "half_open", 0, {}
            self.life += 1

    def begin(self, call, now):
        self.tick(now)
        if self.state in ("open", "forced_open"):
            return None
        if self.state == "half_open":
            alive = [born for born in self.running.values() if now - born < self.lease]
            if len(alive) >= self.max_probes:
                return None
            self.running[call] = now
        return self.life

    def end(self, call, life, kind, now):
        if life != self.life or self.state == "disabled":
            return
        if self.state == "half_open":
            if now - self.running.pop(call) >= self.lease or kind == "neutral":
                return
            self.good += kind == "good"
            if kind == "bad":
                self.open(now)
            elif self.good >= self.needed:
                self.close()
            return
        if kind == "neutral":
            return
        self.log.append((now, kind == "bad"))
        if self.state == "closed" and self.broken(now):
            self.open(now)

    def remembered(self, now):
        if self.window is None:
            streak = []
            for _, bad in reversed(self.log):
                if not bad:
                    break
                streak.append(True)
            return streak
        if isinstance(self.window, CountWindow):
            return [bad for _, bad in self.log[-self.window.size :]]
        width = self.window.seconds / self.window.buckets
        return [bad for at, bad in self.log if now // width - at // width < self.window.buckets]

    def broken(self, now):
        seen = self.remembered(now)
        if self.rate is not None:
            return len(seen) >= self.minimum and sum(seen) / len(seen) >= self.rate
        return sum(seen) >= self.threshold


WINDOWS = [None, CountWindow(4), CountWindow(7), TimeWindow(8.0, 4), TimeWindow(20.0, 5)]


class Sync:
    """A call is a generator's life: begun by next(), ended by what is thrown into it."""

    def begin(self, breaker):
        @breaker
        def call():
            return (yield)

        running = call()
        next(running)
        return running

    def end(self, running, error):
        try:
            running.throw(error) if error else running.send(None)
        except (StopIteration, Failed, Ignored, KeyboardInterrupt):
            pass


class Async(Sync):
    """The same with a coroutine that is driven by hand."""

    def begin(self, breaker):
        class Pause:
            def __await__(self):
                yield

        async def call():
            await Pause()

        running = breaker.call(call)
        running.send(None)
        return running


ERRORS = {"good": None, "bad": Failed, "neutral": Ignored, "cancelled": asyncio.CancelledError}


class BreakerMachine(RuleBasedStateMachine):
    shell = Sync()

    @initialize(
        threshold=st.integers(1, 4),
        successes=st.integers(1, 3),
        window=st.sampled_from(WINDOWS),
        rate=st.sampled_from([None, 0.5, 0.8, 1.0]),
        max_probes=st.integers(1, 3),
        backoff=st.sampled_from([1.0, 2.0]),
    )
    def start(self, threshold, successes, window, rate, max_probes, backoff):
        rate = None if window is None else rate
        self.clock = Clock()
        self.oracle = Oracle(threshold, 10.0, successes, window, rate, threshold, max_probes, 6.0, backoff)
        self.breaker = CircuitBreaker(
            threshold,
            10.0,
            successes,
            window=window,
            failure_rate=rate,
            max_probes=max_probes,
            probe_lease=6.0,
            backoff=backoff,
            ignore=Ignored,
            clock=self.clock,
        )
        self.calls = {}
        self.count = 0

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0, 6.0, 10.0, 25.0]))
    def pass_time(self, seconds):
        self.clock.now += seconds

    @rule()
    def begin(self):
        self.count += 1
        life = self.oracle.begin(self.count, self.clock.now)
        if life is None:
            with pytest.raises(CircuitOpenError):
                self.shell.begin(self.breaker)
        else:
            self.calls[self.count] = life, self.shell.begin(self.breaker)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), ending=st.sampled_from(sorted(ERRORS)))
    def end(self, data, ending):
        call = data.draw(st.sampled_from(sorted(self.calls)))
        life, running = self.calls.pop(call)
        kind = "neutral" if ending == "cancelled" else ending
        self.oracle.end(call, life, kind, self.clock.now)
        error = ERRORS[ending]
        try:
            self.shell.end(running, error and error())
        except asyncio.CancelledError:
            pass

    @rule(times=st.integers(1, 5), kind=st.sampled_from(["good", "bad"]))
    def whole_calls(self, times, kind):
        for _ in range(times):
            self.count += 1
            life = self.oracle.begin(self.count, self.clock.now)
            if life is not None:
                self.oracle.end(self.count, life, kind, self.clock.now)
            error = ERRORS[kind]

            def call(error=error):
                if error:
                    raise error

            try:
                self.breaker.call(call)
            except CircuitOpenError:
                assert life is None
            except Failed:
                assert life is not None

    @rule(how=st.sampled_from(["reset", "force_open", "disable", "metrics_only"]))
    def by_hand(self, how):
        getattr(self.breaker, how)()
        self.oracle.tick(self.clock.now)
        if how == "reset":
            self.oracle.close()
        else:
            self.oracle.state = {"force_open": "forced_open", "disable": "disabled"}.get(how, how)
            self.oracle.life += 1

    @invariant()
    def both_agree(self):
        if not hasattr(self, "breaker"):
            return
        self.oracle.tick(self.clock.now)
        assert self.breaker.state == self.oracle.state
        if self.oracle.state == "closed":
            assert self.breaker.failure_count == sum(self.oracle.remembered(self.clock.now))
        if self.oracle.state == "half_open":
            assert self.breaker.success_count == self.oracle.good
        if self.oracle.state == "open":
            assert self.breaker.snapshot().retry_after == pytest.approx(self.oracle.until - self.clock.now)

    def teardown(self):
        for _, running in getattr(self, "calls", {}).values():
            running.close()


class AsyncBreakerMachine(BreakerMachine):
    shell = Async()


BUDGET = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSyncShell = BreakerMachine.TestCase
TestSyncShell.settings = BUDGET
TestAsyncShell = AsyncBreakerMachine.TestCase
TestAsyncShell.settings = BUDGET
