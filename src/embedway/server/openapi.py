"""`/openapi.json`: one table of routes, each with what it takes, answers, and fails with."""

from __future__ import annotations

from typing import Any

from embedway import __version__
from embedway.server.components import build_components
from embedway.server.error_codes import error_table
from embedway.server.management_paths import management_paths
from embedway.server.operations import (
    EVERY_ROUTE,
    REQUEST_ID,
    WITH_BODY,
    WITH_KEY,
    operation,
    parameter,
)

LIVE_PATHS = ("/livez", "/health/liveliness")
READY_PATHS = ("/readyz", "/healthz", "/health", "/health/readiness")

_DESCRIPTION = (
    "One door to every embedding model, and a model of its own. Speaks OpenAI's API: set the base "
    "URL of any OpenAI client to this server's /v1. A loopback server without keys needs no key."
)
_EMBEDDING = (*WITH_BODY, 402, 404, 409, 429, 502, 504)
_TIMEOUT = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "How long the request may take in all, the time in queues included; at most "
    "server.max_request_timeout_s. Default: server.request_timeout_s.",
    "schema": {"type": "integer", "minimum": 1},
    "example": 60_000,
}
_EMBEDDING_HEADERS = {
    **REQUEST_ID,
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
            *(
                (f"x-ratelimit-{what}-{kind}", f"Of a key with such a limit: {meaning}.")
                for kind in ("requests", "tokens")
                for what, meaning in (
                    ("limit", f"{kind} a minute"),
                    ("remaining", "what is left of them"),
                    ("reset", "how long until something comes back, such as 12ms or 1m0s"),
                )
            ),
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
            **management_paths(),
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
        paths[path] = operation(
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
        paths[f"{path}/embedding-model"] = operation(
            "post",
            "Embed values for the AI SDK",
            "AiSdkAnswer",
            [parameter("ai-model-id", "header", "local/wordllama-256", longest=256), _TIMEOUT],
            body="AiSdk5Body" if is_open else "EmbeddingModelBody",
            error="AiSdkError",
            errors=_EMBEDDING,
            headers=_EMBEDDING_HEADERS,
            about="What embed() and embedMany() of the AI SDK call.",
        )
    return paths


def _catalogue_paths() -> dict[str, Any]:
    creator = parameter("creator", "path", "local")
    model = parameter("model", "path", "wordllama-256")
    id = parameter("id", "path", "openai/text-embedding-3-small")
    listing = operation(
        "get", "List models", "ModelList", about="The catalogue; `available` ones are served here."
    )
    return {
        "/v1/models": listing,
        "/v1/embeddings/models": listing,
        "/v1/models/{id}": operation(
            "get",
            "Get a model",
            "ModelEntry",
            [id],
            errors=(*EVERY_ROUTE, 404),
            about="By creator/model, with the slash as it is or as %2F, bare name, or alias.",
        ),
        "/v1/models/{creator}/{model}/endpoints": operation(
            "get",
            "Deployments of a model",
            "EndpointsAnswer",
            [creator, model],
            errors=(*EVERY_ROUTE, 404),
        ),
        **{
            f"/{version}/ai/config": operation(
                "get", "Models for the AI SDK", "AiSdkConfig", error="AiSdkError", errors=WITH_KEY
            )
            for version in ("v4", "v3", "v1")
        },
    }


def _other_paths() -> dict[str, Any]:
    id = parameter("id", "query", "gen_01M2RV50ENRGT4K2CHJ0WC4N1H")
    return {
        "/v1/generation": operation(
            "get",
            "One request's record",
            "Generation",
            [id],
            errors=(*WITH_KEY, 404),
            about="By gen_… or req_…, of the calling key; an admin key sees all.",
        ),
        "/v1/credits": operation("get", "Balance of the key", "Credits", errors=WITH_KEY),
        **{path: operation("get", "Is the process alive", "Health") for path in LIVE_PATHS},
        **{path: operation("get", "Is the gateway ready", "Health") for path in READY_PATHS},
        "/metrics": operation(
            "get",
            "Prometheus metrics",
            media_type="text/plain",
            errors=WITH_KEY,
            about="For loopback callers and admin keys.",
        ),
        "/openapi.json": operation("get", "This document"),
        "/docs": operation("get", "The page for people", media_type="text/html"),
    }
