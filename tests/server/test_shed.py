"""What the process takes at once is bounded, and what is more is refused before it is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.errors import Overloaded
from embedway.server.app import App
from embedway.server.shed import Shed
from embedway.settings import ServerSettings, Settings
from embedway.turns import Turns
from tests.asgi import HOST, MODEL, embed, running
from tests.fakes import until

BODY = orjson.dumps({"model": MODEL, "input": "a text"})
MEBIBYTE = 2**20


class Caller:
    """A caller who sends his body when the test lets him."""

    def __init__(self, app: App, head: dict[str, str] | None = None) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.messages: list[Any] = []
        self.has_read = False
        headers = {"content-length": str(len(BODY))} if head is None else head
        named = {"host": HOST, "content-type": "application/json", **headers}
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/embeddings",
            "raw_path": b"/v1/embeddings",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "client": ("127.0.0.1", 50_000),
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        self.has_read = True
        return await self.sent.get()

    async def _send(self, message: Any) -> None:
        self.messages.append(message)

    def send(self, body: bytes = BODY) -> None:
        """The whole body."""
        self.sent.put_nowait({"type": "http.request", "body": body, "more_body": False})

    def hang_up(self) -> None:
        """Go away."""
        self.sent.put_nowait({"type": "http.disconnect"})

    async def status(self) -> int:
        """Of the answer, once all of it is there; 0 if there is none."""
        await self.task
        return self.messages[0]["status"] if self.messages else 0

    def header(self, name: bytes) -> bytes | None:
        """Of the answer."""
        return dict(self.messages[0]["headers"]).get(name)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    """A server that takes two requests at once, or the bytes of one and a half."""
    server = ServerSettings(
        max_requests_in_flight=2, max_bytes_in_flight=MEBIBYTE + 500, max_body_bytes=MEBIBYTE
    )
    async with running(Settings(home=str(tmp_path), server=server)) as app:
        yield app


async def test_requests_are_bounded(app: App) -> None:
    """One request too many is refused without reading its body, with Retry-After and leave to try
    again; those in flight are answered, and then there is room again."""
    callers = [Caller(app) for _ in range(2)]
    await until(lambda: app.shed.requests == 2)
    third = Caller(app)

    assert await third.status() == 503
    assert not third.has_read
    assert third.header(b"retry-after") == b"1"
    assert third.header(b"x-should-retry") is None
    error = orjson.loads(third.messages[1]["body"])["error"]
    assert (error["code"], error["type"]) == ("overloaded", "overloaded_error")
    assert "2 requests in flight" in error["message"]

    for caller in callers:
        caller.send()
        assert await caller.status() == 200
    assert (app.shed.requests, app.shed.bytes) == (0, 0)
    assert (await embed(app)).status == 200


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_bytes_are_bounded(app: App, is_chunked: bool) -> None:
    """The bytes that are told are counted, and for a body of unknown length the longest that is
    read; what is more is refused."""
    long = {"transfer-encoding": "chunked"} if is_chunked else {"content-length": str(MEBIBYTE)}
    first = Caller(app, long)
    await until(lambda: app.shed.bytes == MEBIBYTE)
    second = Caller(app, long)
    assert await second.status() == 503
    assert b"bytes of requests in flight" in second.messages[1]["body"]
    short = Caller(app)
    short.send()
    assert await short.status() == 200

    first.send()
    assert await first.status() == 200
    assert (app.shed.requests, app.shed.bytes) == (0, 0)


@pytest.mark.parametrize("end", ["hangs up", "cancelled", "not JSON", "unknown model", "too long"])
async def test_counted_back_at_every_end(app: App, end: str) -> None:
    """However a request ends, its place and its bytes are free again."""
    caller = Caller(app)
    await until(lambda: app.shed.requests == 1)
    assert app.shed.bytes == len(BODY)
    if end == "hangs up":
        caller.hang_up()
    elif end == "cancelled":
        caller.task.cancel()
    elif end == "not JSON":
        caller.send(b"{")
    elif end == "unknown model":
        caller.send(orjson.dumps({"model": "nobody/knows", "input": "a text"}))
    else:
        caller.send(b" " * (MEBIBYTE + 1))
        caller.hang_up()  # or the rest of the body would be waited for
    await asyncio.wait([caller.task])

    assert (app.shed.requests, app.shed.bytes) == (0, 0)


async def test_who_may_not_come_in_takes_no_place(app: App) -> None:
    """A full gateway still says first what is wrong with a request."""
    callers = [Caller(app) for _ in range(2)]
    await until(lambda: app.shed.requests == 2)
    assert await Caller(app, {"content-type": "text/plain"}).status() == 415
    long = Caller(app, {"content-length": str(MEBIBYTE + 1)})
    long.hang_up()
    assert await long.status() == 413
    for caller in callers:
        caller.hang_up()
        await caller.task


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=60))
def test_never_more_than_the_bounds(steps: list[tuple[int, bool]]) -> None:
    """Whatever comes and goes: never more requests or bytes than the bounds, but for one long
    request that is alone; nobody is refused while there is room; and nothing is left."""
    shed, inside = Shed(Turns(time.monotonic), max_requests=4, max_bytes=40), []
    for length, goes in steps:
        if goes and inside:
            inside.pop(length % len(inside))[1].__exit__(None, None, None)
            continue
        has_room = shed.requests < 4 and (shed.bytes == 0 or shed.bytes + length <= 40)
        one = shed.admit(length)
        if has_room:
            one.__enter__()
            inside.append((length, one))
        else:
            with pytest.raises(Overloaded):
                one.__enter__()
        assert shed.requests == len(inside) <= 4
        assert shed.bytes == sum(length for length, _ in inside)
        assert shed.bytes <= 40 or sum(length > 0 for length, _ in inside) == 1
    for _, one in inside:
        one.__exit__(None, None, None)

    assert (shed.requests, shed.bytes) == (0, 0)


def test_answers_that_are_not_taken_count() -> None:
    """The bytes of an answer that its caller has not taken leave less room for requests."""
    shed = Shed(Turns(time.monotonic), max_requests=4, max_bytes=40)
    with shed.hold(35), pytest.raises(Overloaded), shed.admit(10):
        pass
    with shed.admit(10):
        assert shed.bytes == 10
