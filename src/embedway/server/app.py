"""The ASGI application: hot routes raw, the rest through Starlette, one renderer of errors.

A hot route reads the body itself, bounded, and calls a framework-free `handle`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress

from msgspec.structs import replace
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedway.errors import EmbedError, HeadersTooLarge, MethodNotAllowed, RequestTooLarge
from embedway.runtime import Runtime
from embedway.server.ai_sdk import AiSdk, Version
from embedway.server.auth import Guard, KeyRing
from embedway.server.embeddings import Embeddings
from embedway.server.envelope import internal_error, render_error
from embedway.server.media_type import check_body, check_head
from embedway.server.messages import Hot, Incoming, Outgoing, read_head
from embedway.server.pages import Pages

_LINGER_S = 2.0
"""How long a caller may go on sending a request that was refused half read. To close a socket
with unread bytes resets it, and the reset may overtake the answer: he would see no 413, only a
broken connection, and try again (nginx's lingering_close does the same)."""
_LENGTH_DIGITS = 18  # Python refuses to read very long numbers
_log = logging.getLogger("embedway.server")
_access = logging.getLogger("embedway.access")

OpenRuntime = Callable[[], AbstractAsyncContextManager[Runtime]]


class App:
    """Opens the runtime at start, closes it at the end, and answers requests in between.

    is_loopback_only: no address but loopback is listened on.
    """

    def __init__(self, open_runtime: OpenRuntime, *, is_loopback_only: bool) -> None:
        self._open_runtime = open_runtime
        self._is_loopback_only = is_loopback_only
        self._stack = AsyncExitStack()
        self._answer: ASGIApp = self._dispatch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def start(self) -> Runtime:
        """Open the runtime and build the routes."""
        runtime = await self._stack.enter_async_context(self._open_runtime())
        self.runtime = runtime
        server = runtime.settings.server
        self._max_body, self._max_head = server.max_body_bytes, server.max_header_bytes
        self._max_headers = server.max_headers
        self.guard = Guard(
            KeyRing(runtime.keys, runtime.clock),
            is_loopback_only=self._is_loopback_only,
            origins=server.cors_origins,
        )
        embeddings = Embeddings(runtime.gateway, server, runtime.clock)
        paths: dict[str, Version] = {"v4": "v4", "v3": "v3", "v1": "v2"}
        versions = {
            path: AiSdk(embeddings, runtime.clock, version) for path, version in paths.items()
        }
        self._hot: dict[str, Hot] = {
            "/v1/embeddings": embeddings,
            "/embeddings": embeddings,
            # An AI SDK client whose base URL is that of the OpenAI routes.
            "/v1/embedding-model": versions["v4"],
            **{f"/{name}/ai/embedding-model": sdk for name, sdk in versions.items()},
        }
        self._pages = Pages(runtime, self.guard, versions)
        if server.cors_origins:
            self._answer = CORSMiddleware(
                self._dispatch,
                allow_origins=server.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["*"],
            )
        return runtime

    async def has_keys(self) -> bool:
        """Whether a key was ever made."""
        return await self.guard.has_keys()

    async def is_open(self) -> bool:
        """Whether every loopback caller is let in."""
        return self._is_loopback_only and not await self.has_keys()

    async def stop(self) -> None:
        """Close everything that `start` opened."""
        await self._stack.aclose()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        hot = self._hot.get(scope["path"])
        id = self.runtime.ids.new()
        incoming = read_head(scope)
        explain = hot.explain if hot else render_error
        try:
            self._check_head(scope)
            if hot is None:
                await self._pages(scope, receive, send)
                return
            answered = await self._answer_hot(hot, incoming, id, receive)
            if answered is None:  # the caller hung up while sending
                return
            outgoing = answered
        except EmbedError as error:
            outgoing = explain(error, incoming, id)
        except Exception:
            _log.exception("a bug; request req_%s", id)
            outgoing = explain(internal_error(id), incoming, id)
        self._note(incoming, id, outgoing.status, is_hot=hot is not None)
        await send_outgoing(outgoing, receive, send)

    def _note(self, incoming: Incoming, id: str, status: int, *, is_hot: bool) -> None:
        """Count the answer, and write its line where the operator wants one. Never a text."""
        route = incoming.path if is_hot else "other"
        self.runtime.metrics.count_response(route, status)
        if _access.isEnabledFor(logging.INFO):
            # ascii() keeps control characters of a caller's path out of the terminal.
            _access.info("%s %s %d req_%s", incoming.method, ascii(incoming.path), status, id)

    async def _answer_hot(
        self, hot: Hot, incoming: Incoming, id: str, receive: Receive
    ) -> Outgoing | None:
        """The answer of a hot route. Whoever may not come in is refused before his body is read."""
        if incoming.method != "POST":
            raise MethodNotAllowed(f"{incoming.path} takes POST only.", allow="POST")
        grant = await self.guard.identify(incoming)
        check_head(incoming, is_form_allowed=self._is_loopback_only)
        body = await self._read_body(incoming, receive)
        if body is None:
            return None
        incoming = replace(incoming, body=body)
        check_body(incoming)
        return await hot.handle(incoming, grant, id)

    def _check_head(self, scope: Scope) -> None:
        headers = scope["headers"]
        size = sum(len(name) + len(value) for name, value in headers) + len(scope["query_string"])
        if len(headers) > self._max_headers or size > self._max_head:
            raise HeadersTooLarge(
                f"The head of the request has {len(headers)} fields and {size} bytes; at most "
                f"{self._max_headers} and {self._max_head} are read."
            )

    async def _read_body(self, incoming: Incoming, receive: Receive) -> bytes | None:
        """The body, None if the caller hung up. Raises RequestTooLarge before reading too much."""
        length = incoming.headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > _LENGTH_DIGITS or int(length) > self._max_body:
            raise self._too_large()
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part: bytes = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > self._max_body:
                raise self._too_large()
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"The body is longer than {self._max_body} bytes. Send fewer inputs in each request."
        )


async def send_outgoing(outgoing: Outgoing, receive: Receive, send: Send) -> None:
    """One whole answer as ASGI messages."""
    head: list[tuple[bytes, bytes]] = [
        *outgoing.headers,
        (b"content-length", str(len(outgoing.body)).encode()),
    ]
    is_half_read = outgoing.status in (413, 431)
    if is_half_read:
        head.append((b"connection", b"close"))
    start: Message = {"type": "http.response.start", "status": outgoing.status, "headers": head}
    await send(start)
    await send({"type": "http.response.body", "body": outgoing.body, "more_body": is_half_read})
    if is_half_read:
        await _discard(receive)
        await send({"type": "http.response.body", "body": b""})


async def _discard(receive: Receive) -> None:
    """Read the rest of the request, for a while, and keep none of it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
