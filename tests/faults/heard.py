"""What a caller hears of one request, message by message."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from embedway.clock import SystemClock

_CLOCK = SystemClock()


@dataclass
class Heard:
    """An answer as it came, whole or not."""

    heads: int = 0
    ends: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    crash: BaseException | None = None
    """What came out of the application besides answers."""
    took_s: float = 0.0

    def json(self) -> Any:
        """The body's value; None if it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    async def hear(self, message: Any) -> None:
        """One ASGI message."""
        if message["type"] == "http.response.start":
            self.heads += 1
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            self.ends += not message.get("more_body", False)


async def ask(app: Any, body: object) -> Heard:
    """`POST /v1/embeddings` from loopback."""
    sent = orjson.dumps(body)
    heard, started = Heard(), _CLOCK.monotonic()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/embeddings",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost:1536"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(sent)).encode()),
        ],
        "client": ("127.0.0.1", 50_000),
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": sent, "more_body": False}

    try:
        await app(scope, receive, heard.hear)
    except (Exception, asyncio.CancelledError) as crash:
        heard.crash = crash
    heard.took_s = _CLOCK.monotonic() - started
    return heard
