"""Jina AI's embeddings API.

POST {base_url}/embeddings with input, model, task, dimensions, truncate and embedding_type (not
OpenAI's encoding_format). Answers in OpenAI's shape; base64 is of little-endian float32.
Source: https://github.com/jina-ai/meta-prompt (v9), and what llama-index-embeddings-jinaai 0.7.0
sends and reads: Jina has no SDK of its own.
"""

from __future__ import annotations

import re

from embedway.errors import InvalidRequest, UpstreamError
from embedway.options import passed_on
from embedway.provider import Deployment, HttpRequest, HttpResponse, Provider
from embedway.providers.openai import error_message, parse
from embedway.replies import refusal
from embedway.requests import bearer, post
from embedway.types import EmbedRequest

_NAMES = {
    "inputType": "task",
    "outputDimension": "dimensions",
    "embeddingType": "embedding_type",
    "lateChunking": "late_chunking",
}
# With status 422.
_NO_MODEL = re.compile(r"model not found", re.IGNORECASE)


def build(request: EmbedRequest, deployment: Deployment) -> HttpRequest:
    """The request. Raises InvalidRequest if the caller's options ask for other than floats."""
    options = passed_on(request.params.options, "jina", _NAMES)
    if options.pop("embedding_type", "float") not in ("float", "base64"):
        raise InvalidRequest(
            "Vectors are float32 here: embeddingType must be 'float', or left out.",
            param="providerOptions.jina.embeddingType",
        )
    body: dict[str, object] = {
        "model": deployment.upstream_model,
        "input": request.inputs,
        "embedding_type": "base64",
        "truncate": False,
    }
    if (task := deployment.native_input_type(request)) is not None:
        body["task"] = task
    if (dimensions := deployment.native_dimensions(request)) is not None:
        body["dimensions"] = dimensions
    return post(f"{deployment.base_url}/embeddings", body | options, bearer(deployment))


def explain(deployment: Deployment, response: HttpResponse) -> UpstreamError:
    """The error that an answer other than 2xx stands for; an unknown model is a 422 here."""
    told = error_message(response.body)
    is_unknown = told is not None and _NO_MODEL.search(told) is not None
    return refusal(deployment, response, told, as_status=404 if is_unknown else None)


JINA = Provider(
    name="jina",
    build=build,
    parse=parse,
    explain=explain,
    base_url="https://api.jina.ai/v1",
    source="https://jina.ai/embeddings (2026-11-21)",
)
