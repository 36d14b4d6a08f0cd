"""What connections must not do to other requests: be used again with something left on them, or
take the caller with them when they break."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from typing import Any

import pytest

from embedway.provider import HttpRequest, HttpResponse, TransportError
from embedway.store.keys import KeyStore
from embedway.transport import Transport
from tests.fake_provider.server import FakeProvider
from tests.fakes import until
from tests.faults.behaviours import RIGHT
from tests.faults.laws import TEXT, Laws
from tests.faults.place import HOST, Names
from tests.faults.world import World


async def test_stale_answer() -> None:
    """An answer that comes when nobody has asked is not taken for that to the next request."""
    stale, gone, asked = asyncio.Event(), asyncio.Event(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            asked += 1
            own = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % asked
            writer.write(own)
            await stale.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale")
            gone.set()
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        request = HttpRequest("GET", f"http://{HOST}:{port}/", {}, b"", is_private=True)
        async with Transport(Names()) as send:
            first = await send(request, timeout_s=5.0, max_bytes=100)
            stale.set()
            await gone.wait()
            assert send._private is not None
            (idle,) = send._private.connector._conns.values()  # type: ignore[union-attr]
            async with asyncio.timeout(5):
                await until(lambda: idle[0][0].should_close)
            second = await send(request, timeout_s=5.0, max_bytes=100)

    assert (first.body, second.body) == (b"1", b"2")


async def test_broken_off(keys: KeyStore) -> None:
    """A call that is cancelled by nobody, but from below, has failed like any other: it is tried
    again, and its caller does not notice."""
    fake, laws = FakeProvider(), Laws()
    world = World(fake, ["vllm"], keys)
    await world.start()

    async def send(request: HttpRequest, /, *, timeout_s: float, max_bytes: int) -> HttpResponse:
        if world.sent.total() == 1:
            raise asyncio.CancelledError
        return await fake.send(request, timeout_s=timeout_s, max_bytes=max_bytes)

    world.send = send
    heard = await world.ask("vllm", [TEXT])

    laws.check_end("the caller", heard, [RIGHT], 5.0)
    laws.check_vectors("the caller", heard, world.true_vectors("vllm", [TEXT]))
    assert world.sent["vllm"] == 2
    assert not laws.broken, laws.broken


async def test_system_names() -> None:
    """Without a resolver of its own the transport finds names as the system does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, Transport() as send:
        port = server.sockets[0].getsockname()[1]
        request = HttpRequest("GET", f"http://localhost:{port}/", {}, b"", is_private=True)
        assert (await send(request, timeout_s=5.0, max_bytes=100)).body == b"ok"


async def test_hanging_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """While every name server hangs, calls fail in time, and other work still has threads."""
    monkeypatch.setattr("embedway.transport._RESOLVE_TIMEOUT_S", 0.05)
    is_over = threading.Event()

    def hang(*_: object, **__: object) -> Any:
        is_over.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr("socket.getaddrinfo", hang)
    names = 2 * (os.cpu_count() or 1) + 40  # more than asyncio has threads
    try:
        async with Transport() as send, asyncio.timeout(10):
            requests = [
                HttpRequest("GET", f"http://provider-{number}.example/", {}, b"", is_private=True)
                for number in range(names)
            ]
            calls = [send(request, timeout_s=60.0, max_bytes=100) for request in requests]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert await asyncio.to_thread(lambda: "done") == "done"
    finally:
        is_over.set()
    assert all(isinstance(end, TransportError) and not end.was_sent for end in ends)
