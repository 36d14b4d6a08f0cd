"""Voyage AI's embeddings API.

POST {base_url}/embeddings with input, model, input_type, truncation, output_dimension and
encoding_format, of which "base64" is the only value. It truncates in silence unless told not to.
Answers in OpenAI's shape, but reports only `usage.total_tokens`, which has been 0 for a real call.
Source: https://github.com/voyage-ai/openapi (2025-03-31), and what voyageai 0.5.0 sends and reads.
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
    "inputType": "input_type",
    "outputDimension": "output_dimension",
    "outputDtype": "output_dtype",
}
# With status 400: "Model x is not supported. Supported models are [...]".
_NO_MODEL = re.compile(r"Model \S+ is not supported")


def build(request: EmbedRequest, deployment: Deployment) -> HttpRequest:
    """The request. Raises InvalidRequest if the caller's options ask for other than floats."""
    options = passed_on(request.params.options, "voyage", _NAMES)
    if options.pop("output_dtype", "float") != "float":
        raise InvalidRequest(
            "Vectors are float32 here: outputDtype must be 'float', or left out.",
            param="providerOptions.voyage.outputDtype",
        )
    body: dict[str, object] = {
        "model": deployment.upstream_model,
        "input": request.inputs,
        "truncation": False,
        "encoding_format": "base64",
    }
    if (input_type := deployment.native_input_type(request)) is not None:
        body["input_type"] = input_type
    if (dimensions := deployment.native_dimensions(request)) is not None:
        body["output_dimension"] = dimensions
    return post(f"{deployment.base_url}/embeddings", body | options, bearer(deployment))


def explain(deployment: Deployment, response: HttpResponse) -> UpstreamError:
    """The error that an answer other than 2xx stands for; an unknown model is a 400 here."""
    told = error_message(response.body)
    is_unknown = told is not None and _NO_MODEL.match(told) is not None
    return refusal(deployment, response, told, as_status=404 if is_unknown else None)


VOYAGE = Provider(
    name="voyage",
    build=build,
    parse=parse,
    explain=explain,
    base_url="https://api.voyageai.com/v1",
    source="https://docs.voyageai.com/reference/embeddings-api (2026-11-21)",
)
