"""AWS Bedrock: each model family has a body and an answer of its own.

POST {base_url}/model/{id}/invoke, the id percent-encoded. Titan and Nova take one text a call,
Cohere up to 96. Tokens stand in the header x-amzn-bedrock-input-token-count, Titan's in the body
too. The credential is an API key as a bearer, or an access key that signs the request.
Of the options each family gets its own; those of the others mean nothing to it.
Source: https://docs.aws.amazon.com/nova/latest/userguide/embeddings-schema.html, the page below
(2026-11-21), and what boto3 1.44.5 sends and reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from embedway.errors import InvalidInput, UpstreamError
from embedway.options import passed_on
from embedway.provider import Deployment, HttpRequest, HttpResponse, Provider
from embedway.replies import embeddings, header_count, refusal
from embedway.requests import bearer, post
from embedway.signing import sign as sign_request
from embedway.types import Embedding, EmbedRequest
from embedway.vectors import from_numbers

_NAMES = {"inputType": "input_type", "outputDimension": "output_dimension"}
# Where the status alone does not tell who is to blame.
_STATUSES = {
    "ExpiredTokenException": 401,
    "IncompleteSignatureException": 401,
    "InvalidSignatureException": 401,
    "UnrecognizedClientException": 401,
    "ResourceNotFoundException": 404,
    "ServiceQuotaExceededException": 429,
    "ThrottlingException": 429,
    "ModelNotReadyException": 503,
}


class _ByType(Struct):
    numbers: list[list[float]] = field(name="float")


class _Item(Struct):
    embedding: list[float]
    kept_characters: int | None = field(name="truncatedCharLength", default=None)
    """Given only if the text was cut."""


class _Reply(Struct):
    """Titan answers `embedding`; Cohere 3 a list of vectors, Cohere 4 an object by type, Nova a
    list of objects."""

    embedding: list[float] | None = None
    embeddings: list[list[float] | _Item] | _ByType | None = None
    tokens: int | None = field(name="inputTextTokenCount", default=None)


class _ErrorReply(Struct):
    message: str | None = None
    capital: str | None = field(name="Message", default=None)


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_error = msgspec.json.Decoder(_ErrorReply).decode
_Body = dict[str, Any]


def build(request: EmbedRequest, deployment: Deployment) -> HttpRequest:
    """The request, not yet signed. Raises InvalidInput for several texts where one is taken."""
    model = quote(deployment.upstream_model, safe="")
    url = f"{deployment.base_url}/model/{model}/invoke"
    given = passed_on(request.params.options, "bedrock", _NAMES)
    body = _ask(deployment.model)(request, deployment, given)
    return post(url, body, bearer(deployment))


def parse(
    request: EmbedRequest, deployment: Deployment, response: HttpResponse
) -> tuple[Embedding, ...]:
    """The embeddings in the order of the inputs. Raises ValueError on an unsound body."""
    reply = _decode_reply(response.body)
    found = reply.embeddings.numbers if isinstance(reply.embeddings, _ByType) else reply.embeddings
    rows = found if reply.embedding is None else [reply.embedding]
    if rows is None:
        raise ValueError("it holds no embedding")
    vectors = [from_numbers(row.embedding if isinstance(row, _Item) else row) for row in rows]
    cut = {i for i, row in enumerate(rows) if isinstance(row, _Item) and row.kept_characters}
    tokens = reply.tokens or header_count(response.headers, "x-amzn-bedrock-input-token-count")
    return embeddings(request, deployment, vectors, tokens, frozenset(cut))


def explain(deployment: Deployment, response: HttpResponse) -> UpstreamError:
    """The error that an answer other than 2xx stands for; `x-amzn-errortype` names it best."""
    kind = response.headers.get("x-amzn-errortype", "").partition(":")[0]
    try:
        reply = _decode_error(response.body)
    except ValueError:
        reply = _ErrorReply()
    told = reply.message or reply.capital or kind
    if "model identifier is invalid" in told:  # a ValidationException
        kind = "ResourceNotFoundException"
    return refusal(deployment, response, told, as_status=_STATUSES.get(kind))


def sign(request: HttpRequest, deployment: Deployment, now: float) -> HttpRequest:
    """The request, signed with the account's access key if it has one."""
    if (key := deployment.access_key) is None:
        return request
    return sign_request(
        request,
        access_key_id=key.id,
        secret_access_key=key.secret,
        session_token=key.session_token,
        region=deployment.region,
        service="bedrock",
        now=now,
    )


def _ask(model: str) -> Callable[[EmbedRequest, Deployment, _Body], _Body]:
    """The family's body, by our name of the model: theirs may be any profile's ARN."""
    if model.startswith("cohere/"):
        return _ask_cohere
    return _ask_nova if model.startswith("amazon/nova") else _ask_titan


def _only(options: _Body, *names: str) -> _Body:
    return {name: options[name] for name in names if name in options}


def _one_text(request: EmbedRequest, deployment: Deployment) -> object:
    if len(request.inputs) != 1:
        raise InvalidInput(f"{deployment.model} takes one text a call on Bedrock.", param="input")
    return request.inputs[0]


def _ask_titan(request: EmbedRequest, deployment: Deployment, options: _Body) -> _Body:
    body: _Body = {"inputText": _one_text(request, deployment)}
    if (dimensions := deployment.native_dimensions(request)) is not None:
        body["dimensions"] = dimensions
    # Version 1 knows no field but the text.
    return body | (_only(options, "normalize") if deployment.takes_dimensions else {})


def _ask_cohere(request: EmbedRequest, deployment: Deployment, options: _Body) -> _Body:
    body: _Body = {"texts": request.inputs, "truncate": "NONE"}
    if (input_type := deployment.native_input_type(request)) is not None:
        body["input_type"] = input_type
    if (dimensions := deployment.native_dimensions(request)) is not None:
        body["output_dimension"] = dimensions
    return body | _only(options, "input_type", "truncate")


def _ask_nova(request: EmbedRequest, deployment: Deployment, options: _Body) -> _Body:
    mode = options.get("truncate", "NONE")
    body: _Body = {"text": {"value": _one_text(request, deployment), "truncationMode": mode}}
    if (purpose := deployment.native_input_type(request)) is not None:
        body["embeddingPurpose"] = purpose
    if (dimensions := deployment.native_dimensions(request)) is not None:
        body["embeddingDimension"] = dimensions
    body |= _only(options, "embeddingPurpose")
    return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": body}


BEDROCK = Provider(
    name="bedrock",
    build=build,
    parse=parse,
    explain=explain,
    sign=sign,
    base_url="https://bedrock-runtime.{region}.amazonaws.com",
    source="https://docs.aws.amazon.com/bedrock/latest/userguide (2026-11-21)",
)
