"""`/openapi.json`: one table of routes, each with what it takes, answers, and fails with."""

from __future__ import annotations

from typing import Any

from embedway import __version__
from embedway.server.components import build_components, reference
from embedway.server.error_codes import error_table
from embedway.vector_files import MEDIA_TYPE

LIVE_PATHS = ("/livez", "/health/liveliness")
READY_PATHS = ("/readyz", "/healthz", "/health", "/health/readiness")

_DESCRIPTION = (
    "One door to every embedding model, and a model of its own. Speaks OpenAI's API: set the base "
    "URL of any OpenAI client to this server's /v1. A loopback server without keys needs no key."
)
_EVERY_ROUTE = (403, 405, 431, 500, 503)
_WITH_KEY = (*_EVERY_ROUTE, 400, 401)
_WITH_BODY = (*_WITH_KEY, 408, 413, 415)
_EMBEDDING = (*_WITH_BODY, 402, 404, 409, 429, 502, 504)
_TIMEOUT = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "How long the request may take in all, the time in queues included; at most "
    "server.max_request_timeout_s. Default: server.request_timeout_s.",
    "schema": {"type": "integer", "minimum": 1},
    "example": 60_000,
}
_REQUEST_ID = {
    "x-request-id": {
        "description": "The caller's own id if it was sound, else ours.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    }
}
_EMBEDDING_HEADERS = {
    **_REQUEST_ID,
    **{
        name: {"description": description, "schema": {"type": "string"}}
        for name, description in (
            ("x-embedway-model", "The model that served, as creator/model."),
            ("x-embedway-provider", "The account that served, or cache."),
            ("x-embedway-space", "The space of the vectors; compare only within one."),
            ("x-embedway-cost", "USD billed, as decimal text."),
            ("cache-status", "RFC 9211: hit, fwd=miss, fwd=bypass or fwd=partial."),
            ("server-timing", "Milliseconds in the gateway."),
            ("openai-processing-ms", "Milliseconds in the gateway."),
        )
    },
}


def build_document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Embedway",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            **_embedding_paths(),
            **_catalogue_paths(),
            **_management_paths(),
            **_other_paths(),
        },
        "components": {
            "schemas": build_components(),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A gateway key. A loopback server without keys needs none.",
                }
            },
        },
        "x-error-codes": error_table(),
    }


def _embedding_paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for path in ("/v1/embeddings", "/embeddings"):
        paths[path] = _operation(
            "post",
            "Embed texts",
            "EmbeddingsAnswer",
            [_TIMEOUT],
            body="EmbeddingsBody",
            errors=_EMBEDDING,
            headers=_EMBEDDING_HEADERS,
            about="One vector for each input, in the order of the inputs.",
        )
    for path in (*(f"/{version}/ai" for version in ("v4", "v3", "v1")), "/v1"):
        # AI SDK 5 spreads the providers' options at the root, which no closed schema can say.
        is_open = path == "/v1/ai"
        paths[f"{path}/embedding-model"] = _operation(
            "post",
            "Embed values for the AI SDK",
            "AiSdkAnswer",
            [_parameter("ai-model-id", "header", "local/wordllama-256", longest=256), _TIMEOUT],
            body="AiSdk5Body" if is_open else "EmbeddingModelBody",
            error="AiSdkError",
            errors=_EMBEDDING,
            headers=_EMBEDDING_HEADERS,
            about="What embed() and embedMany() of the AI SDK call.",
        )
    return paths


def _catalogue_paths() -> dict[str, Any]:
    creator = _parameter("creator", "path", "local")
    model = _parameter("model", "path", "wordllama-256")
    id = _parameter("id", "path", "openai/text-embedding-3-small")
    listing = _operation(
        "get", "List models", "ModelList", about="The catalogue; `available` ones are served here."
    )
    return {
        "/v1/models": listing,
        "/v1/embeddings/models": listing,
        "/v1/models/{id}": _operation(
            "get",
            "Get a model",
            "ModelEntry",
            [id],
            errors=(*_EVERY_ROUTE, 404),
            about="By creator/model, with the slash as it is or as %2F, bare name, or alias.",
        ),
        "/v1/models/{creator}/{model}/endpoints": _operation(
            "get",
            "Deployments of a model",
            "EndpointsAnswer",
            [creator, model],
            errors=(*_EVERY_ROUTE, 404),
        ),
        **{
            f"/{version}/ai/config": _operation(
                "get", "Models for the AI SDK", "AiSdkConfig", error="AiSdkError", errors=_WITH_KEY
            )
            for version in ("v4", "v3", "v1")
        },
    }


def _management_paths() -> dict[str, Any]:
    choice = [
        _parameter("model", "query", "openai/text-embedding-3-small", 256, is_required=False),
        _parameter("space", "query", "openai/text-embedding-3-small@1536", 512, is_required=False),
        _parameter("project", "query", "default", 256, is_required=False),
    ]
    path = "/v1/management/cache"
    return {
        path: _operation(
            "get",
            "What the cache holds",
            "CacheStats",
            errors=_WITH_KEY,
            about="By model, space and project. For admin keys, as is all below.",
        ),
        f"{path}/purge": _operation(
            "post",
            "Forget cached vectors",
            "Purged",
            body="PurgeBody",
            errors=_WITH_BODY,
            about="In memory and in the store; other processes forget them within two seconds.",
        ),
        f"{path}/export": _operation(
            "get",
            "Download cached vectors",
            parameters=choice,
            media_type=MEDIA_TYPE,
            errors=(*_WITH_KEY, 404),
            about="A line of JSON each, with all that is known of it.",
        ),
        f"{path}/warm": _operation(
            "post",
            "Upload exported vectors",
            "Warmed",
            body="KeptVector",
            lines_type=MEDIA_TYPE,
            errors=(*_WITH_BODY, 404),
            about="Lines as they were downloaded. If one of them is wrong, none is stored.",
        ),
    }


def _other_paths() -> dict[str, Any]:
    id = _parameter("id", "query", "gen_01M2RV50ENRGT4K2CHJ0WC4N1H")
    return {
        "/v1/generation": _operation(
            "get",
            "One request's record",
            "Generation",
            [id],
            errors=(*_WITH_KEY, 404),
            about="By gen_… or req_…, of the calling key; an admin key sees all.",
        ),
        "/v1/credits": _operation("get", "Balance of the key", "Credits", errors=_WITH_KEY),
        **{path: _operation("get", "Is the process alive", "Health") for path in LIVE_PATHS},
        **{path: _operation("get", "Is the gateway ready", "Health") for path in READY_PATHS},
        "/metrics": _operation(
            "get",
            "Prometheus metrics",
            media_type="text/plain",
            errors=_WITH_KEY,
            about="For loopback callers and admin keys.",
        ),
        "/openapi.json": _operation("get", "This document"),
        "/docs": _operation("get", "The page for people", media_type="text/html"),
    }


def _operation(
    method: str,
    summary: str,
    answer: str | None = None,
    parameters: list[dict[str, Any]] | None = None,
    *,
    body: str | None = None,
    lines_type: str | None = None,
    media_type: str = "application/json",
    error: str = "ErrorAnswer",
    errors: tuple[int, ...] = _EVERY_ROUTE,
    headers: dict[str, Any] | None = None,
    about: str = "",
) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary, "parameters": parameters or []}
    if about:
        operation["description"] = about
    if body:
        content: dict[str, Any] = {"application/json": {"schema": reference(body)}}
        if lines_type:  # the same, as often as wanted
            content[lines_type] = {"schema": {"type": "string", "minLength": 1}}
        operation["requestBody"] = {"required": True, "content": content}
    if 401 in errors:
        operation["security"] = [{"key": []}, {}]
    schema = reference(answer) if answer else {"type": "object"}
    if media_type != "application/json":
        schema = {"type": "string"}
    operation["responses"] = {
        "200": {
            "description": "Done",
            "content": {media_type: {"schema": schema}},
            **({"headers": headers} if headers else {}),
        },
        **{str(status): _refusal(status, error) for status in sorted(errors)},
    }
    return {method: operation}


def _refusal(status: int, error: str) -> dict[str, Any]:
    codes = [row["code"] for row in error_table() if status in row["statuses"]]
    return {
        "description": "Refused: " + ", ".join(codes),
        "content": {"application/json": {"schema": reference(error)}},
        "headers": _REQUEST_ID,
    }


def _parameter(
    name: str, place: str, example: str, longest: int | None = None, *, is_required: bool = True
) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": is_required,
        "schema": {
            "type": "string",
            "minLength": 1,
            **({"maxLength": longest} if longest else {}),
        },
        "example": example,
    }
