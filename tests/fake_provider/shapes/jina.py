"""Jina AI's embeddings API: OpenAI's answers, `task` and `embedding_type`.

Source: https://github.com/jina-ai/meta-prompt (v9).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fake_provider import served
from tests.fake_provider.checks import check_bearer, read_choice, read_object, read_texts
from tests.fake_provider.exchange import Answer, Asked, Item, Refused, Request, refuse
from tests.fake_provider.json_text import json_answer
from tests.fake_provider.shapes.openai import OpenAIShape, wait

_FIELDS = ("model", "input", "embedding_type", "task", "dimensions", "truncate", "late_chunking")
_V5 = ("retrieval.query", "retrieval.passage", "text-matching", "clustering", "classification")
_V3 = ("retrieval.query", "retrieval.passage", "text-matching", "classification", "separation")
_V4 = ("retrieval.query", "retrieval.passage", "text-matching", "code.query", "code.passage")


class JinaShape:
    """Jina's."""

    name = "jina"
    has_index = True

    def read(self, request: Request) -> Asked:
        """What is asked for; what is wrong is a 422."""
        if (request.method, request.path) != ("POST", "/v1/embeddings"):
            refuse(404, "Not Found")
        check_bearer(request)
        body = read_object(request, known=_FIELDS, required=("model", "input"), status=422)
        if (model := served.find("jina", body["model"])) is None:
            refuse(422, "Model not found")
        tasks = _V4 if "v4" in body["model"] else _V3 if "v3" in body["model"] else _V5
        kind = read_choice(body.get("embedding_type"), ("float", "base64"), "embedding_type", 422)
        return Asked(
            model=body["model"],
            texts=read_texts(body["input"], limit=2048, too_many="Too many inputs", status=422),
            dimensions=model.dimensions(body.get("dimensions"), 422),
            task=read_choice(body.get("task"), tasks, "task", 422) or "",
            is_base64=kind == "base64",
            too_long=None if body.get("truncate") else "Input text exceeds max tokens of {max}",
            too_long_status=422,
        )

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """OpenAI's list."""
        return OpenAIShape("jina").write(asked, items, tokens)

    def refuse(self, refused: Refused) -> Answer:
        """Only a detail."""
        return json_answer({"detail": refused.message}, refused.status, wait(refused))


JINA = JinaShape()
