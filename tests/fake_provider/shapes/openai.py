"""OpenAI's shape, and those of its look-alikes with their quirks: one row each at the foot.

Source: https://github.com/openai/openai-openapi (openapi.yaml), and the pages that
src/embedway/providers/openai.py names for the look-alikes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fake_provider import served
from tests.fake_provider.checks import check_bearer, read_choice, read_object
from tests.fake_provider.exchange import NOT_GIVEN, Answer, Asked, Item, Refused, Request, refuse
from tests.fake_provider.json_text import json_answer, packed
from tests.fake_provider.vectors import LENGTH_UNLESS_ONE

FIELDS = ("model", "input", "encoding_format", "dimensions", "user")
TOO_LONG = "This model's maximum context length is {max} tokens, however you requested {count}."
_TYPES = {401: "invalid_request_error", 404: "invalid_request_error", 429: "requests"}


@dataclass(frozen=True)
class OpenAIShape:
    """OpenAI's, or a look-alike's."""

    name: str
    path: str = "/v1/embeddings"
    known: Collection[str] = FIELDS
    required: Collection[str] = ("model", "input")
    max_inputs: int = 2048
    encodings: Collection[str] = ("float", "base64")
    takes_token_ids: bool = False
    ignores_dimensions: bool = False
    has_usage: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields that its answers have and OpenAI's do not."""
    check: Callable[[Request], None] = check_bearer
    too_long: str | None = TOO_LONG
    has_index: bool = True

    def read(self, request: Request) -> Asked:
        """What is asked for, by OpenAI's rules."""
        if (request.method, request.path) != ("POST", self.path):
            refuse(404, f"Invalid URL ({request.method} {request.path})")
        self.check(request)
        body = read_object(request, known=self.known, required=self.required)
        return self.read_body(body, body["model"])

    def read_body(self, body: dict[str, Any], name: str) -> Asked:
        """What the fields of the body ask of the model called *name*."""
        if (model := served.find(self.name, name)) is None:
            refuse(404, f"The model `{name}` does not exist or you do not have access to it.")
        encoding = read_choice(body.get("encoding_format"), self.encodings, "encoding_format")
        wanted = None if self.ignores_dimensions else body.get("dimensions")
        dimensions = model.dimensions(wanted)
        length = model.length(dimensions)
        if "normalize" in self.known and not body.get("normalize"):
            length = LENGTH_UNLESS_ONE
        if self.name == "infinity" and dimensions != model.width:
            length = 0.5  # cut, and left so
        return Asked(
            model=name,
            texts=read_input(body["input"], self.max_inputs, self.takes_token_ids),
            dimensions=dimensions,
            task=read_choice(body.get("input_type"), ("query", "passage"), "input_type") or "",
            is_base64=encoding == "base64",
            length=length,
            too_long=self.too_long,
        )

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """The list of vectors with their indexes."""
        data = [
            {
                "object": "embedding",
                "index": item.index,
                "embedding": packed(item.vector, is_base64=asked.is_base64),
            }
            for item in items
        ]
        usage: Any = NOT_GIVEN
        if self.has_usage and tokens is not NOT_GIVEN:
            usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_answer(
            {"object": "list", "data": data, "model": asked.model, "usage": usage, **self.extra},
            headers={"x-request-id": "req_1", "openai-version": "2020-10-01"},
        )

    def refuse(self, refused: Refused) -> Answer:
        """The envelope with its four keys."""
        kind = "server_error" if refused.status >= 500 else "invalid_request_error"
        error = {
            "message": refused.message,
            "type": _TYPES.get(refused.status, kind),
            "param": None,
            "code": refused.code or None,
        }
        return json_answer({"error": error}, refused.status, wait(refused))


def wait(refused: Refused) -> dict[str, str]:
    """The header that says how long to wait."""
    if refused.retry_after_s is None:
        return {}
    return {"retry-after": f"{refused.retry_after_s:g}"}


def read_input(
    value: Any, max_inputs: int, takes_token_ids: bool = False
) -> list[str | tuple[int, ...]]:
    """Texts; or lists of token ids, where they are taken."""
    wrong = "'$.input' is invalid. Please check the API reference."
    if isinstance(value, str) or (isinstance(value, list) and value and type(value[0]) is int):
        value = [value]
    if not isinstance(value, list) or not 1 <= len(value) <= max_inputs or not all(value):
        refuse(400, wrong)
    if all(type(text) is str for text in value):
        return list(value)
    are_ids = all(isinstance(ids, list) and all(type(id) is int for id in ids) for ids in value)
    if not takes_token_ids or not are_ids:
        refuse(400, wrong)
    return [tuple(ids) for ids in value]


def _check_nothing(request: Request) -> None:
    """Servers at home ask for no credential."""


ROWS = (
    OpenAIShape("openai", takes_token_ids=True),
    OpenAIShape("together", known=("model", "input"), has_usage=False),
    OpenAIShape(
        "fireworks",
        known=("model", "input", "prompt_template", "dimensions", "return_logits", "normalize"),
    ),
    OpenAIShape("deepinfra", encodings=("float",)),
    OpenAIShape(
        "nvidia",
        known=(*FIELDS, "input_type", "truncate", "embedding_type", "modality"),
        required=("model", "input", "input_type"),
    ),
    OpenAIShape("openrouter", known=(*FIELDS, "input_type", "provider"), takes_token_ids=True),
    OpenAIShape("vercel", known=(*FIELDS, "providerOptions")),
    OpenAIShape(
        "vllm",
        known=(*FIELDS, "truncate_prompt_tokens", "use_activation", "priority"),
        takes_token_ids=True,
        extra={"id": "embd-1", "created": 1},
        check=_check_nothing,
    ),
    OpenAIShape(
        "infinity",
        path="/embeddings",
        known=(*FIELDS, "modality"),
        extra={"id": "infinity-1", "created": 1},
        check=_check_nothing,
        too_long=None,
    ),
    OpenAIShape("lm-studio", ignores_dimensions=True, check=_check_nothing),
    OpenAIShape(
        "llama-cpp",
        known=(*FIELDS, "embd_normalize"),
        ignores_dimensions=True,
        takes_token_ids=True,
        check=_check_nothing,
        too_long="input is too large to process. increase the physical batch size",
    ),
    OpenAIShape("openai-compatible"),
)
