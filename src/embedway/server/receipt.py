"""How long a caller may take to send and to read, and how many may be connected.

uvicorn bounds none of it: whoever sends a byte now and then, or reads no answer, would keep his
connection and its memory for ever. Nothing is timed on the way of a request: the connections are
looked at every now and then.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import ClassVar, Literal, Protocol

from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from embedway.server.messages import Outgoing
from embedway.settings import ServerSettings

LATE = "embedway.late"
"""In the state of an ASGI scope: the caller was too slow, and the rest of his body is not read."""
ARRIVED = "embedway.arrived"
"""There, too: when the head of the request was read, on the door's clock."""
WRITE = "embedway.write"
"""There, too, until it is taken out: writes a whole answer at once, where that can be done."""

_FLOOR_BYTES_PER_S = 240
_GRACE_S = 5.0
"""Whoever sends his body more slowly than this after a while is not sending it at all (Kestrel's
MinRequestBodyDataRate has the same numbers)."""
_LOOK_EVERY_S = 1.0
_AT_ONCE = 500
"""How many connections are looked at before others have their turn."""
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n"
_NO_BODY = b"content-length: 0\r\nconnection: close\r\n\r\n"
_log = logging.getLogger("embedway.receipt")


class Patience(Struct, frozen=True):
    """The bounds of a connection."""

    head_s: float
    body_s: float
    """For each *max_body_bytes* of a body: only imports have more than that."""
    idle_s: float
    unread_s: float
    max_head_bytes: int
    max_body_bytes: int
    max_connections: int

    @property
    def look_every_s(self) -> float:
        """How often the connections are looked at."""
        return min(_LOOK_EVERY_S, min(self.head_s, self.body_s, self.idle_s, self.unread_s) / 10)


def patience(settings: ServerSettings) -> Patience:
    """What the operator allows."""
    return Patience(
        head_s=settings.head_timeout_s,
        body_s=settings.body_timeout_s,
        idle_s=settings.keep_alive_s,
        unread_s=settings.unread_timeout_s,
        max_head_bytes=settings.max_header_bytes,
        max_body_bytes=settings.max_body_bytes,
        max_connections=settings.max_connections,
    )


class Door(Protocol):
    """Whom the application would send away again."""

    @property
    def is_full(self) -> bool:
        """Whether nobody can come in."""
        ...

    def refuse(self, data: bytes) -> Outgoing | None:
        """What to tell the caller whose whole request *data* is; None if it is anything else."""
        ...

    def let_in(self) -> float:
        """Somebody comes in; the time on a monotonic clock that goes on while the loop works."""
        ...


class Bounded(HttpToolsProtocol):
    """uvicorn's protocol, whose callers are looked at by `judge`.

    Who is too many is refused here: to be parsed and have a task of his own would cost those who
    are in a tenth of what an answer costs.
    """

    patience: ClassVar[Patience]
    open_door: ClassVar[Callable[..., Door]]
    _part: Literal["idle", "head", "body"] = "head"
    """What the caller is sending. The first head is awaited from the start."""
    _since = 0.0
    """When that began, or when we last kept him waiting ourselves."""
    _received = 0
    """Bytes since then."""
    _unread = sys.maxsize
    _unread_since = 0.0
    """The bytes of answers that he had not taken, and when they last became fewer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller connected."""
        super().connection_made(transport)
        self.door = self.open_door()
        self._since = self._unread_since = self.loop.time()
        if len(self.connections) > self.patience.max_connections:
            self._refuse(_TOO_MANY)

    def data_received(self, data: bytes) -> None:
        """Bytes came. A head that goes on and on is not kept until its time is over."""
        if self.door.is_full and self._is_between() and (answer := self.door.refuse(data)):
            self._since = self.loop.time()
            self._unset_keepalive_if_required()  # from here on `judge` looks after it
            self.transport.write(self._written(answer))
            return
        super().data_received(data)
        if self._part == "head":
            self._received += len(data)
            if self._received > 2 * self.patience.max_head_bytes:
                self._refuse(_TOO_LONG)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._begin("head")

    def on_headers_complete(self) -> None:
        """The end of its head."""
        self.scope["state"][ARRIVED] = self.door.let_in()
        super().on_headers_complete()
        # The task of the request has yet to begin.
        self.scope["state"][WRITE] = partial(self._write, self.cycle)
        self._begin("body")

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        super().on_body(body)
        self._received += len(body)
        if self._received >= self.patience.max_body_bytes:
            self._begin("body")

    def on_message_complete(self) -> None:
        """Its last byte."""
        super().on_message_complete()
        self._begin("idle")

    def resume_writing(self) -> None:
        """The caller took most of what was written."""
        super().resume_writing()
        self._unread = sys.maxsize

    def judge(self, now: float) -> None:
        """Close where the caller's time is over; a body that is late is answered first."""
        waited = now - self._since
        if self._is_unread(now):
            self.transport.abort()
        elif self.transport.is_closing():
            pass
        elif self._is_our_turn():
            self._since, self._received = now, 0
        elif self._part == "body":
            if is_late(waited, self._received, self.patience.body_s):
                self._end_body(now)
        elif waited > (self.patience.head_s if self._part == "head" else self.patience.idle_s):
            self.transport.close()

    def _begin(self, part: Literal["idle", "head", "body"]) -> None:
        self._part, self._since, self._received = part, self.loop.time(), 0

    def _is_between(self) -> bool:
        """Whether the next byte is the first of a request that nothing stands before."""
        is_new = self._part != "body" and not self._received
        return is_new and not self._is_answering() and not self.transport.is_closing()

    def _write(self, cycle: RequestResponseCycle, answer: Outgoing) -> bool:
        """The answer to that request, head and body in one piece: uvicorn writes them apart, and
        to write costs as much as all layers of a hit. False: it has to be sent as ASGI messages,
        since the caller wants no body, does not read, has gone, or is to be hung up on."""
        wants_body = cycle.scope["method"] != "HEAD"
        if self.flow.write_paused or cycle.disconnected or not (cycle.keep_alive and wants_body):
            return False
        self.transport.write(self._written(answer))
        # What uvicorn's `send` does after an answer's last byte.
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _written(self, answer: Outgoing) -> bytes:
        length = (b"content-length", str(len(answer.body)).encode())
        headers = (*self.server_state.default_headers, *answer.headers, length)
        lines = [b"%b: %b\r\n" % header for header in headers]
        head = b"".join((STATUS_LINE[answer.status], *lines, b"\r\n"))
        if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2:
            raise ValueError("a header of an answer holds a line break")
        return head + answer.body

    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete  # None at first

    def _is_our_turn(self) -> bool:
        """Whether the caller waits for us, or we do not read what he sends."""
        return self._is_answering() and (self._part != "body" or self.flow.read_paused)

    def _is_unread(self, now: float) -> bool:
        """Whether an answer lies there and has not become shorter for too long."""
        left = self.transport.get_write_buffer_size()
        if left == 0 or left < self._unread:
            self._unread_since = now
        self._unread = left or sys.maxsize
        return now - self._unread_since > self.patience.unread_s

    def _end_body(self, now: float) -> None:
        """Let the application answer that it was too slow; who has his answer needs none."""
        if self.cycle.response_started:
            self.transport.close()
            return
        self._since, self._received = now, 0
        self.scope["state"][LATE] = True
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def _refuse(self, status: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(status + _NO_BODY)
            self.transport.close()


def is_late(waited_s: float, received: int, most_s: float) -> bool:
    """Whether a body that has come so far takes too long."""
    is_slow = waited_s > _GRACE_S and received < _FLOOR_BYTES_PER_S * waited_s
    return is_slow or waited_s > most_s


def bounded(given: Patience, open_door: Callable[[], Door]) -> type[Bounded]:
    """The protocol for uvicorn, with *given* bounds. open_door: asked when somebody connects."""
    own = {"patience": given, "open_door": staticmethod(open_door)}
    return type("Bounded", (Bounded,), own)


async def watch(
    connections: Collection[object], every_s: float, sleep: Callable[[float], Awaitable[None]]
) -> None:
    """Look at all connections for ever."""
    loop = asyncio.get_running_loop()
    while True:
        await sleep(every_s)
        for number, connection in enumerate(tuple(connections)):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await sleep(0)
            if not isinstance(connection, Bounded):
                continue
            try:
                connection.judge(loop.time())
            except Exception:
                _log.exception("a connection could not be looked at")
