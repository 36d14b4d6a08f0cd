"""Sees every connection that this process opens and every name that it looks up.

The interpreter itself tells of them (PEP 578), whichever library asks.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

_LOOK_UPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


class Seen:
    """What was asked for while it was watched."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        """Addresses: host and port, or the path of a socket."""
        self.names: set[Any] = set()


_watching: list[Seen] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    for seen in _watching:
        if event in ("socket.connect", "socket.sendto"):
            seen.connections.add(arguments[1])
        elif event in _LOOK_UPS:
            seen.names.add(arguments[0])


sys.addaudithook(_note)  # none can be taken away again, so there is one for all tests


@contextmanager
def watching() -> Iterator[Seen]:
    """Watch until the end of the block."""
    seen = Seen()
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


class Trap:
    """Listens where nothing should ever come, and keeps what does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.visits: list[bytes] = []


@asynccontextmanager
async def running_trap() -> AsyncIterator[Trap]:
    """A trap on a port of this machine, until the end of the block."""

    async def catch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        trap.visits.append(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(catch, "127.0.0.1", 0)
    trap = Trap(server.sockets[0].getsockname()[1])
    async with server:
        yield trap
