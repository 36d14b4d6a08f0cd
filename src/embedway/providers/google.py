"""Google's Gemini API.

POST {base_url}/v1beta/models/{model}:batchEmbedContents, with one entry in `requests` for each
text: content, taskType, title, outputDimensionality. Also for a single text, and never several
texts as parts of one content: they would become one vector. Answers have floats only, no index,
and a count of tokens for some models only. It cannot be told not to cut a text that is too long.
Source: https://ai.google.dev/api/embeddings (2026-11-21), and what google-genai 3.4 sends and
reads.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import msgspec
from msgspec import Struct

from embedway.errors import UpstreamError
from embedway.options import passed_on
from embedway.provider import Deployment, HttpRequest, HttpResponse, Provider
from embedway.replies import embeddings, refusal, retry_after
from embedway.requests import post
from embedway.types import Embedding, EmbedRequest
from embedway.vectors import from_numbers

# Google's JSON has camelCase, its Python library snake_case; the contract takes both.
OPTION_NAMES = {"task_type": "taskType", "auto_truncate": "autoTruncate"}
_VERSION = re.compile(r"/v\d+[a-z0-9]*$")


class Values(Struct):
    """One vector."""

    values: list[float]


class UsageMetadata(Struct, rename="camel"):
    """The tokens of all texts together; not every model has it."""

    prompt_token_count: int | None = None


class _Reply(Struct, rename="camel"):
    embeddings: list[Values]
    usage_metadata: UsageMetadata | None = None


class _Detail(Struct, rename="camel"):
    """An ErrorInfo has the reason, a RetryInfo the delay ("34s"); other kinds have neither."""

    reason: str | None = None
    retry_delay: str | None = None


class _Status(Struct):
    message: str | None = None
    details: list[_Detail] = []


class _ErrorReply(Struct):
    error: _Status


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_error = msgspec.json.Decoder(_ErrorReply).decode


def build(request: EmbedRequest, deployment: Deployment) -> HttpRequest:
    """The request, with the same fields in the entry of every text."""
    model = deployment.upstream_model.removeprefix("models/")
    fields: dict[str, object] = {"model": f"models/{model}"}
    if (task_type := native_task_type(request, deployment)) is not None:
        fields["taskType"] = task_type
    if (dimensions := deployment.native_dimensions(request)) is not None:
        fields["outputDimensionality"] = dimensions
    fields |= passed_on(request.params.options, "google", OPTION_NAMES)
    entries = [{"content": content(text), **fields} for text in marked_texts(request, deployment)]
    url = f"{versioned(deployment, 'v1beta')}/models/{quote(model, safe='')}:batchEmbedContents"
    return post(url, {"requests": entries}, api_key(deployment))


def parse(
    request: EmbedRequest, deployment: Deployment, response: HttpResponse
) -> tuple[Embedding, ...]:
    """The embeddings, which come in the order of the texts. Raises ValueError on an unsound
    body."""
    reply = _decode_reply(response.body)
    vectors = [from_numbers(embedding.values) for embedding in reply.embeddings]
    tokens = reply.usage_metadata.prompt_token_count if reply.usage_metadata else None
    return embeddings(request, deployment, vectors, tokens)


def explain(deployment: Deployment, response: HttpResponse) -> UpstreamError:
    """The error that an answer other than 2xx stands for; a bad API key is answered with 400."""
    try:
        status = _decode_error(response.body).error
    except ValueError:
        status = _Status()
    delays = [detail.retry_delay for detail in status.details if detail.retry_delay]
    is_key_bad = any(detail.reason == "API_KEY_INVALID" for detail in status.details)
    return refusal(
        deployment,
        response,
        status.message,
        retry_after_s=retry_after({"retry-after": delays[0].removesuffix("s")}) if delays else None,
        as_status=401 if is_key_bad else None,
    )


def api_key(deployment: Deployment) -> dict[str, str]:
    """The credential in Google's own header; nothing where there is none."""
    if deployment.credential is None:
        return {}
    return {"x-goog-api-key": deployment.credential.reveal()}


def versioned(deployment: Deployment, version: str) -> str:
    """The base URL with an API version: its own, the account's, or *version*."""
    if _VERSION.search(deployment.base_url):
        return deployment.base_url
    return f"{deployment.base_url}/{deployment.api_version or version}"


def content(text: str) -> dict[str, object]:
    """A content of one text."""
    return {"parts": [{"text": text}], "role": "user"}


def native_task_type(request: EmbedRequest, deployment: Deployment) -> str | None:
    """The task type to send; None for models that read the task in the text."""
    if deployment.input_type is None or deployment.input_type.param is None:
        return None
    return deployment.native_input_type(request)


def marked_texts(request: EmbedRequest, deployment: Deployment) -> list[str]:
    """The texts; for gemini-embedding-2, which ignores task types, with the task before each."""
    words = None
    if native_task_type(request, deployment) is None:
        words = deployment.native_input_type(request)
    return [f"{words or ''}{text}" for text in request.inputs]


GOOGLE = Provider(
    name="google",
    build=build,
    parse=parse,
    explain=explain,
    base_url="https://generativelanguage.googleapis.com",
    source="https://ai.google.dev/api/embeddings (2026-11-21)",
)
