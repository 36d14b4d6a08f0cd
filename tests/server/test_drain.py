"""The end of the process: what was taken is answered, and nothing more is taken."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import orjson

from tests.fake_provider.exchange import KEY
from tests.fake_provider.faults import Fault
from tests.fake_provider.server import FakeProvider, running_fake
from tests.server.serving import serving

NUMBER = 500
SMALL = "openai/text-embedding-3-small"
ACCOUNT = f"""
[providers.openai]
private = true
api_key = "{KEY}"
base_url = "%s"
"""


class Caller:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, text: str) -> None:
        """Send a request for one text."""
        body = orjson.dumps({"model": SMALL, "input": text, "gateflow": {"cache": "skip"}})
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        self.writer.write(head.encode() + b"\r\n\r\n" + body)

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the whole answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)


class Gateway:
    """A gateway whose provider answers when the test lets it."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], callers: AsyncExitStack) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self.address = (host, int(port))
        self.process = process
        self._callers = callers

    async def connect(self) -> Caller:
        """A new connection, closed at the end of the test."""
        reader, writer = await asyncio.open_connection(*self.address)
        self._callers.callback(writer.close)
        return Caller(reader, writer)

    async def in_flight(self, number: int) -> None:
        """Wait until so many requests are in flight."""
        watcher = await self.connect()
        sought = b"\nembedway_requests_in_flight %d.0\n" % number
        while True:
            watcher.writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            _, text = await watcher.answer()
            if sought in text:
                return

    async def refuses(self) -> None:
        """Wait until it takes no connection any more."""
        while True:
            try:
                _, writer = await asyncio.open_connection(*self.address)
            except ConnectionError:
                return
            writer.close()
            await asyncio.sleep(0)

    async def ended(self) -> int:
        """Wait until the process has ended; its exit code."""
        return await asyncio.to_thread(self.process.wait, 15)


@asynccontextmanager
async def stuck(
    work: Path, **server: object
) -> AsyncIterator[tuple[Gateway, FakeProvider, asyncio.Event]]:
    """A gateway, its provider, and the event that the provider's answers wait for."""
    async with running_fake() as fake, AsyncExitStack() as callers:
        go = asyncio.Event()
        fake.always(Fault(before=go))
        with serving(work, ACCOUNT % fake.url("openai"), **server) as (url, process):
            yield Gateway(url, process, callers), fake, go


async def test_all_in_flight_are_answered(tmp_path: Path) -> None:
    """After SIGTERM nobody new is let in, all 500 requests in flight get their whole answers, each
    with its own vector, and the process ends with 0."""
    async with stuck(tmp_path) as (gateway, _, go):
        callers = [await gateway.connect() for _ in range(NUMBER)]
        for i, caller in enumerate(callers):
            caller.ask(f"text {i}")
        await gateway.in_flight(NUMBER)
        os.kill(gateway.process.pid, signal.SIGTERM)
        await gateway.refuses()
        go.set()
        answers = [await caller.answer() for caller in callers]
        assert {status for status, _ in answers} == {200}, answers[0]
        vectors = {orjson.dumps(orjson.loads(body)["data"][0]["embedding"]) for _, body in answers}
        assert len(vectors) == NUMBER
        assert await gateway.ended() == 0


async def test_the_end_of_the_drain_time(tmp_path: Path) -> None:
    """Who is not done when the drain time is over is told so with 503, and the process ends."""
    async with stuck(tmp_path, drain_s=1) as (gateway, _, _):
        caller = await gateway.connect()
        caller.ask("a text")
        await gateway.in_flight(1)
        os.kill(gateway.process.pid, signal.SIGTERM)
        status, body = await caller.answer()
        assert (status, orjson.loads(body)["error"]["code"]) == (503, "overloaded")
        assert await gateway.ended() == 0


async def test_a_second_signal(tmp_path: Path) -> None:
    """A second signal ends the process at once, whatever is in flight and however long it may
    take."""
    async with stuck(tmp_path, drain_s=600) as (gateway, _, _):
        caller = await gateway.connect()
        caller.ask("a text")
        await gateway.in_flight(1)
        os.kill(gateway.process.pid, signal.SIGTERM)
        await gateway.refuses()
        os.kill(gateway.process.pid, signal.SIGTERM)
        assert await gateway.ended() == 0
