"""Cohere's embed API, version 2.

POST {base_url}/v2/embed with model, texts, input_type (demanded), embedding_types, truncate,
output_dimension, max_tokens, priority. It cuts texts unless `truncate` is NONE. Answers have the
vectors by type, without an index, and echo the texts.
Source: https://docs.cohere.com/reference/embed (2026-11-21), and what cohere 7.3 sends and reads.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from embedway.errors import UpstreamError
from embedway.options import passed_on
from embedway.provider import Deployment, HttpRequest, HttpResponse, Provider
from embedway.replies import embeddings, header_count, refusal
from embedway.requests import bearer, post
from embedway.types import Embedding, EmbedRequest
from embedway.vectors import from_base64, from_numbers

_OPTION_NAMES = {"inputType": "input_type", "maxTokens": "max_tokens"}


class _ByType(Struct, rename={"floats": "float"}):
    floats: list[list[float]] | None = None
    base64: list[str] | None = None


class _BilledUnits(Struct):
    input_tokens: float | None = None  # a whole number, but its SDK calls it a float


class _Meta(Struct):
    billed_units: _BilledUnits | None = None


class _Reply(Struct):
    embeddings: _ByType
    meta: _Meta | None = None


class _ErrorReply(Struct):
    message: str | None = None


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_error = msgspec.json.Decoder(_ErrorReply).decode


def build(request: EmbedRequest, deployment: Deployment) -> HttpRequest:
    """The request. Floats are asked for, as everybody does; base64 is offered, too, and read if
    it comes, but nobody has shown an answer of the service that has it."""
    body: dict[str, object] = {
        "model": deployment.upstream_model,
        "texts": request.inputs,
        "input_type": deployment.native_input_type(request) or "search_document",
        "embedding_types": ["float"],
        "truncate": "NONE",
    }
    if (dimensions := deployment.native_dimensions(request)) is not None:
        body["output_dimension"] = dimensions
    body |= passed_on(request.params.options, "cohere", _OPTION_NAMES)
    return post(f"{deployment.base_url}/v2/embed", body, bearer(deployment))


def parse(
    request: EmbedRequest, deployment: Deployment, response: HttpResponse
) -> tuple[Embedding, ...]:
    """The embeddings, which come in the order of the texts. Raises ValueError on an unsound
    body."""
    reply = _decode_reply(response.body)
    if reply.embeddings.floats is not None:
        vectors = [from_numbers(numbers) for numbers in reply.embeddings.floats]
    elif reply.embeddings.base64 is not None:
        vectors = [from_base64(text) for text in reply.embeddings.base64]
    else:
        raise ValueError("it has no embeddings of type float")
    return embeddings(request, deployment, vectors, _tokens(reply.meta, response.headers))


def explain(deployment: Deployment, response: HttpResponse) -> UpstreamError:
    """The error that an answer other than 2xx stands for."""
    try:
        told = _decode_error(response.body).message
    except ValueError:
        told = None
    return refusal(deployment, response, told)


def _tokens(meta: _Meta | None, headers: Mapping[str, str]) -> int | None:
    """What is billed; a trial key may be billed nothing, then what was counted."""
    billed = meta.billed_units.input_tokens if meta and meta.billed_units else None
    if billed:
        return int(billed)
    return header_count(headers, "num_tokens")


COHERE = Provider(
    name="cohere",
    build=build,
    parse=parse,
    explain=explain,
    base_url="https://api.cohere.com",
    source="https://docs.cohere.com/reference/embed (2026-11-21)",
)
