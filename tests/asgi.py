"""Calls an ASGI application in process, as a server would, without any HTTP library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import orjson
from msgspec import Struct

from embedway.runtime import open_runtime
from embedway.server.app import App
from embedway.settings import Settings

MODEL = "local/wordllama-256"
HOST = "localhost:1536"

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class Response(Struct, frozen=True, kw_only=True):
    """One answer. Header names are lower-case; a repeated one's last value counts."""

    status: int
    headers: dict[str, str]
    body: bytes
    pieces_read: int
    """How many messages of the body had been taken when the whole answer was out."""

    def json(self) -> Any:
        """The body's value."""
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What stands in the envelope."""
        inner: dict[str, Any] = self.json()["error"]
        return inner


class _Wire:
    """The caller's end of one exchange."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._next = next(self._pieces, b"")
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self._taken = 0
        self.pieces_read = 0
        self._is_done = False

    async def receive(self) -> dict[str, Any]:
        if self._is_done:
            return {"type": "http.disconnect"}
        self._taken += 1
        piece, following = self._next, next(self._pieces, None)
        self._is_done, self._next = following is None, following or b""
        return {"type": "http.request", "body": piece, "more_body": not self._is_done}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif message.get("body"):
            self.body += message["body"]
            self.pieces_read = self._taken


async def call(
    app: Any,
    method: str,
    path: str,
    headers: Headers = (),
    body: Any = b"",
    *,
    pieces: Iterable[bytes] | None = None,
    peer: str | None = "127.0.0.1",
) -> Response:
    """Send one request and read the answer.

    headers: `Host` is added, and JSON's content type where there is a body and none is given.
    body: bytes as they are, anything else as JSON.
    pieces: the body in parts, in place of *body*.
    """
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    named = list(headers.items() if isinstance(headers, Mapping) else headers)
    names = {name.lower() for name, _ in named}
    if "host" not in names:
        named.append(("host", HOST))
    if (data or pieces) and "content-type" not in names:
        named.append(("content-type", "application/json"))
    raw, _, query = path.partition("?")
    wire = _Wire(pieces if pieces is not None else [data])
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in named],
        "client": None if peer is None else (peer, 50_000),
        "server": ("127.0.0.1", 1536),
    }
    await asyncio.wait_for(app(scope, wire.receive, wire.send), 30)
    return Response(
        status=wire.status, headers=wire.headers, body=wire.body, pieces_read=wire.pieces_read
    )


def bearer(key: Any) -> dict[str, str]:
    """The header that carries a key."""
    return {"authorization": f"Bearer {key if isinstance(key, str) else key.reveal()}"}


async def embed(app: Any, headers: Headers = (), **fields: Any) -> Response:
    """`POST /v1/embeddings` for the local model and one text, unless *fields* say otherwise."""
    body = {"model": MODEL, "input": "a text", **fields}
    return await call(app, "POST", "/v1/embeddings", headers, body)


@asynccontextmanager
async def running(
    settings: Settings, *, is_loopback_only: bool = True, **parts: Any
) -> AsyncIterator[App]:
    """A started application; *parts* go to `open_runtime`."""
    app = App(lambda: open_runtime(settings, **parts), is_loopback_only=is_loopback_only)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()
