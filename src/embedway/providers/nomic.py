"""Nomic's Atlas embeddings API.

POST {base_url}/v1/embedding/text with texts, model, task_type (which it defaults to
search_document), dimensionality, long_text_mode. A text that is too long is cut or averaged, and
the answer does not say so: there is no way to have it refused.
Source: https://github.com/nomic-ai/nomic (commit b963f429, nomic/embed.py).
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from embedway.options import passed_on
from embedway.provider import Deployment, HttpRequest, HttpResponse, Provider
from embedway.providers.openai import explain
from embedway.replies import embeddings
from embedway.requests import bearer, post
from embedway.types import Embedding, EmbedRequest
from embedway.vectors import from_numbers

_NAMES = {"taskType": "task_type", "longTextMode": "long_text_mode"}


class _Usage(Struct):
    prompt_tokens: int | None = None


class _Reply(Struct):
    embeddings: list[list[float]]
    usage: _Usage | None = None


_decode_reply = msgspec.json.Decoder(_Reply).decode


def build(request: EmbedRequest, deployment: Deployment) -> HttpRequest:
    """The request."""
    body: dict[str, object] = {"model": deployment.upstream_model, "texts": request.inputs}
    if (task_type := deployment.native_input_type(request)) is not None:
        body["task_type"] = task_type
    if (dimensions := deployment.native_dimensions(request)) is not None:
        body["dimensionality"] = dimensions
    options = passed_on(request.params.options, "nomic", _NAMES)
    return post(f"{deployment.base_url}/v1/embedding/text", body | options, bearer(deployment))


def parse(
    request: EmbedRequest, deployment: Deployment, response: HttpResponse
) -> tuple[Embedding, ...]:
    """The embeddings in the order of the inputs. Raises ValueError on an unsound body."""
    reply = _decode_reply(response.body)
    vectors = [from_numbers(numbers) for numbers in reply.embeddings]
    tokens = reply.usage.prompt_tokens if reply.usage else None
    return embeddings(request, deployment, vectors, tokens)


NOMIC = Provider(
    name="nomic",
    build=build,
    parse=parse,
    explain=explain,
    base_url="https://api-atlas.nomic.ai",
    source="https://docs.nomic.ai/atlas/models/text-embedding (2026-11-21)",
)
