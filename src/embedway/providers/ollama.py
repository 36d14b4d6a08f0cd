"""Ollama's own embeddings API.

POST {base_url}/api/embed with model, input, truncate, dimensions, keep_alive, options. It truncates
in silence unless told not to, which its OpenAI-like route cannot be told. Its vectors have length
1, shortened ones too; the answer counts the tokens of all inputs together.
Source: https://github.com/ollama/ollama (commit fb307609, server/routes.go), and what ollama-python
0.6.3 sends and reads.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from embedway.errors import UpstreamError
from embedway.options import passed_on
from embedway.provider import Deployment, HttpRequest, HttpResponse, Provider
from embedway.providers.openai import error_message
from embedway.replies import embeddings, refusal
from embedway.requests import bearer, post, prefixed
from embedway.types import Embedding, EmbedRequest
from embedway.vectors import from_numbers

# Older versions tell it with status 500, as if it were the server's fault; newer ones with 400.
_TOO_LONG = re.compile(r"exceeds (the|maximum) context length")


class _Reply(Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int | None = None


_decode_reply = msgspec.json.Decoder(_Reply).decode


def build(request: EmbedRequest, deployment: Deployment) -> HttpRequest:
    """The request. A credential is for a proxy before it: Ollama itself asks for none."""
    body: dict[str, object] = {
        "model": deployment.upstream_model,
        "input": prefixed(request, deployment),
        "truncate": False,
    }
    if (dimensions := deployment.native_dimensions(request)) is not None:
        body["dimensions"] = dimensions
    options = passed_on(request.params.options, "ollama", {"keepAlive": "keep_alive"})
    return post(f"{deployment.base_url}/api/embed", body | options, bearer(deployment))


def parse(
    request: EmbedRequest, deployment: Deployment, response: HttpResponse
) -> tuple[Embedding, ...]:
    """The embeddings in the order of the inputs. Raises ValueError on an unsound body."""
    reply = _decode_reply(response.body)
    vectors = [from_numbers(numbers) for numbers in reply.embeddings]
    return embeddings(request, deployment, vectors, reply.prompt_eval_count)


def explain(deployment: Deployment, response: HttpResponse) -> UpstreamError:
    """The error that an answer other than 2xx stands for."""
    told = error_message(response.body)
    is_too_long = told is not None and _TOO_LONG.search(told) is not None
    return refusal(deployment, response, told, as_status=400 if is_too_long else None)


OLLAMA = Provider(
    name="ollama",
    build=build,
    parse=parse,
    explain=explain,
    base_url=None,
    source="https://github.com/ollama/ollama/blob/main/docs/api.md (2026-11-21)",
)
