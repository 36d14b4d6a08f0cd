"""How an answer leaves: whole, or piece by piece as its caller takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from starlette.types import Message, Receive, Send

from embedway.server.messages import Outgoing

PIECE_BYTES = 64 * 2**10
"""Longer answers are written piece by piece, each when the caller has taken the one before: what he
has not is still in flight."""
_LINGER_S = 2.0
"""How long a caller may go on sending a request that was refused half read. To close a socket
with unread bytes resets it, and the reset may overtake the answer: he would see no 413, only a
broken connection, and try again (nginx's lingering_close does the same)."""


_HALF_READ = (408, 413, 431)
"""The statuses of requests that are answered before their end has come."""

Write = Callable[[Outgoing], bool]


async def send_outgoing(
    outgoing: Outgoing, receive: Receive, send: Send, write: Write | None
) -> None:
    """One whole answer: at once with *write* where it can, or as ASGI messages."""
    is_half_read = outgoing.status in _HALF_READ
    if (
        write is not None
        and not is_half_read
        and len(outgoing.body) <= PIECE_BYTES
        and write(outgoing)
    ):
        return
    head: list[tuple[bytes, bytes]] = [
        *outgoing.headers,
        (b"content-length", str(len(outgoing.body)).encode()),
    ]
    if is_half_read:
        head.append((b"connection", b"close"))
    start: Message = {"type": "http.response.start", "status": outgoing.status, "headers": head}
    await send(start)
    *pieces, last = _pieces(outgoing.body)
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": last, "more_body": is_half_read})
    if is_half_read:
        await _discard(receive)
        await send({"type": "http.response.body", "body": b""})


def _pieces(body: bytes) -> Sequence[bytes | memoryview]:
    if len(body) <= PIECE_BYTES:
        return (body,)
    view = memoryview(body)
    return [view[i : i + PIECE_BYTES] for i in range(0, len(body), PIECE_BYTES)]


async def _discard(receive: Receive) -> None:
    """Read the rest of the request, for a while, and keep none of it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
