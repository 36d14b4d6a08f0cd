"""Where a fake provider is found: a name, an address and a port, each of which can be broken."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable

from aiohttp.abc import AbstractResolver, ResolveResult

from tests.fake_provider.server import FakeProvider
from tests.faults.certificates import server_context

HOST = "provider.example"
Greet = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Names(AbstractResolver):
    """Leads every name to loopback, or fails as `trouble` does."""

    def __init__(self) -> None:
        self.trouble: Callable[[], Awaitable[None]] | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The one address."""
        if self.trouble is not None:
            await self.trouble()
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Nothing to close."""


class Place:
    """The fake's own machine, as it were. `greet` meets new connections in place of the fake."""

    def __init__(self, fake: FakeProvider, *, is_secure: bool) -> None:
        self.fake = fake
        self.names = Names()
        self.port = 0
        self.greet: Greet | None = None
        self.connections: set[asyncio.Task[None]] = set()
        self._is_secure = is_secure
        self._server: asyncio.Server | None = None

    async def open(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen, at the same port as before."""
        if tls is None and self._is_secure:
            tls = server_context(HOST)
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=tls, limit=2**20
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.fake.origin = f"http{'s' if self._is_secure else ''}://{HOST}:{self.port}"

    async def close(self) -> None:
        """Let nobody in any more, and everybody go."""
        assert self._server is not None
        self._server.close()
        for task in self.connections:
            task.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            # Cancelled by `close`; asyncio's streams would log that as an error of ours.
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await (self.greet or self.fake.serve)(reader, writer)
        finally:
            self.connections.discard(task)
            writer.close()
