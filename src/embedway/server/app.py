"""The ASGI application: hot routes raw, the rest through Starlette, one renderer of errors.

A hot route reads the body itself, bounded, and calls a framework-free `handle`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial

from msgspec.structs import replace
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from embedway.errors import (
    EmbedError,
    HeadersTooLarge,
    MethodNotAllowed,
    Overloaded,
)
from embedway.frames import without_frames
from embedway.logs import REQUEST_ID
from embedway.metrics import Load
from embedway.runtime import Runtime
from embedway.server.ai_sdk import AiSdk, Version
from embedway.server.auth import Guard
from embedway.server.body import in_time, read_body, told_length
from embedway.server.door import FullDoor
from embedway.server.embeddings import Embeddings
from embedway.server.envelope import internal_error, render_error
from embedway.server.gauges import read_deployments, read_waiting
from embedway.server.key_ring import KeyRing
from embedway.server.last_used import LastUsed
from embedway.server.media_type import check_body, check_head
from embedway.server.messages import Hot, Incoming, Outgoing, read_head
from embedway.server.pages import Pages
from embedway.server.rate_headers import rate_headers
from embedway.server.receipt import ARRIVED, WRITE
from embedway.server.sending import PIECE_BYTES, Write, send_outgoing
from embedway.server.shed import Shed
from embedway.types import NO_RATES, Grant

_RESTART_S = 2.0
"""About how long another process takes to be there."""
_log = logging.getLogger("embedway.server")
_access = logging.getLogger("embedway.access")

OpenRuntime = Callable[[], AbstractAsyncContextManager[Runtime]]


class App:
    """Opens the runtime at start, closes it at the end, and answers requests in between.

    is_loopback_only: no address but loopback is listened on.
    origin: where the setting of a dotted name came from.
    """

    def __init__(
        self,
        open_runtime: OpenRuntime,
        *,
        is_loopback_only: bool,
        origin: Callable[[str], str] = lambda name: "unknown",
    ) -> None:
        self._open_runtime = open_runtime
        self._origin = origin
        self._is_loopback_only = is_loopback_only
        self._stack = AsyncExitStack()
        self._with_cors: ASGIApp | None = None
        self.connections: Collection[object] = ()
        """Those that are open, where the server says it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            # Taken out: the scope belongs to what it writes to, and would be garbage for long.
            write = scope.get("state", {}).pop(WRITE, None)
            if self._with_cors is None:
                await self._dispatch(scope, receive, send, write)
            else:  # it adds headers to the messages
                await self._with_cors(scope, receive, send)
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
        last_used = LastUsed(runtime.keys, runtime.clock)
        self._stack.push_async_callback(last_used.close)
        self.guard = Guard(
            KeyRing(runtime.keys, runtime.clock),
            is_loopback_only=self._is_loopback_only,
            origins=server.cors_origins,
            last_used=last_used,
            verify=runtime.admissions.grant if runtime.admissions is not None else None,
        )
        embeddings = Embeddings(runtime.gateway, server, runtime.clock)
        paths: dict[str, Version] = {"v4": "v4", "v3": "v3", "v1": "v2"}
        versions = {
            path: AiSdk(embeddings, runtime.clock, version) for path, version in paths.items()
        }
        self.shed = Shed(
            runtime.turns,
            max_requests=server.max_requests_in_flight,
            max_bytes=server.max_bytes_in_flight,
        )
        runtime.metrics.watch(partial(read_deployments, runtime.gateway), self._load)
        self._hot: dict[str, Hot] = {
            "/v1/embeddings": embeddings,
            "/embeddings": embeddings,
            # An AI SDK client whose base URL is that of the OpenAI routes.
            "/v1/embedding-model": versions["v4"],
            **{f"/{name}/ai/embedding-model": sdk for name, sdk in versions.items()},
        }
        self.door = FullDoor(self.shed, runtime.clock, runtime.ids, runtime.metrics)
        self._pages = Pages(runtime, self.guard, versions, self._origin)
        if server.cors_origins:
            self._with_cors = CORSMiddleware(
                self._dispatch,
                allow_origins=server.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["*"],
            )
        return runtime

    def _late_s(self, scope: Scope) -> float:
        """How long ago the head was read: the event loop had other things to do since."""
        arrived: float | None = scope.get("state", {}).get(ARRIVED)
        return 0.0 if arrived is None else self.runtime.clock.monotonic() - arrived

    def _load(self) -> Load:
        waiting = read_waiting(self.runtime.gateway)
        return Load(self.shed.requests, self.shed.bytes, len(self.connections), waiting)

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

    async def _dispatch(
        self, scope: Scope, receive: Receive, send: Send, write: Write | None = None
    ) -> None:
        hot = self._hot.get(scope["path"])
        late_s = self._late_s(scope)
        id = self.runtime.ids.new()
        incoming = read_head(scope)
        explain = hot.explain if hot else render_error
        try:
            self._check_head(scope)
            if hot is None:
                await self._pages(scope, in_time(scope, receive), send)
                return
            answered = await self._answer_hot(hot, incoming, id, late_s, in_time(scope, receive))
            if answered is None:  # the caller hung up while sending
                return
            outgoing = answered
        except EmbedError as error:
            outgoing = explain(without_frames(error), incoming, id)
        except asyncio.CancelledError:  # nothing but the end of the drain time cancels a request
            outgoing = explain(_shutting_down(), incoming, id)
        except Exception:
            _log.exception("a bug; request req_%s", id, extra={REQUEST_ID: f"req_{id}"})
            outgoing = explain(internal_error(id), incoming, id)
        self._note(incoming, id, outgoing.status, is_hot=hot is not None)
        if len(outgoing.body) <= PIECE_BYTES:
            await send_outgoing(outgoing, receive, send, write)
            return
        with self.shed.hold(len(outgoing.body)):
            await send_outgoing(outgoing, receive, send, write)

    def _note(self, incoming: Incoming, id: str, status: int, *, is_hot: bool) -> None:
        """Count the answer, and write its line where the operator wants one. Never a text."""
        route = incoming.path if is_hot else "other"
        self.runtime.metrics.count_response(route, status)
        if _access.isEnabledFor(logging.INFO):
            # ascii() keeps control characters of a caller's path out of the terminal.
            path, known = ascii(incoming.path), {REQUEST_ID: f"req_{id}"}
            _access.info("%s %s %d req_%s", incoming.method, path, status, id, extra=known)

    async def _answer_hot(
        self, hot: Hot, incoming: Incoming, id: str, late_s: float, receive: Receive
    ) -> Outgoing | None:
        """The answer of a hot route, with how the caller's limits stand. Whoever may not come in is
        refused before his body is read; None if he hung up while sending it."""
        if incoming.method != "POST":
            raise MethodNotAllowed(f"{incoming.path} takes POST only.", allow="POST")
        grant = await self.guard.identify(incoming)
        if grant.rates == NO_RATES:
            return await self._handle(hot, incoming, grant, id, late_s, receive)
        try:
            outgoing = await self._handle(hot, incoming, grant, id, late_s, receive)
        except EmbedError as error:
            outgoing = hot.explain(error, incoming, id)
        if outgoing is None:
            return None
        told = rate_headers(await self.runtime.rates.allowances(grant))
        return replace(outgoing, headers=(*outgoing.headers, *told))

    async def _handle(
        self, hot: Hot, incoming: Incoming, grant: Grant, id: str, late_s: float, receive: Receive
    ) -> Outgoing | None:
        check_head(incoming, is_form_allowed=self._is_loopback_only)
        # Counted at the length that is told, or the longest that would be read.
        with self.shed.admit(told_length(incoming, self._max_body)):
            body = await read_body(receive, self._max_body)
            if body is None:
                return None
            waited = await self.runtime.turns.take(late_s)
            incoming = replace(incoming, body=body, waited_s=waited)
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


def _shutting_down() -> EmbedError:
    return Overloaded(
        "The gateway is shutting down, and the request was not done in time; try again.",
        retry_after_s=_RESTART_S,
    )
