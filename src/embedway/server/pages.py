"""Every route that is not hot: catalogue, AI SDK's config, records, cache, health, documents."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from embedway.errors import EmbedError, LedgerUnavailable, MethodNotAllowed, NotFound
from embedway.metrics import CONTENT_TYPE
from embedway.runtime import Runtime
from embedway.server.ai_sdk import AiSdk
from embedway.server.auth import Guard
from embedway.server.management import demand_admin, is_managed, management_routes
from embedway.server.messages import read_head
from embedway.server.models import get_model, list_endpoints, list_models
from embedway.server.openapi import LIVE_PATHS, READY_PATHS, build_document
from embedway.server.records import get_credits, get_generation
from embedway.store.database import StoreError

_log = logging.getLogger("embedway.pages")

_PAGE_HEADERS = {
    # The page holds its own script and style, and asks nobody but us.
    "content-security-policy": (
        "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_ASSETS = {
    "docs.html": "text/html; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "docs.css": "text/css; charset=utf-8",
}


class Pages:
    """The cold routes as one ASGI application. Errors leave it as exceptions."""

    def __init__(
        self,
        runtime: Runtime,
        guard: Guard,
        sdks: Mapping[str, AiSdk],
        origin: Callable[[str], str],
    ) -> None:
        """origin: where the setting of a dotted name comes from."""
        self._runtime = runtime
        self._origin = origin
        self._guard = guard
        self._sdks = sdks
        self._document = orjson.dumps(build_document())
        self._router = Router(self._routes(), redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # With an "app" in the scope Starlette raises instead of answering in plain text.
        scope = {**scope, "app": self}
        if is_managed(scope["path"]):
            scope["grant"] = await demand_admin(self._guard, read_head(scope))
        elif scope["path"] not in LIVE_PATHS:  # alive is who answers, whatever the store does
            await self._guard.enter(read_head(scope))
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            if error.status_code == 405:
                # Starlette joins a set, whose order differs from start to start.
                allow = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
                raise MethodNotAllowed(
                    f"{scope['path'][:200]} does not take {scope['method'][:20]}, but {allow}.",
                    allow=allow,
                ) from None
            raise NotFound(
                f"There is no route {scope['path'][:200]}; GET /openapi.json lists them."
            ) from None

    def _routes(self) -> list[Route]:
        return [
            Route("/", self._home),
            Route("/v1/models", self._models),
            Route("/v1/embeddings/models", self._models),
            Route("/v1/models/{id:path}", self._model),
            *(Route(f"/{name}/ai/config", self._config) for name in self._sdks),
            Route("/v1/generation", self._generation),
            Route("/v1/credits", self._credits),
            *(Route(path, self._health) for path in (*LIVE_PATHS, *READY_PATHS)),
            *management_routes(self._runtime, self._guard, self._origin),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/docs", self._docs),
            Route("/docs/{asset}", self._asset),
        ]

    async def _home(self, request: Request) -> Response:
        return RedirectResponse("/docs")

    async def _models(self, request: Request) -> Response:
        return _json(list_models(self._runtime.gateway))

    async def _model(self, request: Request) -> Response:
        name: str = request.path_params["id"]
        if name.endswith("/endpoints"):
            return _json(list_endpoints(self._runtime.gateway, name.removesuffix("/endpoints")))
        return _json(get_model(self._runtime.gateway, name))

    async def _config(self, request: Request) -> Response:
        sdk = self._sdks[request.url.path.split("/")[1]]
        incoming = read_head(request.scope)
        try:
            await self._guard.identify(incoming)
            outgoing = sdk.list_models()
        except EmbedError as error:
            outgoing = sdk.explain(error, incoming, self._runtime.ids.new())
        headers = {name.decode(): value.decode() for name, value in outgoing.headers}
        return Response(outgoing.body, outgoing.status, headers)

    async def _generation(self, request: Request) -> Response:
        grant = await self._guard.identify(read_head(request.scope))
        id = request.query_params.get("id", "")
        return await self._read_book(get_generation, grant, id)

    async def _credits(self, request: Request) -> Response:
        grant = await self._guard.identify(read_head(request.scope))
        now_ms = int(self._runtime.clock.now() * 1000)
        return await self._read_book(get_credits, grant, self._runtime.budgets, now_ms)

    async def _read_book(self, read: Callable[..., Any], *arguments: Any) -> Response:
        try:
            return _json(await asyncio.to_thread(read, self._runtime.book, *arguments))
        except StoreError as error:
            _log.error("%s", error)
            raise LedgerUnavailable(
                "The gateway cannot read its usage book; try again soon.", retry_after_s=5
            ) from None

    async def _health(self, request: Request) -> Response:
        # Unless it is asked for life alone, `enter` has just read the keys: the store answers.
        return _json({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        await self._guard.may_watch(read_head(request.scope))
        return Response(self._runtime.metrics.render(), headers={"content-type": CONTENT_TYPE})

    async def _openapi(self, request: Request) -> Response:
        return Response(self._document, media_type="application/json")

    async def _docs(self, request: Request) -> Response:
        return _asset("docs.html")

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["asset"]
        if name not in _ASSETS or name == "docs.html":
            raise HTTPException(404)
        return _asset(name)


def _asset(name: str) -> Response:
    data = (resources.files("embedway.server") / "assets" / name).read_bytes()
    return Response(data, headers={"content-type": _ASSETS[name], **_PAGE_HEADERS})


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
