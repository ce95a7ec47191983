"""`full_queue`: producers find no place, consumers find nothing, and afterwards nothing is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import queue
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from processes_support import descriptors, until

from pytest_prodpatterns.faults import full_queue, processes
from pytest_prodpatterns.lab import ChaosLab, Fillable, virtual_time
from pytest_prodpatterns.patterns.pool import QueueFull, WorkerPool

SOON = 15
NOT_YET = 0.05


@pytest.fixture(autouse=True)
def nothing_stays():
    before = threading.active_count()
    yield
    until(lambda: threading.active_count() <= before, "all threads are gone")


def run(main):
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, SOON))


class InThread(threading.Thread):
    """A call in a thread, and what came of it."""

    def __init__(self, call, *args, **kwargs):
        super().__init__(daemon=True)
        self.future = Future()
        self.call = lambda: call(*args, **kwargs)
        self.start()

    def run(self):
        try:
            self.future.set_result(self.call())
        except BaseException as error:
            self.future.set_exception(error)

    def result(self):
        return self.future.result(SOON)


def waits(thread):
    """Tell whether a call waits: here a time-out is the evidence."""
    with contextlib.suppress(TimeoutError):
        thread.future.exception(NOT_YET)
        return False
    return True


# --- queue.Queue -----------------------------------------------------------------------------------------

KINDS = [queue.Queue, queue.LifoQueue, queue.PriorityQueue]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("items", [0, 2, 3])
def test_a_threads_queue_is_full_and_holds_its_consumers(kind, items):
    target = kind(3)
    own = dict(vars(target))
    for number in range(items):
        target.put(number)
    with full_queue(target) as full:
        assert (full.filled, full.held) == (3 - items, True)
        assert (target.full(), target.empty(), target.qsize()) == (True, False, 3)
        with pytest.raises(queue.Full):
            target.put_nowait("more")
        with pytest.raises(queue.Full):
            target.put("more", timeout=0.01)
        with pytest.raises(queue.Empty):
            target.get_nowait()
        with pytest.raises(queue.Empty):
            target.get(timeout=0.01)
        producer, consumer = InThread(target.put, 7), InThread(target.get)
        assert waits(producer)
        assert waits(consumer)
    assert (full.filled, full.held) == (0, False)
    producer.result()
    got = [consumer.result(), *(target.get_nowait() for _ in range(items))]
    assert sorted(got) == [*range(items), 7]
    assert target.empty()
    assert vars(target).keys() == own.keys()


def test_consumers_who_wait_already_are_held_too():
    target = queue.Queue(1)
    patient, hurried = InThread(target.get), InThread(target.get, timeout=0.2)
    until(lambda: len(target.not_empty._waiters) == 2, "both wait")
    with full_queue(target):
        with pytest.raises(queue.Empty):
            hurried.result()
        assert waits(patient)
    target.put("hello")
    assert patient.result() == "hello"


def test_consumers_may_go_on_while_there_is_no_place():
    target = queue.Queue(3)
    target.put("a")
    with full_queue(target, hold=False) as full:
        assert (full.filled, full.held) == (2, False)
        assert target.get(timeout=SOON) == "a"
        assert full.filled == 3
        with pytest.raises(queue.Full):
            target.put_nowait("b")
        with pytest.raises(queue.Empty):
            target.get_nowait()
        consumer = InThread(target.get)
        assert waits(consumer)
    target.put("c")
    assert consumer.result() == "c"


def test_unfinished_tasks_are_those_of_the_user():
    target = queue.Queue(2)
    target.put("a")
    with full_queue(target):
        assert target.unfinished_tasks == 1
    target.get()
    target.task_done()
    target.join()


def test_what_stood_on_the_instance_comes_back():
    target = queue.Queue(2)
    target.get = lambda: "mine"
    with full_queue(target), pytest.raises(queue.Empty):
        target.get(block=False)
    assert target.get() == "mine"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queues are shut down from 3.13 on")
@pytest.mark.parametrize("immediate", [False, True])
def test_a_queue_that_is_shut_down_is_let_go(immediate):
    target = queue.Queue(2)
    target.put("left")
    with full_queue(target):
        consumers = [InThread(target.get) for _ in range(2)]
        producer = InThread(target.put, "more")
        assert waits(producer)
        target.shutdown(immediate)
        for thread in [producer, consumers[1]] if not immediate else [producer, *consumers]:
            outcomes = [InThread(until, each.future.done, "it is told").result() for each in [thread]]
            assert outcomes == [True]
    results = [each.future.exception(SOON) for each in consumers]
    assert results.count(None) == (0 if immediate else 1)
    assert isinstance(producer.future.exception(SOON), queue.ShutDown)


# --- asyncio.Queue ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue])
@pytest.mark.parametrize("items", [0, 2, 3])
def test_a_tasks_queue_is_full_and_holds_its_consumers(kind, items):
    async def main():
        target = kind(3)
        own = set(vars(target))
        for number in range(items):
            target.put_nowait(number)
        with full_queue(target) as full:
            assert (full.filled, full.held) == (3 - items, True)
            assert (target.full(), target.empty(), target.qsize()) == (True, False, 3)
            with pytest.raises(asyncio.QueueFull):
                target.put_nowait("more")
            with pytest.raises(asyncio.QueueEmpty):
                target.get_nowait()
            tasks = [asyncio.create_task(target.put(7)), asyncio.create_task(target.get())]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(target.get(), 0.01)
            assert not any(task.done() for task in tasks)
        _, got = await asyncio.gather(*tasks)
        assert sorted([got, *(target.get_nowait() for _ in range(items))]) == [*range(items), 7]
        assert target.empty()
        assert set(vars(target)) - {"_loop"} == own - {"_loop"}

    run(main())


def test_tasks_that_wait_already_are_held_and_woken_in_order():
    async def main():
        target = asyncio.Queue(2)
        consumer = asyncio.create_task(target.get())
        await asyncio.sleep(0)
        full = full_queue(target)
        producers = [asyncio.create_task(target.put(number)) for number in range(4)]
        await asyncio.sleep(0.01)
        assert not consumer.done()
        full.release()
        full.release()
        assert [await consumer, *[await target.get() for _ in range(3)]] == [0, 1, 2, 3]
        await asyncio.gather(*producers)

    run(main())


def test_as_many_producers_go_on_as_there_are_places():
    async def main():
        target = asyncio.Queue(3)
        with full_queue(target):
            producers = [asyncio.create_task(target.put(number)) for number in range(4)]
            await asyncio.sleep(0)
        done, _ = await asyncio.wait(producers[:3], timeout=SOON)
        assert len(done) == 3
        assert not producers[3].done()
        assert [await target.get() for _ in range(4)] == [0, 1, 2, 3]

    run(main())


def test_tasks_may_go_on_while_there_is_no_place():
    async def main():
        target = asyncio.Queue(2)
        target.put_nowait("a")
        with full_queue(target, hold=False) as full:
            assert await target.get() == "a"
            assert full.filled == 2
            producer, consumer = asyncio.create_task(target.put("b")), asyncio.create_task(target.get())
            await asyncio.sleep(0.01)
            assert not producer.done()
            assert not consumer.done()
        assert await consumer == "b"

    run(main())


def test_a_queue_is_let_go_from_another_thread():
    async def main():
        target = asyncio.Queue(1)
        full = full_queue(target)
        tasks = [asyncio.create_task(target.put(1)), asyncio.create_task(target.get())]
        await asyncio.sleep(0)
        await asyncio.to_thread(full.release)
        assert await asyncio.gather(*tasks) == [None, 1]

    run(main())


def test_a_queue_whose_loop_is_gone_is_let_go():
    full = []

    async def main():
        target = asyncio.Queue(1)
        full.append(full_queue(target))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(target.put(1), 0.001)

    run(main())
    full[0].release()


def test_a_full_queue_costs_nothing_in_virtual_time():
    async def main():
        async with virtual_time() as clock:
            target = asyncio.Queue(1)
            with full_queue(target), pytest.raises(TimeoutError):
                await asyncio.wait_for(target.put(1), 3600)
            assert clock.elapsed == pytest.approx(3600)
            await target.put(1)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queues are shut down from 3.13 on")
@pytest.mark.parametrize("immediate", [False, True])
def test_a_tasks_queue_that_is_shut_down_is_let_go(immediate):
    async def main():
        target = asyncio.Queue(2)
        target.put_nowait("left")
        with full_queue(target):
            tasks = [asyncio.create_task(each) for each in (target.put("x"), target.get(), target.get())]
            await asyncio.sleep(0)
            target.shutdown(immediate)
            told = await asyncio.gather(*tasks, return_exceptions=True)
        assert told.count("left") == (0 if immediate else 1)
        assert sum(isinstance(each, asyncio.QueueShutDown) for each in told) == (3 if immediate else 2)

    run(main())


# --- multiprocessing.Queue -------------------------------------------------------------------------------


@pytest.fixture(params=["fork", "spawn"])
def context(request):
    return multiprocessing.get_context(request.param)


def take(target, results):
    for item in iter(target.get, "end"):
        results.put(item)


@pytest.fixture
def shared(context):
    made = []

    def make(size, kind="Queue"):
        made.append(getattr(context, kind)(size))
        return made[-1]

    yield make
    for target in made:
        target.close()
        target.join_thread()


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_a_shared_queue_is_full_for_all_processes(context, shared, kind):
    target, results = shared(2, kind), shared(0)
    target.put("a")
    with full_queue(target) as full:
        assert (full.filled, full.held) == (1, True)
        assert (target.full(), target.qsize()) == (True, 2)
        with pytest.raises(queue.Full):
            target.put("b", timeout=0.01)
        with pytest.raises(queue.Empty):
            target.get(timeout=0.01)
        consumer = context.Process(target=take, args=(target, results))
        consumer.start()
        with pytest.raises(queue.Empty):
            results.get(timeout=0.3)
        producer = InThread(target.put, "b")
        assert waits(producer)
    producer.result()
    target.put("end")
    assert [results.get(timeout=SOON) for _ in range(2)] == ["a", "b"]
    consumer.join(SOON)
    assert (consumer.exitcode, target.empty(), full.filled) == (0, True, 0)
    consumer.close()


def test_a_place_that_a_waiting_consumer_frees_is_taken_at_once(context, shared):
    target, results = shared(2), shared(0)
    consumer = context.Process(target=take, args=(target, results))
    consumer.start()
    target.put("first")
    assert results.get(timeout=SOON) == "first"
    until(target._rlock._semlock._is_zero, "it waits again, with the consumers' lock")
    with full_queue(target) as full:
        assert full.filled == 2
        with pytest.raises(queue.Full):
            target.put("more", timeout=0.2)
    target.put("end")
    consumer.join(SOON)
    consumer.close()


def test_an_item_on_its_way_does_not_make_a_place(shared):
    target = shared(2)
    target.put("a")
    with full_queue(target, hold=False) as full:
        assert target.get(timeout=SOON) == "a"
        until(lambda: full.filled == 2, "the place is taken")
        assert target.full()
    target.put("b")
    target.put("c")
    assert [target.get(timeout=SOON) for _ in range(2)] == ["b", "c"]


# --- pools -----------------------------------------------------------------------------------------------


class Bounded(ThreadPoolExecutor):
    """An executor whose `submit` waits for a place; as many of them are about."""

    def __init__(self, workers, places):
        super().__init__(workers)
        self.places = threading.BoundedSemaphore(places)
        self.tasks = 0

    def take_place(self):
        self.places.acquire()

    def submit(self, fn, /, *args, **kwargs):
        self.take_place()
        future = super().submit(fn, *args, **kwargs)
        self.tasks += 1
        future.add_done_callback(lambda _: self.places.release())
        return future


class Rejecting(Bounded):
    """The same, and it raises `queue.Full`."""

    def take_place(self):
        if not self.places.acquire(blocking=False):
            raise queue.Full


class Telling(Rejecting):
    """The same, and it tells how full it is."""

    def __init__(self, workers, places):
        super().__init__(workers, places)
        self.capacity = places

    @property
    def pending(self):
        return self.capacity - self.places._value


@pytest.mark.parametrize("kind", [Bounded, Rejecting, Telling])
def test_an_executor_takes_no_more_tasks_and_works_on_afterwards(kind):
    with kind(2, 5) as pool:
        assert isinstance(pool, Fillable) == (kind is Telling)
        with full_queue(pool) as full:
            assert (full.filled, full.held) == (5, True)
            later = InThread(pool.submit, abs, -1)
            if kind is Bounded:
                assert waits(later)
            else:
                assert isinstance(later.future.exception(SOON), queue.Full)
        assert full.filled == 0
        assert pool.submit(abs, -3).result(SOON) == 3
        if kind is Bounded:
            assert later.result().result(SOON) == 1


def test_a_place_that_a_task_of_the_users_frees_is_taken_again():
    with Telling(2, 3) as pool:
        gate = threading.Event()
        slow = pool.submit(gate.wait, SOON)
        with full_queue(pool) as full:
            assert full.filled == 2
            gate.set()
            assert slow.result(SOON)
            until(lambda: full.filled == 3, "the place is taken")
            with pytest.raises(queue.Full):
                pool.submit(abs, 1)


def test_an_executor_of_processes_is_held_in_all_of_them():
    class BoundedProcesses(ProcessPoolExecutor):
        places = threading.BoundedSemaphore(6)

        def submit(self, fn, /, *args, **kwargs):
            self.places.acquire()
            future = super().submit(fn, *args, **kwargs)
            future.add_done_callback(lambda _: self.places.release())
            return future

    with BoundedProcesses(2, mp_context=multiprocessing.get_context("fork")) as pool:
        with full_queue(pool) as full:
            assert full.filled == 6
            assert processes.worker(pool, "busy").state == "busy"
        assert list(pool.map(abs, [-1, -2])) == [1, 2]


@pytest.mark.parametrize("pool", [ThreadPoolExecutor(1), ProcessPoolExecutor(1)])
def test_an_executor_without_a_bound_is_never_full(pool):
    with (
        pool,
        pytest.raises(
            ValueError, match=r"^full_queue\(\): <concurrent\..*> takes any number of tasks, so it"
        ),
    ):
        full_queue(pool)


def test_an_executor_that_turns_out_to_have_no_bound(monkeypatch):
    monkeypatch.setattr("pytest_prodpatterns.faults._queues_pool.LIMIT", 50)

    class Unbounded(ThreadPoolExecutor):
        pass

    with Unbounded(1) as pool:
        with (
            pytest.raises(ValueError, match=r"takes any number of tasks, so it is never full$"),
            full_queue(pool),  # were it full, the tasks in it had to go before the pool can
        ):
            pass
        assert pool.submit(abs, -1).result(SOON) == 1


def test_a_machine_that_paused_is_no_executor_that_waits(monkeypatch):
    monkeypatch.setattr("pytest_prodpatterns.faults._queues_pool.LIMIT", 50)
    pauses = []
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + sum(pauses))
    monkeypatch.setattr("pytest_prodpatterns.faults._queues_pool.time", clock)

    class Paused(ThreadPoolExecutor):
        def submit(self, *args, **kwargs):
            if len(pauses) < 10:
                pauses.append(60)
                time.sleep(0.02)  # it is looked at meanwhile
            return super().submit(*args, **kwargs)

    with Paused(1) as pool:
        with (
            pytest.raises(ValueError, match=r"takes any number of tasks, so it is never full$"),
            full_queue(pool),
        ):
            pass


def test_what_submit_raises_is_told():
    with Telling(1, 2) as pool:
        pass
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        full_queue(pool)


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def worker_pool(request):
    with WorkerPool(2, 5, start_method=request.param, when_full="reject", name="pool-1") as pool:
        yield pool


def test_our_pool_is_full(worker_pool):
    assert isinstance(worker_pool, Fillable)
    with ChaosLab(1, strict=True) as lab:
        with full_queue(worker_pool) as full:
            assert (full.filled, worker_pool.pending) == (7, 7)
            with pytest.raises(QueueFull):
                worker_pool.submit(abs, -1)
            until(lambda: {each.state for each in worker_pool.workers()} == {"busy"}, "the workers are held")
        assert worker_pool.pending == 0
        assert worker_pool.submit(abs, -1).result(SOON) == 1
        assert lab.never_fired() == []
    told = [event for event in lab.timeline if event.source == "fault:full_queue"]
    assert [event.kind for event in told] == ["armed", "fired"]
    assert told[0].attributes["description"] == "pool-1 of 7 is full, and its consumers are held"
    assert told[1].attributes == {"size": 7, "filled": 7}
    assert worker_pool.stats().crashed == 0


def test_a_worker_that_dies_while_it_is_held_makes_no_place(worker_pool):
    with full_queue(worker_pool) as full:
        until(lambda: {each.state for each in worker_pool.workers()} == {"busy"}, "the workers are held")
        processes.kill_worker(worker_pool)
        until(lambda: worker_pool.stats().crashed == 1, "the crash is noticed")
        until(lambda: worker_pool.pending == 7, "it is full again")
        assert full.held
    assert worker_pool.submit(abs, -1).result(SOON) == 1


def test_workers_that_stand_still_do_not_hold_up_the_release_for_long(worker_pool):
    worker_pool.submit(abs, -1).result(SOON)
    with processes.stop_worker(worker_pool, "random"):
        full = full_queue(worker_pool)
        begin = time.monotonic()
        full.release()
        assert time.monotonic() - begin < 5
    assert worker_pool.submit(abs, -1).result(SOON) == 1
    until(lambda: worker_pool.pending == 0, "our tasks have left")


def test_the_gate_opens_when_its_owner_is_gone():
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # an owner that is killed while its pool is full
        pool = WorkerPool(1, 1, start_method="fork", when_full="reject")
        full_queue(pool)
        os.write(writing, b"full")
        time.sleep(60)
        os._exit(0)
    os.close(writing)
    assert os.read(reading, 4) == b"full"
    workers = processes.descendants(pid)
    processes.kill(pid)
    os.waitpid(pid, 0)
    for worker in workers:
        processes.wait(worker)
    os.close(reading)


# --- the lab, and bad input ------------------------------------------------------------------------------


def test_the_lab_lets_go():
    target = queue.Queue(2)
    with ChaosLab(1, strict=True) as lab:
        full = full_queue(target)
        assert lab.never_fired() == []
    assert not full.held
    target.put_nowait(1)
    assert [(event.source, event.kind) for event in lab.timeline] == [
        ("fault:full_queue", "armed"),
        ("fault:full_queue", "fired"),
        ("lab", "undone"),
    ]
    assert (
        lab.timeline.events[0].attributes["description"] == "Queue of 2 is full, and its consumers are held"
    )


def test_a_queue_is_filled_once():
    target = queue.Queue(2)
    with full_queue(target), pytest.raises(ValueError, match=r"is filled already; release it first$"):
        full_queue(target)
    with (
        Telling(1, 2) as pool,
        full_queue(pool),
        pytest.raises(ValueError, match=r"is filled already; release it"),
    ):
        full_queue(pool)
    with full_queue(target):
        pass


@pytest.mark.parametrize(
    "make",
    [queue.Queue, asyncio.Queue, multiprocessing.get_context("fork").Queue],
    ids=["threads", "tasks", "shared"],
)
def test_a_queue_without_a_bound_is_never_full(make):
    message = r"^full_queue\(\): <.*> has no bound, so it is never full; give it a maxsize above 0$"
    with pytest.raises(ValueError, match=message):
        full_queue(make())


@pytest.mark.parametrize("thing", [queue.SimpleQueue(), [], 3])
def test_what_is_no_queue_is_named(thing):
    message = (
        r"^full_queue\(\): target must be a queue of asyncio, queue or multiprocessing, or an executor, not "
    )
    with pytest.raises(TypeError, match=message):
        full_queue(thing)


def test_an_executor_cannot_be_full_with_free_workers():
    with (
        Telling(1, 2) as pool,
        pytest.raises(ValueError, match=r"^full_queue\(\): an executor is full only while"),
    ):
        full_queue(pool, hold=False)


def test_no_descriptor_stays():
    with Telling(1, 2) as pool:
        before = descriptors()
        for _ in range(5):
            with full_queue(pool):
                pass
        assert descriptors() == before
