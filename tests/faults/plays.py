"""What a provider can do to a connection once it has read the request."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from itertools import count

from tests.fake_provider.faults import Fault, Wire

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
BOMB = gzip.compress(bytes(200 * 2**20), 9)
"""200 MiB of nothing in 200 KB."""


def sends(change: Callable[[bytes, bytes], bytes]) -> Fault:
    """Sends what *change* makes of the head (with its empty line) and the body, and closes."""

    async def play(wire: Wire, answer: bytes) -> None:
        end = answer.index(b"\r\n\r\n") + 4
        await wire.send(change(answer[:end], answer[end:]))

    return Fault(play=play)


def chunked(body: Callable[[bytes], bytes]) -> Fault:
    """A chunked body; *body* writes the chunks."""
    head = _HEAD + b"transfer-encoding: chunked\r\n\r\n"
    return sends(lambda _, whole: head + body(whole))


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def until_closed() -> Fault:
    """The body has no length: it ends with the connection."""
    return sends(lambda _, body: _HEAD + b"connection: close\r\n\r\n" + body)


def bomb() -> Fault:
    """A small body that is a large one when inflated, though nobody had asked for compression."""
    head = _HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB)
    return sends(lambda _, body: head + BOMB)


def hangs(sent: Callable[[bytes], int]) -> Fault:
    """Says nothing more after *sent* bytes of the answer."""

    async def play(wire: Wire, answer: bytes) -> None:
        await wire.send(answer[: sent(answer)])
        await asyncio.get_running_loop().create_future()

    return Fault(play=play)


def drips() -> Fault:
    """A byte a second."""

    async def play(wire: Wire, answer: bytes) -> None:
        for position in range(len(answer)):
            await wire.send(answer[position : position + 1])
            await asyncio.sleep(1)

    return Fault(play=play)


def floods(first: bytes, again: bytes) -> Fault:
    """Never ends."""

    async def play(wire: Wire, answer: bytes) -> None:
        await wire.send(first)
        for _ in count():
            await wire.send(again)
            await asyncio.sleep(0)  # so much is always taken at once that nobody else would run

    return Fault(play=play)


def answers_twice() -> Fault:
    """The whole answer, and once more though nobody has asked; the connection stays open."""

    async def play(wire: Wire, answer: bytes) -> None:
        await wire.send(answer + answer)
        await wire.reader.read()  # until the other side has gone

    return Fault(play=play)


endless_body = floods(_HEAD + b"transfer-encoding: chunked\r\n\r\n", chunk(b" " * 65_536))
endless_heads = floods(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 50)
