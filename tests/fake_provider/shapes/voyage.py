"""Voyage AI's embeddings API: OpenAI's answers with the total of tokens only, flat errors.

Source: https://github.com/voyage-ai/openapi, and recordings of the real service.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fake_provider import served
from tests.fake_provider.checks import check_bearer, read_choice, read_object, read_texts
from tests.fake_provider.exchange import NOT_GIVEN, Answer, Asked, Item, Refused, Request, refuse
from tests.fake_provider.json_text import json_answer, packed
from tests.fake_provider.shapes.openai import wait

_FIELDS = (
    "input",
    "model",
    "input_type",
    "truncation",
    "output_dimension",
    "output_dtype",
    "encoding_format",
)


class VoyageShape:
    """Voyage's."""

    name = "voyage"
    has_index = True

    def read(self, request: Request) -> Asked:
        """What is asked for; nulls are welcome, "float" as an encoding is not."""
        if (request.method, request.path) != ("POST", "/v1/embeddings"):
            refuse(404, "Not Found")
        check_bearer(request)
        body = read_object(request, known=_FIELDS, required=("model", "input"))
        if (model := served.find("voyage", body["model"])) is None:
            refuse(400, f"Model {body['model']} is not supported. Supported models are [...].")
        read_choice(body.get("output_dtype"), ("float",), "output_dtype")
        read_choice(body.get("truncation"), (True, False), "truncation")
        too_many = "The batch size limit is 128."
        return Asked(
            model=body["model"],
            texts=read_texts(body["input"], limit=128, too_many=too_many),
            dimensions=model.dimensions(body.get("output_dimension")),
            task=read_choice(body.get("input_type"), ("query", "document"), "input_type") or "",
            is_base64=read_choice(body.get("encoding_format"), ("base64",), "encoding_format")
            is not None,
            too_long=None
            if body.get("truncation", True)
            else "Your text has {count} tokens, the max allowed tokens are {max}.",
        )

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """OpenAI's list, but for the usage."""
        data = [
            {
                "object": "embedding",
                "embedding": packed(item.vector, is_base64=asked.is_base64),
                "index": item.index,
            }
            for item in items
        ]
        usage = NOT_GIVEN if tokens is NOT_GIVEN else {"total_tokens": tokens}
        return json_answer({"object": "list", "data": data, "model": asked.model, "usage": usage})

    def refuse(self, refused: Refused) -> Answer:
        """Only a detail."""
        return json_answer({"detail": refused.message}, refused.status, wait(refused))


VOYAGE = VoyageShape()
