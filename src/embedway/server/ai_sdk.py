"""The AI SDK's gateway protocol: `POST …/embedding-model` and `GET …/config`.

Three generations (AI SDK 5, 6 and 7) differ in the body and in one literal; the header
`ai-embedding-model-specification-version` says which, else the path. Shapes as
`@ai-sdk/gateway` 4.0.146 sends and reads them.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import Meta, Struct

from embedway.clock import Clock
from embedway.errors import (
    EmbedError,
    InvalidRequest,
    ModelNotFound,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    UpstreamModelNotFound,
    UpstreamRateLimited,
)
from embedway.money import usd_text
from embedway.server.answer import Answer
from embedway.server.blocks import gateway_block
from embedway.server.doubles import refuse_doubles
from embedway.server.embeddings import Embeddings
from embedway.server.envelope import error_fields, error_headers, gateway_metadata, request_id
from embedway.server.messages import JSON, Incoming, Outgoing
from embedway.server.render import answer_headers, float_json, is_large, render_aside
from embedway.server.wire import EmbeddingsBody, Width, refuse
from embedway.types import Grant

Version = Literal["v2", "v3", "v4"]
_VERSIONS: dict[str, Version] = {"2": "v2", "3": "v3", "4": "v4"}


class EmbeddingModelBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of AI SDK 6 and 7; `dimensions` is 7's."""

    values: Annotated[list[str], Meta(description="1 to 2,048 texts.")]
    dimensions: Annotated[Width | None, Meta(description="Length of the vectors.")] = None
    providerOptions: Annotated[dict[str, Any] | None, Meta(description="As in EmbeddingsBody.")] = (
        None
    )


class AiSdk:
    """Both routes of one generation; `version` is that of the path."""

    def __init__(self, embeddings: Embeddings, clock: Clock, version: Version) -> None:
        self._embeddings = embeddings
        self._clock = clock
        self._version = version

    async def handle(self, incoming: Incoming, grant: Grant, id: str) -> Outgoing:
        """`embedding-model`: vectors, always as floats. Raises EmbedError."""
        started = self._clock.monotonic() - incoming.waited_s
        model = incoming.header(b"ai-model-id")
        if not model:
            raise InvalidRequest("The header ai-model-id is missing.", param="ai-model-id")
        body = _decode(incoming.body, model, self._version_of(incoming))
        answer = await self._embeddings.ask(body, incoming, grant, id, started)
        has_metadata = self._embeddings.settings.response_metadata in ("both", "gateway")
        rendered = partial(_render, answer, has_metadata)
        return await render_aside(rendered) if is_large(answer) else rendered()

    def list_models(self) -> Outgoing:
        """`config`: the models, each with what the client needs to make one."""
        gateway = self._embeddings.gateway
        models = [
            {
                "id": model.id,
                "name": model.name,
                "description": model.description,
                "pricing": {"input": usd_text(gateway.prices[model.id]), "output": "0"},
                "specification": {
                    "specificationVersion": self._version,
                    "provider": "gateway",
                    "modelId": model.id,
                },
                "modelType": "embedding",
            }
            for model in gateway.directory.listed()
        ]
        return Outgoing(200, (JSON,), orjson.dumps({"models": models}))

    def explain(self, error: EmbedError, incoming: Incoming, id: str) -> Outgoing:
        """An error in the protocol's words: there `type` tells them apart."""
        param: Any = error.param
        message = error.message
        # AI SDK 5 calls the inputs `input`, too; for the others that is an unknown field.
        if error.code != InvalidRequest.code and self._version_of(incoming) != "v2":
            param = re.sub(r"^input(?=$|\[)", "values", param) if param else param
            message = re.sub(r"\binput(?=\[| is | has | mixes )", "values", message)
        if isinstance(error, ModelNotFound):
            param = {"modelId": error.model}
        inner = {
            **error_fields(error),
            "message": message,
            "type": _type(error),
            "param": param,
        }
        tried = gateway_metadata(error, id)
        body = orjson.dumps({"error": inner, "generationId": f"gen_{id}", **tried})
        name = (b"x-request-id", request_id(incoming, id).encode())
        return Outgoing(error.status, (JSON, name, *error_headers(error)), body)

    def _version_of(self, incoming: Incoming) -> Version:
        header = incoming.header(b"ai-embedding-model-specification-version")
        return _VERSIONS.get(header, self._version)


def _decode(body: bytes, model: str, version: Version) -> EmbeddingsBody:
    """Any generation's body as ours."""
    kind = dict[str, Any] if version == "v2" else EmbeddingModelBody
    try:
        decoded: Any = msgspec.json.decode(body, type=kind)
        fields = _from_v2(decoded) if version == "v2" else _from_v3(decoded)
        converted = msgspec.convert({**fields, "model": model}, EmbeddingsBody)
    except (ValueError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError) and "`$.model" in str(error):
            raise InvalidRequest("ai-model-id is too long.", param="ai-model-id") from None
        refuse(error, body, EmbeddingModelBody)
    refuse_doubles(body)
    return converted


def _from_v3(body: EmbeddingModelBody) -> dict[str, Any]:
    return {
        "input": body.values,
        "dimensions": body.dimensions,
        "providerOptions": body.providerOptions,
    }


def _from_v2(body: dict[str, Any]) -> dict[str, Any]:
    """AI SDK 5 spreads the providers' options at the root, beside `input`."""
    names: tuple[str, ...] = ("input", "dimensions")
    fields = {name: body.pop(name) for name in names if name in body}
    nested = body.pop("providerOptions", None)
    if nested is not None and not isinstance(nested, dict):
        raise InvalidRequest("providerOptions must be an object.", param="providerOptions")
    return {**fields, "providerOptions": {**body, **(nested or {})}}


def _render(answer: Answer, has_metadata: bool) -> Outgoing:
    metadata = {"gateway": gateway_block(answer)} if has_metadata else {}
    tail = {"usage": {"tokens": answer.tokens}, "providerMetadata": metadata}
    vectors = b",".join(float_json(e.vector) for e in answer.response.embeddings)
    body = b'{"embeddings":[' + vectors + b"]," + orjson.dumps(tail)[1:]
    return Outgoing(200, answer_headers(answer), body)


_TYPES: tuple[tuple[tuple[type[EmbedError], ...], str], ...] = (
    ((Unauthenticated,), "authentication_error"),
    ((PermissionDenied,), "forbidden"),
    ((ModelNotFound, UpstreamModelNotFound), "model_not_found"),
    ((RateLimited, UpstreamRateLimited), "rate_limit_exceeded"),
)


def _type(error: EmbedError) -> str:
    for classes, name in _TYPES:
        if isinstance(error, classes):
            return name
    return "invalid_request_error" if error.status < 500 else "internal_server_error"
