"""How an answer is written to its connection: the real protocol and application, over a transport
that notes each write."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn
from uvicorn.server import ServerState

from embedway.server.app import App
from embedway.server.messages import Outgoing
from embedway.server.receipt import Bounded, bounded, patience
from embedway.settings import ServerSettings, Settings
from tests.asgi import MODEL, running
from tests.fakes import until

BODY = orjson.dumps({"model": MODEL, "input": "a text", "encoding_format": "base64"})
LONG = orjson.dumps({"model": MODEL, "input": ["a text"] * 200, "encoding_format": "float"})


class Wire(asyncio.Transport):
    """Notes what is written; may say that its caller does not read."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """A loopback caller's."""
        return {"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 1536)}.get(name)

    def write(self, data: Any) -> None:
        """One write."""
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        """Whether the protocol has hung up."""
        return self.is_closed

    def close(self) -> None:
        """It hangs up."""
        self.is_closed = True

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """Likewise."""

    @property
    def answers(self) -> list[bytes]:
        """The status lines of all that was written."""
        return [line for line in b"".join(self.writes).split(b"\r\n") if b"HTTP/1.1 " in line]


class Connection:
    """A caller's connection to the application."""

    def __init__(self, app: App, **config: Any) -> None:
        self.wire = Wire()
        bounds = patience(app.runtime.settings.server)
        kind: type[Bounded] = bounded(bounds, lambda: app.door)
        self.protocol = kind(
            uvicorn.Config(app, http=kind, ws="none", lifespan="off", log_config=None),
            ServerState(),
            {},
            asyncio.get_running_loop(),
        )
        self.protocol.connection_made(self.wire)

    async def ask(self, *requests: bytes, answers: int) -> None:
        """Send them at once, and wait until so many answers have come on this connection."""
        self.protocol.data_received(b"".join(requests))
        await until(lambda: len(self.wire.answers) == answers and not self.protocol.tasks)

    def close(self) -> None:
        """The caller hangs up."""
        self.protocol.connection_lost(None)


def request(body: bytes = BODY, *lines: str, version: str = "1.1") -> bytes:
    """A whole request."""
    top = (f"POST /v1/embeddings HTTP/{version}", "Host: localhost:1536", *lines)
    head = "\r\n".join((*top, f"Content-Length: {len(body)}", "", ""))
    return head.encode() + body


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    """An open server."""
    async with running(Settings(home=str(tmp_path))) as app:
        yield app


@pytest.fixture
async def connection(app: App) -> AsyncIterator[Connection]:
    """To that server."""
    connection = Connection(app)
    yield connection
    connection.close()


async def test_an_answer_is_one_write(connection: Connection) -> None:
    """Head and body of an answer leave together, also an error's, and the connection goes on."""
    await connection.ask(request(), answers=1)
    await connection.ask(request(b"{}"), answers=2)
    good, bad = connection.wire.writes
    head, _, body = good.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"content-length: {len(body)}".encode() in head.split(b"\r\n")
    assert orjson.loads(body)["data"][0]["index"] == 0
    assert bad.startswith(b"HTTP/1.1 400")
    assert not connection.wire.is_closed


async def test_requests_behind_each_other(connection: Connection) -> None:
    """Of requests that are sent at once each has its own answer, in order."""
    named = [request(BODY, f"X-Request-Id: r{i}") for i in range(5)]
    await connection.ask(*named, answers=5)
    told = b"".join(connection.wire.writes)
    places = [told.index(b"x-request-id: r%d\r\n" % i) for i in range(5)]
    assert places == sorted(places)


@pytest.mark.parametrize(("lines", "version"), [(["Connection: close"], "1.1"), ([], "1.0")])
async def test_who_asks_once_is_hung_up_on(
    connection: Connection, lines: list[str], version: str
) -> None:
    """A caller who wants no second request is told so, answered and hung up on."""
    await connection.ask(request(BODY, *lines, version=version), answers=1)
    assert b"\r\nconnection: close\r\n" in b"".join(connection.wire.writes)
    assert connection.wire.is_closed


async def test_who_wants_the_head_alone_gets_no_body(connection: Connection) -> None:
    """The answer to HEAD ends with its head, also where it is an error: what follows would be
    taken for the next answer."""
    head = request(b"").replace(b"POST", b"HEAD")
    await connection.ask(head, request(), answers=2)
    first, _, rest = b"".join(connection.wire.writes).partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 405")
    assert rest.startswith(b"HTTP/1.1 200")


async def test_a_long_answer_waits_for_its_reader(connection: Connection) -> None:
    """A long answer leaves piece by piece, and none while its caller does not read."""
    connection.protocol.data_received(request(LONG))
    await until(lambda: connection.wire.writes)
    connection.protocol.pause_writing()
    before = len(connection.wire.writes)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(connection.wire.writes) <= before + 1
    connection.protocol.resume_writing()
    await until(lambda: not connection.protocol.tasks)
    _, _, body = b"".join(connection.wire.writes).partition(b"\r\n\r\n")
    assert len(orjson.loads(body)["data"]) == 200
    assert len(connection.wire.writes) > 3


async def test_who_does_not_read_is_waited_for(connection: Connection) -> None:
    """An answer to a caller who has not taken the one before is not written on top of it."""
    connection.protocol.pause_writing()
    connection.protocol.data_received(request())
    for _ in range(100):
        await asyncio.sleep(0)
    assert connection.wire.writes == []
    connection.protocol.resume_writing()
    await until(lambda: not connection.protocol.tasks)
    assert connection.wire.answers == [b"HTTP/1.1 200 OK"]


async def test_who_has_gone_is_not_written_to(connection: Connection, app: App) -> None:
    """Nothing is written for a caller who hung up while he was waited for."""
    connection.protocol.data_received(request())
    connection.close()
    await until(lambda: not connection.protocol.tasks)
    assert connection.wire.writes == []


async def test_headers_of_other_origins_are_added(tmp_path: Path) -> None:
    """Where the operator lets pages of another origin in, their answers say so."""
    origin = "https://app.example"
    server = ServerSettings(cors_origins=(origin,))
    async with running(Settings(home=str(tmp_path), server=server)) as app:
        connection = Connection(app)
        await connection.ask(request(BODY, f"Origin: {origin}"), answers=1)
        connection.close()
    assert f"access-control-allow-origin: {origin}".encode() in b"".join(connection.wire.writes)


async def test_no_header_breaks_a_line(connection: Connection) -> None:
    """What would be two headers, or an answer of its own, is a bug and not written."""
    for value in (b"one\r\nset-cookie: two", b"one\n", b"\rone"):
        with pytest.raises(ValueError, match="line break"):
            connection.protocol._written(Outgoing(200, ((b"x-name", value),), b"{}"))


async def test_nothing_is_left_to_the_collector(connection: Connection) -> None:
    """A request leaves nothing on its connection that only the collector could free."""
    await connection.ask(request(), answers=1)
    gc.collect()
    gc.disable()
    try:
        for number in range(2, 12):
            await connection.ask(request(), answers=number)
        assert gc.collect() < 10
    finally:
        gc.enable()
