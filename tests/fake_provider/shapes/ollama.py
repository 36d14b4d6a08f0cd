"""Ollama's own embeddings API. Answers come in chunks.

Source: https://github.com/ollama/ollama (commit fb307609, server/routes.go).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fake_provider import served
from tests.fake_provider.checks import read_object
from tests.fake_provider.exchange import Answer, Asked, Item, Refused, Request, refuse
from tests.fake_provider.json_text import json_answer, numbers
from tests.fake_provider.shapes.openai import wait

_FIELDS = ("model", "input", "truncate", "options", "keep_alive", "dimensions")


class OllamaShape:
    """Ollama's; it asks for no credential, and ignores one."""

    name = "ollama"
    has_index = False

    def read(self, request: Request) -> Asked:
        """What is asked for; more dimensions than there are is ignored."""
        if (request.method, request.path) != ("POST", "/api/embed"):
            refuse(404, "404 page not found")
        body = read_object(request, known=_FIELDS, required=("model",))
        model = served.ANY
        if body["model"] == "nope":
            refuse(404, 'model "nope" not found, try pulling it first')
        given = body.get("input", [])
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(type(text) is str for text in texts):
            refuse(400, "invalid input type")
        wanted: Any = body.get("dimensions")
        width: int = wanted if wanted in model.allowed else model.width
        return Asked(
            model=body["model"],
            texts=texts,
            dimensions=width,
            too_long=None
            if body.get("truncate", True)
            else "the input length exceeds the context length",
        )

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """The vectors in order, and how long it took in nanoseconds."""
        body = {
            "model": asked.model,
            "embeddings": [numbers(item.vector) for item in items],
            "total_duration": 19_109_704,
            "load_duration": 1_904_654,
            "prompt_eval_count": tokens,
        }
        return json_answer(body, is_chunked=True)

    def refuse(self, refused: Refused) -> Answer:
        """The error is a text."""
        return json_answer({"error": refused.message}, refused.status, wait(refused))


OLLAMA = OllamaShape()
