"""Mistral's embeddings API: OpenAI's answers, other fields, and none that it does not know.

Source: https://docs.mistral.ai/api/endpoint/embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fake_provider import served
from tests.fake_provider.checks import check_bearer, read_choice, read_object
from tests.fake_provider.exchange import NOT_GIVEN, Answer, Asked, Item, Refused, Request, refuse
from tests.fake_provider.json_text import json_answer, packed
from tests.fake_provider.shapes.openai import read_input, wait
from tests.fake_provider.vectors import count_tokens

_FIELDS = ("model", "input", "output_dimension", "output_dtype", "encoding_format", "metadata")
_MAX_TOKENS = 16_384


class MistralShape:
    """Mistral's."""

    name = "mistral"
    has_index = True

    def read(self, request: Request) -> Asked:
        """What is asked for; an unknown field is a 422."""
        if (request.method, request.path) != ("POST", "/v1/embeddings"):
            refuse(404, "no Route matched with those values")
        check_bearer(request)
        body = read_object(request, known=_FIELDS, required=("model", "input"), status=422)
        if (model := served.find("mistral", body["model"])) is None:
            refuse(400, f"Invalid model: {body['model']}", "1500")
        read_choice(body.get("output_dtype"), ("float",), "output_dtype", 422)
        encoding = read_choice(body.get("encoding_format"), ("float", "base64"), "encoding_format")
        texts = read_input(body["input"], 2**20)
        if len(texts) > 512:
            refuse(400, "Too many inputs in request, split into more batches.", "3210")
        if sum(map(count_tokens, texts)) > _MAX_TOKENS:
            refuse(400, "Too many tokens overall, split into more batches.", "3210")
        dimensions = model.dimensions(body.get("output_dimension"))
        return Asked(
            model=body["model"],
            texts=texts,
            dimensions=dimensions,
            is_base64=encoding == "base64",
            too_long="Too many tokens in batch. Max is {max} got {count}",
        )

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """OpenAI's list, with an id, and nulls in the usage."""
        data = [
            {
                "object": "embedding",
                "embedding": packed(item.vector, is_base64=asked.is_base64),
                "index": item.index,
            }
            for item in items
        ]
        usage: Any = {
            "prompt_audio_seconds": None,
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "completion_tokens": 0,
            "request_count": None,
        }
        if tokens is NOT_GIVEN:
            usage = NOT_GIVEN
        return json_answer(
            {"id": "9f85", "object": "list", "data": data, "model": asked.model, "usage": usage}
        )

    def refuse(self, refused: Refused) -> Answer:
        """Flat; but a wrong field is told as FastAPI does, and a bad key by the gate before."""
        if refused.status == 401:
            return json_answer({"detail": "Unauthorized"}, 401)
        if refused.status == 422:
            place = ["body", refused.details.get("field", "")]
            fault = {"type": "extra_forbidden", "loc": place, "msg": refused.message}
            return json_answer({"detail": [fault]}, 422)
        body = {
            "object": "error",
            "message": refused.message,
            "type": "invalid_request_error",
            "param": None,
            "code": refused.code or "1000",
        }
        return json_answer(body, refused.status, wait(refused))


MISTRAL = MistralShape()
