"""Text Embeddings Inference: /embed with bare vectors, /v1/embeddings as OpenAI, /info.

Source: https://github.com/huggingface/text-embeddings-inference (commit 0d124dc9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.fake_provider import served
from tests.fake_provider.checks import check_bearer, read_object
from tests.fake_provider.exchange import (
    NOT_GIVEN,
    Answer,
    Asked,
    Item,
    Refused,
    Request,
    Told,
    refuse,
)
from tests.fake_provider.json_text import json_answer, numbers
from tests.fake_provider.shapes.openai import FIELDS, OpenAIShape, wait
from tests.fake_provider.vectors import LENGTH_UNLESS_ONE

MAX_INPUTS = 32
MODEL = "rack/small"
INFO = {
    "model_id": MODEL,
    "model_type": {"embedding": {"pooling": "cls"}},
    "max_concurrent_requests": 512,
    "max_input_length": 512,
    "max_batch_tokens": 16_384,
    "max_client_batch_size": MAX_INPUTS,
    "auto_truncate": True,
    "tokenization_workers": 2,
    "version": "1.9.3",
}
_FIELDS = ("inputs", "normalize", "truncate", "truncation_direction", "prompt_name", "dimensions")
_TOO_LONG = "Input validation error: `inputs` must have less than {max} tokens. Given: {count}"
_KINDS = {400: "Empty", 413: "Validation", 422: "Validation", 424: "Backend", 429: "Overloaded"}


@dataclass(frozen=True)
class _TeiAsked(Asked):
    is_openai: bool = False


class TeiShape:
    """TEI's; it serves one model, and does not read its name."""

    name = "tei"
    has_index = False

    def read(self, request: Request) -> Asked:
        """What is asked for, by either route."""
        check_bearer(request)
        if (request.method, request.path) == ("GET", "/info"):
            raise Told(json_answer(INFO))
        if (request.method, request.path) == ("POST", "/v1/embeddings"):
            body = read_object(request, known=FIELDS, required=("input",), status=422)
            asked = OpenAIShape("tei", takes_token_ids=True).read_body(body, MODEL)
            return _TeiAsked(**vars(asked), is_openai=True)
        if (request.method, request.path) != ("POST", "/embed"):
            refuse(404, "")
        body = read_object(request, known=_FIELDS, required=("inputs",), status=422)
        given = body["inputs"]
        texts = given if isinstance(given, list) and not _are_ids(given) else [given]
        texts = [tuple(text) if isinstance(text, list) else text for text in texts]
        if not texts or not all(texts):
            refuse(400, "`inputs` cannot be empty")
        if len(texts) > MAX_INPUTS:
            refuse(422, f"batch size {len(texts)} > maximum allowed batch size {MAX_INPUTS}")
        length = 1.0 if body.get("normalize", True) else LENGTH_UNLESS_ONE
        return _TeiAsked(
            model=MODEL,
            texts=texts,
            dimensions=served.ANY.dimensions(body.get("dimensions"), 422),
            length=length,
            too_long=None if body.get("truncate", INFO["auto_truncate"]) else _TOO_LONG,
            too_long_status=413,
        )

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """Bare vectors, the count in a header."""
        if isinstance(asked, _TeiAsked) and asked.is_openai:
            return OpenAIShape("tei").write(asked, items, tokens)
        headers = {} if tokens is NOT_GIVEN else {"x-compute-tokens": f"{tokens}"}
        return json_answer([numbers(item.vector) for item in items], headers=headers)

    def refuse(self, refused: Refused) -> Answer:
        """A message and its kind; nothing at all for a bad key."""
        if refused.status == 401:
            return Answer(401, {}, b"")
        body = {"error": refused.message, "error_type": _KINDS.get(refused.status, "Unhealthy")}
        return json_answer(body, refused.status, wait(refused))


def _are_ids(value: list[Any]) -> bool:
    return bool(value) and all(type(id) is int for id in value)


TEI = TeiShape()
