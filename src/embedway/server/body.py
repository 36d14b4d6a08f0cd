"""The body of a request: its length by the head, and its bytes, bounded in number and in time."""

from __future__ import annotations

from starlette.types import Message, Receive, Scope

from embedway.errors import RequestTimeout, RequestTooLarge
from embedway.server.messages import Incoming
from embedway.server.receipt import LATE

_LENGTH_DIGITS = 18  # Python refuses to read very long numbers


def told_length(incoming: Incoming, most: int) -> int:
    """The body's length by its head; *most*, which is all that is read, where that does not say.
    Raises RequestTooLarge."""
    if b"transfer-encoding" in incoming.headers:
        return most
    length = incoming.headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > _LENGTH_DIGITS or int(length) > most:
        raise _too_large(most)
    return int(length)


async def read_body(receive: Receive, most: int) -> bytes | None:
    """The body, None if the caller hung up. Raises RequestTooLarge before reading too much."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > most:
            raise _too_large(most)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def in_time(scope: Scope, receive: Receive) -> Receive:
    """*receive*, until `receipt` says that the caller was too slow. It raises RequestTimeout then:
    what came by then is not the whole body."""
    state = scope.get("state", {})

    async def receive_in_time() -> Message:
        message = await receive()
        if LATE in state:
            raise RequestTimeout(
                "The body of the request came too slowly. Send fewer inputs in each request."
            )
        return message

    return receive_in_time


def _too_large(most: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"The body is longer than {most} bytes. Send fewer inputs in each request."
    )
