"""Threads, children and other processes get real time: none of them causes a spurious time-out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from pytest_prodpatterns.lab import Deadlock, OutsidePending, virtual_time
from pytest_prodpatterns.lab import _virtual_turns as turns
from pytest_prodpatterns.lab._outside_files import Files

SERVER = textwrap.dedent(
    """
    import os, socket, sys, time
    family, address, delay = sys.argv[1], sys.argv[2], float(sys.argv[3])
    if family == "unix":
        server = socket.socket(socket.AF_UNIX)
        server.bind(address)
        server.listen()
    else:
        server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname() if family == "unix" else server.getsockname()[1], flush=True)
    while True:
        connection, _ = server.accept()
        while data := connection.recv(100):
            time.sleep(delay)
            connection.sendall(data)
    """
)


@contextlib.contextmanager
def other_process(family="tcp", address="", delay=0.1):
    """A server in another process that echoes after a real delay; yields its port or path."""
    command = [sys.executable, "-S", "-c", SERVER, family, str(address), str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline().strip()
            yield line if family == "unix" else int(line)
        finally:
            process.kill()


def run(coroutine_function, **options):
    """Run on virtual time; return the result and the virtual seconds it took."""

    async def main():
        async with virtual_time(**options) as clock:
            result = await coroutine_function()
            return result, clock.elapsed

    return asyncio.run(main())


class Stopwatch:
    """The real seconds of a block, to bound what may cost no grace at all."""

    def __enter__(self):
        self.start = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.start


NO_GRACE = {"grace": 30.0}
"""So long that a test which pays it once cannot go unnoticed."""


class TestThreads:
    def test_a_call_in_a_thread_is_waited_for(self):
        async def body():
            return await asyncio.wait_for(asyncio.to_thread(lambda: time.sleep(0.3) or "done"), 1.0)

        assert run(body) == ("done", 0.0)

    def test_many_calls_in_a_row_and_side_by_side_are_waited_for(self):
        async def body():
            for _ in range(5):
                async with asyncio.timeout(0.01):
                    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.01) for _ in range(3)))

        assert run(body)[1] == 0.0

    def test_the_call_brings_its_error(self):
        async def body():
            with pytest.raises(ZeroDivisionError):
                await asyncio.to_thread(lambda: 1 / 0)

        run(body)

    def test_a_call_that_outlasts_the_grace_times_out_at_its_virtual_moment(self):
        release = threading.Event()

        async def body():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.to_thread(release.wait, 20), 7.0)
            release.set()

        assert run(body, grace=0.05)[1] == 7.0

    def test_a_cancelled_call_is_not_waited_for(self):
        release = threading.Event()

        async def body():
            task = asyncio.create_task(asyncio.to_thread(release.wait, 20))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            release.set()

        run(body, grace=0.1)

    def test_name_resolution_is_waited_for(self, monkeypatch):
        def slow(*args, **kwargs):
            time.sleep(0.1)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]

        monkeypatch.setattr(socket, "getaddrinfo", slow)

        async def body():
            return await asyncio.wait_for(asyncio.get_running_loop().getaddrinfo("example.invalid", 1), 0.01)

        assert run(body)[1] == 0.0

    def test_a_pool_of_the_callers_own_is_waited_for(self):
        async def body():
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                for _ in range(3):
                    await asyncio.wait_for(asyncio.wrap_future(pool.submit(time.sleep, 0.05)), 0.01)

        assert run(body)[1] == 0.0

    def test_a_bare_thread_that_calls_back_is_waited_for(self):
        async def body():
            loop, answer = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

            def work():
                time.sleep(0.1)
                loop.call_soon_threadsafe(answer.set_result, "called back")

            thread = threading.Thread(target=work)
            thread.start()
            result = await asyncio.wait_for(answer, 0.01)
            thread.join()
            return result

        assert run(body) == ("called back", 0.0)

    def test_a_process_pool_is_waited_for(self, monkeypatch):
        async def body():
            with concurrent.futures.ProcessPoolExecutor(1) as pool:
                return await asyncio.wait_for(
                    asyncio.get_running_loop().run_in_executor(pool, os.getpid), 0.01
                )

        pid, elapsed = run(body, **NO_GRACE)
        assert pid != os.getpid()
        assert elapsed == 0.0
        # What multiprocessing pickled may be garbage by now, and CPython's collector may free the buffer before
        # the view of it, which is a BufferError that nobody can catch: let it happen here, not in a later test.
        monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
        gc.collect()

    def test_anyio_worker_threads_are_waited_for(self):
        to_thread = pytest.importorskip("anyio.to_thread")

        async def body():
            for _ in range(5):
                async with asyncio.timeout(0.01):
                    await to_thread.run_sync(time.sleep, 0.02)
            await asyncio.sleep(3600)

        with Stopwatch() as watch:
            assert run(body, **NO_GRACE)[1] == 3600.0
        assert watch.seconds < 20

    def test_idle_workers_cost_no_grace(self):
        async def body():
            await asyncio.gather(*(asyncio.to_thread(int) for _ in range(3)))
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                list(pool.map(int, range(4)))
                await asyncio.sleep(3600)

        with Stopwatch() as watch:
            run(body, **NO_GRACE)
        assert watch.seconds < 20

    def test_a_thread_that_was_busy_before_costs_no_grace(self):
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait, args=(60,))
        thread.start()
        with Stopwatch() as watch:
            run(functools.partial(asyncio.sleep, 3600), **NO_GRACE)
        stop.set()
        thread.join()
        assert watch.seconds < 20

    def test_a_worker_that_was_idle_before_is_waited_for_when_it_gets_work(self):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(int).result()

            async def body():
                await asyncio.wait_for(asyncio.wrap_future(pool.submit(time.sleep, 0.1)), 0.01)

            assert run(body)[1] == 0.0

    def test_a_quiet_thread_costs_the_grace_once(self):
        release = threading.Event()

        async def body():
            task = asyncio.create_task(asyncio.to_thread(release.wait, 30))
            for _ in range(100):
                await asyncio.sleep(1)
            release.set()
            await task

        with Stopwatch() as watch:
            assert run(body, grace=0.2)[1] == 100.0
        assert 0.19 <= watch.seconds < 10

    def test_new_work_gets_the_grace_again(self):
        release = threading.Event()

        async def body():
            task = asyncio.create_task(asyncio.to_thread(release.wait, 30))
            await asyncio.sleep(1)
            await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.1), 0.01)
            release.set()
            await task

        assert run(body, grace=0.3)[1] == 1.0


class TestChildren:
    def test_a_child_is_waited_for(self):
        async def body():
            child = await asyncio.create_subprocess_exec("sleep", "0.3")
            return await asyncio.wait_for(child.wait(), 1.0)

        assert run(body) == (0, 0.0)

    def test_the_output_of_a_child_is_waited_for(self):
        async def body():
            script = "sleep 0.1; read line; sleep 0.1; echo got $line"
            child = await asyncio.create_subprocess_exec(
                "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            return await asyncio.wait_for(child.communicate(b"it\n"), 0.01)

        assert run(body) == ((b"got it\n", None), 0.0)

    def test_a_child_from_before_is_waited_for(self):
        async def main():
            child = await asyncio.create_subprocess_exec("sleep", "0.3")
            async with virtual_time() as clock:
                await asyncio.wait_for(child.wait(), 0.01)
                return clock.elapsed

        assert asyncio.run(main()) == 0.0

    def test_a_child_that_is_gone_costs_no_grace(self):
        async def body():
            child = await asyncio.create_subprocess_exec("true")
            await child.wait()
            await asyncio.sleep(3600)

        with Stopwatch() as watch:
            assert run(body, **NO_GRACE)[1] == 3600.0
        assert watch.seconds < 20


class TestOtherProcesses:
    @pytest.mark.parametrize("delay", [0, 0.02, 0.1])
    def test_a_tcp_server_answers_in_time(self, delay):
        with other_process(delay=delay) as port:

            async def body():
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                for _ in range(5):
                    writer.write(b"ping")
                    assert await asyncio.wait_for(reader.readexactly(4), 0.01) == b"ping"
                writer.close()
                await writer.wait_closed()

            assert run(body)[1] == 0.0

    def test_a_unix_server_answers_in_time(self, tmp_path):
        with other_process("unix", tmp_path / "s") as path:

            async def body():
                reader, writer = await asyncio.open_unix_connection(path)
                for _ in range(5):
                    writer.write(b"ping")
                    assert await asyncio.wait_for(reader.readexactly(4), 0.01) == b"ping"
                writer.close()
                await writer.wait_closed()

            assert run(body)[1] == 0.0

    @pytest.mark.parametrize("family", ["tcp", "unix"])
    def test_an_idle_connection_costs_the_grace_once_and_a_request_gets_it_again(self, family, tmp_path):
        with other_process(family, tmp_path / "s", delay=0.1) as address:

            async def body():
                opened = (
                    asyncio.open_unix_connection(address)
                    if family == "unix"
                    else asyncio.open_connection("127.0.0.1", address)
                )
                reader, writer = await opened
                for _ in range(100):
                    await asyncio.sleep(1)
                writer.write(b"ping")
                assert await asyncio.wait_for(reader.readexactly(4), 0.01) == b"ping"
                writer.close()
                await writer.wait_closed()

            with Stopwatch() as watch:
                assert run(body, grace=0.4)[1] == 100.0
            assert watch.seconds < 10

    def test_a_server_that_is_slower_than_the_grace_times_out(self):
        with other_process(delay=20) as port:

            async def body():
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"ping")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.readexactly(4), 5.0)
                writer.transport.abort()
                await asyncio.sleep(0)

            assert run(body, grace=0.1)[1] == 5.0

    def test_a_forked_child_on_a_socket_pair_is_outside(self):
        here, there = socket.socketpair()
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", "import os,time; time.sleep(.2); os.write(1, b'hello')"],
            stdout=there,
        )
        there.close()

        async def body():
            reader, writer = await asyncio.open_connection(sock=here)
            answer = await asyncio.wait_for(reader.readexactly(5), 0.01)
            writer.close()
            return answer

        with child:
            assert run(body) == (b"hello", 0.0)


async def echo(reader, writer):
    while data := await reader.read(100):
        await asyncio.sleep(30)
        writer.write(data)
    writer.close()


class TestInsideThisProcess:
    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
    def test_tcp_costs_no_grace_and_loses_no_bytes(self, host):
        target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)

        async def body():
            server = await asyncio.start_server(echo, host, 0)
            reader, writer = await asyncio.open_connection(target, server.sockets[0].getsockname()[1])
            for _ in range(50):
                writer.write(b"ping")
                assert await asyncio.wait_for(reader.readexactly(4), 30.5) == b"ping"
            writer.close()
            await writer.wait_closed()
            server.close()

        with Stopwatch() as watch:
            assert run(body, **NO_GRACE)[1] == 1500.0
        assert watch.seconds < 20

    def test_large_messages_are_not_jumped_over(self):
        payload = bytes(3_000_000)

        async def reply(reader, writer):
            writer.write(await reader.readexactly(len(payload)))
            await writer.drain()
            writer.close()

        async def body():
            server = await asyncio.start_server(reply, "127.0.0.1", 0)
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                async with asyncio.timeout(0.001):
                    writer.write(payload)
                    assert await reader.readexactly(len(payload)) == payload
                writer.close()
            server.close()

        assert run(body, **NO_GRACE)[1] == 0.0

    def test_bytes_that_the_other_end_did_not_take_are_in_flight(self):
        with socket.create_server(("127.0.0.1", 0)) as listener, selectors.DefaultSelector() as selector:
            here = socket.create_connection(listener.getsockname())
            there, _ = listener.accept()
            with here, there:
                for end in (listener, here, there):
                    selector.register(end, selectors.EVENT_READ)
                files = Files(selector.get_map(), -1)
                files.refresh()
                assert not files.outside
                assert not files.in_flight()
                here.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        here.send(bytes(65536))
                assert files.in_flight()

    def test_unix_sockets_cost_no_grace(self, tmp_path):
        async def body():
            server = await asyncio.start_unix_server(echo, tmp_path / "s")
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            for _ in range(20):
                writer.write(b"ping")
                assert await asyncio.wait_for(reader.readexactly(4), 30.5) == b"ping"
            writer.close()
            await writer.wait_closed()
            server.close()

        with Stopwatch() as watch:
            assert run(body, **NO_GRACE)[1] == 600.0
        assert watch.seconds < 20

    def test_a_socket_pair_costs_no_grace(self):
        async def body():
            one, two = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=one)
            other_reader, other_writer = await asyncio.open_connection(sock=two)
            await asyncio.sleep(3600)
            other_writer.write(b"ping")
            assert await asyncio.wait_for(reader.readexactly(4), 0.01) == b"ping"
            writer.close()
            other_writer.close()
            await asyncio.sleep(0)

        with Stopwatch() as watch:
            assert run(body, **NO_GRACE)[1] == 3600.0
        assert watch.seconds < 20

    def test_datagrams_cost_no_grace(self):
        class Server(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, address):
                asyncio.get_running_loop().call_later(30, self.transport.sendto, data, address)

        class Client(asyncio.DatagramProtocol):
            def __init__(self):
                self.answer = asyncio.get_running_loop().create_future()

            def datagram_received(self, data, address):
                self.answer.set_result(data)

        async def body():
            loop = asyncio.get_running_loop()
            server, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
            address = server.get_extra_info("sockname")
            client, protocol = await loop.create_datagram_endpoint(Client, remote_addr=address)
            client.sendto(b"ping")
            answer = await asyncio.wait_for(protocol.answer, 30.5)
            client.close()
            server.close()
            return answer

        with Stopwatch() as watch:
            assert run(body, **NO_GRACE) == (b"ping", 30.0)
        assert watch.seconds < 20

    def test_a_pipe_with_both_ends_here_costs_no_grace(self):
        async def body():
            read, write = os.pipe()
            loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
            transport, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb")
            )
            await asyncio.sleep(3600)
            os.write(write, b"ping")
            answer = await asyncio.wait_for(reader.readexactly(4), 0.01)
            transport.close()
            os.close(write)
            return answer

        with Stopwatch() as watch:
            assert run(body, **NO_GRACE) == (b"ping", 3600.0)
        assert watch.seconds < 20

    def test_aiohttp_client_and_server(self):
        import aiohttp
        from aiohttp import web

        async def slow(request):
            await asyncio.sleep(20)
            return web.Response(text="slow")

        async def body():
            app = web.Application()
            app.router.add_get("/", slow)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
            async with aiohttp.ClientSession() as session:
                async with session.get(url) as response:
                    assert await response.text() == "slow"
                with pytest.raises(TimeoutError):
                    await session.get(url, timeout=aiohttp.ClientTimeout(total=5))
            await runner.cleanup()

        with Stopwatch() as watch:
            assert run(body, **NO_GRACE)[1] >= 25.0
        assert watch.seconds < 20

    def test_blocking_commands_of_fakeredis(self):
        import fakeredis

        async def body():
            redis = fakeredis.FakeAsyncRedis()
            assert await redis.blpop("queue", timeout=7) is None
            waiter = asyncio.create_task(redis.blpop("queue", timeout=60))
            await asyncio.sleep(10)
            await redis.rpush("queue", "job")
            _, job = await waiter
            await redis.aclose()
            return job

        with Stopwatch() as watch:
            job, elapsed = run(body, **NO_GRACE)
        assert job == b"job"
        assert 17.0 <= elapsed < 18.0
        assert watch.seconds < 20


class TestStrict:
    def test_raises_at_the_waiting_line_and_names_what_is_pending(self):
        release = threading.Event()

        async def body():
            with pytest.raises(
                OutsidePending,
                match=r"virtual time would jump, but still pending outside the loop after 0\.05 s of quiet: "
                r"Event\.wait in an executor\. Await or close it before time passes, or raise `grace`\.$",
            ):
                await asyncio.wait_for(asyncio.to_thread(release.wait, 30), 1.0)
            release.set()

        assert run(body, strict=True, grace=0.05)[1] == 0.0

    def test_does_not_mind_what_answers_within_the_grace(self):
        async def body():
            await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.1), 0.01)
            await asyncio.sleep(3600)

        assert run(body, strict=True)[1] == 3600.0

    def test_names_a_connection_and_a_thread(self):
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait, args=(30,), name="the poller")

        with other_process() as port:

            async def body():
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                thread.start()
                with pytest.raises(
                    OutsidePending,
                    match=rf"a tcp socket to \('127\.0\.0\.1', {port}\) \(descriptor \d+\), thread 'the poller'\.",
                ):
                    await asyncio.sleep(1)
                stop.set()
                thread.join()
                writer.close()
                await writer.wait_closed()

            run(body, strict=True, grace=0.05)


class TestDeadlockBesideTheOutside:
    def test_a_call_without_a_time_out_is_waited_for_in_real_time(self):
        async def body():
            await asyncio.to_thread(time.sleep, 0.4)

        assert run(body, grace=0.01)[1] == 0.0

    def test_a_silent_peer_ends_in_a_deadlock_after_a_few_graces(self):
        with other_process() as port:

            async def body():
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                with pytest.raises(Deadlock, match=r"in .*body waits forever"):
                    await reader.read(1)
                writer.transport.abort()
                await asyncio.sleep(0)

            run(body, grace=0.02)

    def test_a_call_that_never_ends_is_a_deadlock_in_the_end(self, monkeypatch):
        monkeypatch.setattr(turns, "_WORKS", 0.1)
        release = threading.Event()

        async def body():
            with pytest.raises(Deadlock):
                await asyncio.to_thread(release.wait, 30)
            release.set()

        run(body, grace=0.01)

    def test_a_signal_that_may_come_is_waited_for(self):
        async def body():
            got = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, got.set)
            killer = subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -USR1 {os.getpid()}"])
            await got.wait()
            killer.wait()

        run(body)

    def test_a_client_that_may_come_is_waited_for(self):
        async def body():
            came = asyncio.Event()

            async def serve(reader, writer):
                came.set()
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            code = (
                f"import socket,time; time.sleep(.2); socket.create_connection(('127.0.0.1', {port})).recv(1)"
            )
            with subprocess.Popen([sys.executable, "-S", "-c", code]):
                await came.wait()
                await asyncio.sleep(0)
            server.close()

        run(body)
