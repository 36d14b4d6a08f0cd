"""AWS Bedrock's invoke: Titan and Nova take one text, Cohere up to 96.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html, and recordings
of the real service.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from tests.fake_provider import served
from tests.fake_provider.checks import check_bearer, read_choice, read_object
from tests.fake_provider.exchange import NOT_GIVEN, Answer, Asked, Item, Refused, Request, refuse
from tests.fake_provider.json_text import json_answer, numbers
from tests.fake_provider.shapes.cohere import read_cohere_texts, read_input_type
from tests.fake_provider.shapes.openai import wait
from tests.fake_provider.signature import check_signature
from tests.fake_provider.vectors import LENGTH_UNLESS_ONE

_PATH = re.compile(r"/model/([^/]+)/invoke")
_PURPOSES = (
    "GENERIC_INDEX",
    "GENERIC_RETRIEVAL",
    "TEXT_RETRIEVAL",
    "DOCUMENT_RETRIEVAL",
    "CLASSIFICATION",
    "CLUSTERING",
)
_KINDS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}


class BedrockShape:
    """Bedrock's; the family of the model decides on body and answer."""

    name = "bedrock"
    has_index = False

    def read(self, request: Request) -> Asked:
        """What is asked for; the id in the path is percent-encoded, colons too."""
        found = _PATH.fullmatch(request.path)
        if request.method != "POST" or found is None or ":" in found[1]:
            refuse(404, "Unable to determine service/operation name", "UnknownOperationException")
        if request.headers.get("authorization", "").startswith("Bearer "):
            check_bearer(request)
        else:
            check_signature(request)
        name = unquote(found[1])
        if (model := served.find("bedrock", name)) is None:
            refuse(400, "The provided model identifier is invalid.", "ValidationException")
        if name.startswith("cohere."):
            return _read_cohere(request, name, model)
        if "nova" in name:
            return _read_nova(request, name, model)
        return _read_titan(request, name, model)

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """The family's answer; the count stands in a header for all."""
        headers = {"x-amzn-requestid": "00000000-0000-0000-0000-000000000007"}
        if tokens is not NOT_GIVEN:
            headers["x-amzn-bedrock-input-token-count"] = f"{tokens}"
        vectors = [numbers(item.vector) for item in items]
        body: dict[str, Any]
        if asked.model.startswith("cohere."):
            is_v4 = "v4" in asked.model
            body = {
                "id": "a1",
                # Version 3 writes the texts in small letters.
                "texts": [t if is_v4 else str(t).lower() for t in asked.texts],
                "embeddings": {"float": vectors} if is_v4 else vectors,
                "response_type": "embeddings_by_type" if is_v4 else "embeddings_floats",
            }
        elif "nova" in asked.model:
            parts = [{"embeddingType": "TEXT", "embedding": vector} for vector in vectors]
            for part, item in zip(parts, items, strict=True):
                if item.is_cut:
                    part["truncatedCharLength"] = 40_000
            body = {"embeddings": parts}
        else:
            only: Any = vectors[0] if vectors else None
            body = {"embedding": only, "inputTextTokenCount": tokens}
            if "v2" in asked.model:
                body["embeddingsByType"] = {"float": only}
        return json_answer(body, headers=headers)

    def refuse(self, refused: Refused) -> Answer:
        """A message; the kind stands in a header."""
        status = 403 if refused.status == 401 else refused.status
        kind = refused.code or _KINDS.get(status, "InternalServerException")
        headers = {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/", **wait(refused)}
        return json_answer({"message": refused.message}, status, headers)


def _read_titan(request: Request, name: str, model: served.Model) -> Asked:
    fields = ("inputText", "dimensions", "normalize", "embeddingTypes")
    known = fields if "v2" in name else fields[:1]
    body = read_object(request, known=known, required=("inputText",))
    text = _one_text(body["inputText"])
    dimensions = model.dimensions(body.get("dimensions"))
    is_unit = model.unit == "always" and body.get("normalize", True)
    return Asked(
        name,
        [text],
        dimensions,
        length=1.0 if is_unit else LENGTH_UNLESS_ONE,
        too_long="400 Bad Request: Too many input tokens. Max input tokens: {max}, "
        "request input token count: {count} ",
    )


def _read_cohere(request: Request, name: str, model: served.Model) -> Asked:
    fields = ("texts", "input_type", "truncate", "embedding_types", "output_dimension")
    known = fields if "v4" in name else fields[:-1]
    body = read_object(request, known=known, required=("texts", "input_type"))
    dimensions = model.dimensions(body.get("output_dimension"))
    cuts = body.get("truncate", "NONE") != "NONE"
    return Asked(
        name,
        read_cohere_texts(body),
        dimensions,
        read_input_type(body),
        too_long=None if cuts else "Malformed input request: expected maxLength: 2048",
    )


def _read_nova(request: Request, name: str, model: served.Model) -> Asked:
    known = ("taskType", "singleEmbeddingParams", "schemaVersion")
    body = read_object(request, known=known, required=known[:2])
    params = body["singleEmbeddingParams"]
    if body["taskType"] != "SINGLE_EMBEDDING":
        refuse(400, "The fake answers SINGLE_EMBEDDING.")
    if params.keys() - {"embeddingPurpose", "embeddingDimension", "text"}:
        refuse(400, "Malformed input request: extraneous key is not permitted")
    text = params["text"]
    if text.keys() != {"value", "truncationMode"}:
        refuse(400, "Malformed input request: required keys value and truncationMode")
    read_choice(text["truncationMode"], ("NONE", "START", "END"), "truncationMode")
    purpose = params.get("embeddingPurpose")
    if purpose not in _PURPOSES:
        refuse(400, "Malformed input request: embeddingPurpose")
    dimensions = model.dimensions(params.get("embeddingDimension"))
    too_long = "The input token count ({count}) exceeds the maximum number of tokens allowed"
    return Asked(
        name,
        [_one_text(text["value"])],
        dimensions,
        purpose,
        extra_tokens=15,
        too_long=too_long if text["truncationMode"] == "NONE" else None,
    )


def _one_text(value: Any) -> str:
    if type(value) is not str or not value:
        refuse(400, "Malformed input request: expected minLength: 1")
    return value


BEDROCK = BedrockShape()
