"""Google's Vertex AI.

POST {base_url}/v1/projects/{project}/locations/{location}/publishers/google/models/{model}:VERB.
VERB is `predict` for text-embedding-* and text-multilingual-embedding-*: instances[] of content,
task_type, title, and parameters with outputDimensionality, autoTruncate. It is `embedContent` for
every Gemini model, as Google's own SDK has it: one content a call, and embedContentConfig with
taskType, title, outputDimensionality, autoTruncate. Both cut texts unless told not to.
The credential is an access token; without a project it is an API key ("express mode").
Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/
text-embeddings-api (2026-11-21), and what google-genai 3.4 sends and reads.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from embedway.options import passed_on
from embedway.provider import Deployment, HttpRequest, HttpResponse, Provider
from embedway.providers.google import (
    OPTION_NAMES,
    UsageMetadata,
    Values,
    api_key,
    content,
    explain,
    marked_texts,
    native_task_type,
    versioned,
)
from embedway.replies import embeddings
from embedway.requests import bearer, post
from embedway.types import Embedding, EmbedRequest
from embedway.vectors import from_numbers


class _Statistics(Struct, frozen=True):
    token_count: float | None = None  # a whole number, but its SDK calls it a float
    truncated: bool = False


class _Embeddings(Values):
    statistics: _Statistics = _Statistics()


class _Prediction(Struct):
    embeddings: _Embeddings


class _PredictReply(Struct):
    predictions: list[_Prediction]


class _ContentReply(Struct, rename="camel"):
    embedding: Values
    usage_metadata: UsageMetadata | None = None
    truncated: bool = False


_decode_predictions = msgspec.json.Decoder(_PredictReply).decode
_decode_content = msgspec.json.Decoder(_ContentReply).decode


def build(request: EmbedRequest, deployment: Deployment) -> HttpRequest:
    """The request; the URL and the body depend on the model."""
    options = passed_on(request.params.options, "vertex", OPTION_NAMES)
    if (task_type := native_task_type(request, deployment)) is not None:
        options.setdefault("taskType", task_type)
    settings: dict[str, object] = {"autoTruncate": options.pop("autoTruncate", False)}
    if (dimensions := deployment.native_dimensions(request)) is not None:
        settings["outputDimensionality"] = dimensions
    texts = marked_texts(request, deployment)
    if _embeds_content(deployment):
        (text,) = texts  # several would become parts of one content, and one vector
        body = {"content": content(text), "embedContentConfig": settings | options}
        return _request(deployment, "embedContent", body)
    if "taskType" in options:  # the one name that differs between the two
        options["task_type"] = options.pop("taskType")
    instances = [{"content": text, **options} for text in texts]
    return _request(deployment, "predict", {"instances": instances, "parameters": settings})


def parse(
    request: EmbedRequest, deployment: Deployment, response: HttpResponse
) -> tuple[Embedding, ...]:
    """The embeddings, which come in the order of the texts, and which texts were cut. Raises
    ValueError on an unsound body."""
    if _embeds_content(deployment):
        reply = _decode_content(response.body)
        total = reply.usage_metadata.prompt_token_count if reply.usage_metadata else None
        is_cut = frozenset({0} if reply.truncated else ())
        vector = from_numbers(reply.embedding.values)
        return embeddings(request, deployment, [vector], total, is_cut)
    found = [prediction.embeddings for prediction in _decode_predictions(response.body).predictions]
    counts = [one.statistics.token_count for one in found]
    return embeddings(
        request,
        deployment,
        [from_numbers(one.values) for one in found],
        [int(count) for count in counts if count is not None],
        frozenset(position for position, one in enumerate(found) if one.statistics.truncated),
    )


def _embeds_content(deployment: Deployment) -> bool:
    model = deployment.upstream_model
    return "gemini" in model or "maas" in model


def _request(deployment: Deployment, verb: str, body: dict[str, Any]) -> HttpRequest:
    url, credential = versioned(deployment, "v1"), api_key(deployment)
    if deployment.project:
        project, location = quote(deployment.project, safe=""), quote(deployment.location, safe="")
        url += f"/projects/{project}/locations/{location}"
        credential = bearer(deployment)
    url += f"/publishers/google/models/{quote(deployment.upstream_model, safe='')}:{verb}"
    return post(url, body, credential)


VERTEX = Provider(
    name="vertex",
    build=build,
    parse=parse,
    explain=explain,
    base_url="https://{location}-aiplatform.googleapis.com",
    source="https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/"
    "text-embeddings-api (2026-11-21)",
)
