"""Cohere's embed API, version 2 and the older 1.

Source: https://docs.cohere.com/reference/embed, and recordings of the real service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.fake_provider import served
from tests.fake_provider.checks import check_bearer, read_choice, read_object, read_texts
from tests.fake_provider.exchange import NOT_GIVEN, Answer, Asked, Item, Refused, Request, refuse
from tests.fake_provider.json_text import json_answer, numbers, packed
from tests.fake_provider.shapes.openai import wait

INPUT_TYPES = ("search_document", "search_query", "classification", "clustering")
TOO_LONG = "invalid request: text is too long, at most {max} tokens are allowed"
_FIELDS_1 = ("model", "texts", "input_type", "embedding_types", "truncate")
_FIELDS_2 = (*_FIELDS_1, "inputs", "output_dimension", "max_tokens", "priority")


@dataclass(frozen=True)
class _CohereAsked(Asked):
    version: str = "2"


class CohereShape:
    """Cohere's; no index, and the texts are echoed."""

    name = "cohere"
    has_index = False

    def read(self, request: Request) -> Asked:
        """What is asked for. An input type must be given."""
        version = {"/v1/embed": "1", "/v2/embed": "2"}.get(request.path)
        if request.method != "POST" or version is None:
            refuse(404, "page not found")
        check_bearer(request)
        known = _FIELDS_2 if version == "2" else _FIELDS_1
        body = read_object(request, known=known, required=("model", "texts"))
        if (model := served.find("cohere", body["model"])) is None:
            refuse(404, f"model '{body['model']}' not found, make sure the correct model ID was")
        return _CohereAsked(
            model=body["model"],
            texts=read_cohere_texts(body),
            dimensions=model.dimensions(body.get("output_dimension")),
            task=read_input_type(body),
            is_base64=_reads_base64(body),
            version=version,
            too_long=None if body.get("truncate", "END") != "NONE" else TOO_LONG,
        )

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """The vectors by type; version 1 has them bare."""
        assert isinstance(asked, _CohereAsked)
        vectors: Any = {
            "base64" if asked.is_base64 else "float": [
                packed(item.vector, is_base64=asked.is_base64) for item in items
            ]
        }
        kind = "embeddings_by_type"
        if asked.version == "1":
            vectors, kind = [numbers(item.vector) for item in items], "embeddings_floats"
        billed = NOT_GIVEN if tokens is NOT_GIVEN else {"input_tokens": tokens}
        body = {
            "id": "a1",
            "embeddings": vectors,
            "texts": list(asked.texts),
            "meta": {"api_version": {"version": asked.version}, "billed_units": billed},
            "response_type": kind,
        }
        return json_answer(body, headers={} if tokens is NOT_GIVEN else {"num_tokens": f"{tokens}"})

    def refuse(self, refused: Refused) -> Answer:
        """An id and a message."""
        return json_answer({"id": "a1", "message": refused.message}, refused.status, wait(refused))


def read_cohere_texts(body: dict[str, Any]) -> list[str]:
    """The texts, at most 96; checks `truncate`, too."""
    read_choice(body.get("truncate"), ("NONE", "START", "END"), "truncate")
    count = len(body["texts"])
    too_many = f"invalid request: total number of texts must be at most 96 - received {count}"
    return read_texts(body["texts"], limit=96, too_many=too_many)


def read_input_type(body: dict[str, Any]) -> str:
    """The input type, which must be given."""
    if body.get("input_type") not in INPUT_TYPES:
        refuse(400, "invalid request: valid input_type must be provided with the provided model")
    return str(body["input_type"])


def _reads_base64(body: dict[str, Any]) -> bool:
    types: list[str] = body.get("embedding_types", ["float"])
    if types not in (["float"], ["base64"]):
        refuse(400, "The fake answers one of float and base64.")
    return types == ["base64"]


COHERE = CohereShape()
