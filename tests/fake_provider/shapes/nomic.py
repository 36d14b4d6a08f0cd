"""Nomic's Atlas embeddings API: bare vectors and a usage.

Source: https://github.com/nomic-ai/nomic (nomic/embed.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fake_provider import served
from tests.fake_provider.checks import check_bearer, read_choice, read_object, read_texts
from tests.fake_provider.exchange import NOT_GIVEN, Answer, Asked, Item, Refused, Request, refuse
from tests.fake_provider.json_text import json_answer, numbers
from tests.fake_provider.shapes.openai import wait

_FIELDS = ("texts", "model", "task_type", "dimensionality", "long_text_mode")
_TASKS = ("search_query", "search_document", "classification", "clustering")


class NomicShape:
    """Nomic's."""

    name = "nomic"
    has_index = False

    def read(self, request: Request) -> Asked:
        """What is asked for; an unmarked text is a document."""
        if (request.method, request.path) != ("POST", "/v1/embedding/text"):
            refuse(404, "Not Found")
        check_bearer(request)
        body = read_object(request, known=_FIELDS, required=("model", "texts"))
        if (model := served.find("nomic", body["model"])) is None:
            refuse(404, f"Unknown model: {body['model']}")
        task = read_choice(body.get("task_type"), _TASKS, "task_type")
        return Asked(
            model=body["model"],
            texts=read_texts(body["texts"], limit=400, too_many="Too many texts"),
            dimensions=model.dimensions(body.get("dimensionality")),
            task=task or "search_document",
        )

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """The vectors in order."""
        usage: Any = {"prompt_tokens": tokens, "total_tokens": tokens}
        body = {
            "embeddings": [numbers(item.vector) for item in items],
            "usage": NOT_GIVEN if tokens is NOT_GIVEN else usage,
            "model": asked.model,
        }
        return json_answer(body)

    def refuse(self, refused: Refused) -> Answer:
        """Only a detail."""
        return json_answer({"detail": refused.message}, refused.status, wait(refused))


NOMIC = NomicShape()
