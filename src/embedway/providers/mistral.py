"""Mistral's embeddings API.

POST {base_url}/v1/embeddings with model, input, output_dimension, output_dtype, encoding_format,
metadata, and nothing else: any other field is refused. Answers as OpenAI does.
Source: https://docs.mistral.ai/api/endpoint/embeddings (2026-11-21), and what mistralai 3.7 sends
and reads.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from embedway.errors import InvalidRequest, UpstreamError
from embedway.options import passed_on
from embedway.provider import Deployment, HttpRequest, HttpResponse, Provider
from embedway.providers.openai import parse
from embedway.replies import refusal
from embedway.requests import bearer, post
from embedway.types import EmbedRequest


class _Fault(Struct):
    """One wrong field, as FastAPI tells it; `input`, what was wrong, may be the caller's text."""

    msg: str = ""
    loc: list[str | int] = []


class _ErrorReply(Struct):
    """Either a message, or `detail`: the gate in front of the service, and FastAPI."""

    message: str | None = None
    detail: str | list[_Fault] | None = None


_decode_error = msgspec.json.Decoder(_ErrorReply).decode


def build(request: EmbedRequest, deployment: Deployment) -> HttpRequest:
    """The request; base64 is asked for because it is the cheapest to read.

    Raises InvalidRequest if the caller asks for numbers other than floats.
    """
    body: dict[str, object] = {
        "model": deployment.upstream_model,
        "input": request.inputs,
        "encoding_format": "base64",
    }
    if (dimensions := deployment.native_dimensions(request)) is not None:
        body["output_dimension"] = dimensions
    body |= _options(request)
    return post(f"{deployment.base_url}/v1/embeddings", body, bearer(deployment))


def explain(deployment: Deployment, response: HttpResponse) -> UpstreamError:
    """The error that an answer other than 2xx stands for."""
    try:
        reply = _decode_error(response.body)
    except ValueError:
        reply = _ErrorReply()
    told = reply.detail
    if isinstance(told, list):
        told = "; ".join(f"{'.'.join(map(str, fault.loc))}: {fault.msg}" for fault in told)
    return refusal(deployment, response, reply.message or told)


def _options(request: EmbedRequest) -> dict[str, Any]:
    options = passed_on(request.params.options, "mistral")
    for name in ("outputDtype", "output_dtype"):
        if options.pop(name, "float") != "float":
            field = f"providerOptions.mistral.{name}"
            raise InvalidRequest(
                f"{field} must be 'float': the vectors of this gateway are float32.", param=field
            )
    return options


MISTRAL = Provider(
    name="mistral",
    build=build,
    parse=parse,
    explain=explain,
    base_url="https://api.mistral.ai",
    source="https://docs.mistral.ai/api/endpoint/embeddings (2026-11-21)",
)
