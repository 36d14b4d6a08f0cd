"""What keeps a request from arriving: names, connections, TLS. Each lasts as long as its block."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.faults.certificates import server_context
from tests.faults.place import HOST, Greet, Place

Outage = Callable[[Place], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def refused(place: Place) -> AsyncIterator[None]:
    """Nobody listens."""
    await place.close()
    yield
    await place.open()


@asynccontextmanager
async def black_hole(place: Place) -> AsyncIterator[None]:
    """Connections are neither taken nor refused: the listener's queue is full."""
    await place.close()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", place.port))
        listener.listen(0)
        for _ in range(3):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filling.connect(("127.0.0.1", place.port))
        yield
    await place.open()


def unresolved(error: int) -> Outage:
    """The name is not found, or the name server fails."""

    async def fail() -> None:
        raise socket.gaierror(error, "no such name")

    return _names(fail)


def _names(trouble: Callable[[], object]) -> Outage:
    @asynccontextmanager
    async def outage(place: Place) -> AsyncIterator[None]:
        place.names.trouble = trouble  # type: ignore[assignment]
        yield
        place.names.trouble = None

    return outage


async def _hang() -> None:
    await asyncio.get_running_loop().create_future()


unanswered = _names(_hang)
"""The name server never answers."""


@asynccontextmanager
async def nothing(place: Place) -> AsyncIterator[None]:
    """All is well below HTTP."""
    yield


def shown(tls: Callable[[], ssl.SSLContext]) -> Outage:
    """The server shows another certificate."""

    @asynccontextmanager
    async def outage(place: Place) -> AsyncIterator[None]:
        await place.close()
        await place.open(tls())
        yield
        await place.close()
        await place.open()

    return outage


expired = shown(lambda: server_context(HOST, is_expired=True))
another_host = shown(lambda: server_context("another.example"))


def greeted(greet: Greet) -> Outage:
    """Connections are met by *greet*; those that were open are closed."""

    @asynccontextmanager
    async def outage(place: Place) -> AsyncIterator[None]:
        await place.close()
        place.greet = greet
        await place.open()
        yield
        await place.close()
        place.greet = None
        await place.open()

    return outage


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await _hang()


accepted_and_closed = greeted(_close)
never_read = greeted(_ignore)


@asynccontextmanager
async def handshake_reset(place: Place) -> AsyncIterator[None]:
    """The connection breaks off in the midst of the handshake."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)  # the client's hello has begun
        writer.transport.abort()

    await place.close()
    listener = await asyncio.start_server(meet, "127.0.0.1", place.port)
    yield
    listener.close()
    await listener.wait_closed()
    await place.open()
