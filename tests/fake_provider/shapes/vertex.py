"""Vertex AI: predict with instances, and embedContent with one content.

Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/
text-embeddings-api, and recordings of the real service.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.fake_provider import served
from tests.fake_provider.checks import check_bearer, check_header, read_choice, read_object
from tests.fake_provider.exchange import (
    KEY,
    NOT_GIVEN,
    Answer,
    Asked,
    Item,
    Refused,
    Request,
    refuse,
)
from tests.fake_provider.json_text import json_answer, numbers
from tests.fake_provider.shapes.google import TASKS, read_content, status_answer

_PATH = re.compile(
    r"/v1(?:beta1)?(/projects/[\w-]+/locations/[\w-]+)?/publishers/google/models/"
    r"([\w.-]+):(predict|embedContent)"
)
_TOO_LONG = "The input token count is {count} but the model supports up to {max} tokens."
_CONFIG = {"taskType", "title", "outputDimensionality", "autoTruncate"}


@dataclass(frozen=True)
class _VertexAsked(Asked):
    verb: str = "predict"


class VertexShape:
    """Vertex AI's; which of the two forms an answer has depends on the verb."""

    name = "vertex"
    has_index = False

    def read(self, request: Request) -> Asked:
        """What is asked for. An API key goes without a project, a token with one."""
        found = _PATH.fullmatch(request.path)
        if request.method != "POST" or found is None:
            refuse(404, f"{request.path} was not found.")
        place, name, verb = found.groups()
        if place:
            check_bearer(request)
        else:
            check_header(request, "x-goog-api-key", KEY)
        if (model := served.find("vertex", name)) is None:
            refuse(404, f"Publisher Model {name} was not found.")
        texts, task, wanted, cuts = (_read_content if verb == "embedContent" else _read_predict)(
            request, name
        )
        dimensions = model.dimensions(wanted)
        length = model.length(dimensions)
        too_long = None if cuts else _TOO_LONG
        return _VertexAsked(
            name, texts, dimensions, task, length=length, too_long=too_long, verb=verb
        )

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """Predictions with a count each; or one embedding."""
        assert isinstance(asked, _VertexAsked)
        if asked.verb == "embedContent":
            usage: Any = NOT_GIVEN
            if tokens is not NOT_GIVEN:
                usage = {"promptTokenCount": tokens, "totalTokenCount": tokens}
            embedding = {"values": numbers(items[0].vector)} if items else None
            cut = True if any(item.is_cut for item in items) else NOT_GIVEN
            return json_answer({"embedding": embedding, "usageMetadata": usage, "truncated": cut})
        predictions = []
        for item in items:
            statistics = {"truncated": item.is_cut, "token_count": item.tokens}
            embeddings = {"statistics": statistics, "values": numbers(item.vector)}
            if item.tokens is NOT_GIVEN:
                del embeddings["statistics"]
            predictions.append({"embeddings": embeddings})
        characters = sum(len("".join(t.split())) for t in asked.texts if isinstance(t, str))
        metadata = {"billableCharacterCount": characters}
        return json_answer({"predictions": predictions, "metadata": metadata})

    def refuse(self, refused: Refused) -> Answer:
        """google.rpc.Status."""
        return status_answer(refused, refused.status, [])


_Read = tuple[list[str], str, Any, bool]
"""Texts, task, dimensions asked for, and whether long texts are cut."""


def _read_predict(request: Request, name: str) -> _Read:
    if name == "gemini-embedding-2":
        refuse(400, f"{name} is not supported for predict.")
    body = read_object(request, known=("instances", "parameters"), required=("instances",))
    instances, parameters = body["instances"], body.get("parameters", {})
    if unknown := parameters.keys() - {"outputDimensionality", "autoTruncate"}:
        refuse(400, f"Unknown parameter: {min(unknown)}")
    limit = 1 if name == "gemini-embedding-001" else 250
    if not 1 <= len(instances) <= limit:
        refuse(400, f"{len(instances)} instance(s) is allowed per prediction. At most {limit}.")
    texts = []
    for instance in instances:
        if instance.keys() - {"content", "task_type", "title"} or not instance.get("content"):
            refuse(400, "An instance has content, task_type and title.")
        if instance.get("task_type") != instances[0].get("task_type"):
            refuse(400, "The fake answers one task a request.")
        texts.append(instance["content"])
    task = read_choice(instances[0].get("task_type"), TASKS, "task_type")
    # What it takes an unmarked text for.
    wanted, cuts = parameters.get("outputDimensionality"), parameters.get("autoTruncate", True)
    return texts, task or "RETRIEVAL_QUERY", wanted, cuts


def _read_content(request: Request, name: str) -> _Read:
    if not name.startswith("gemini-"):
        refuse(400, f"{name} is not supported for embedContent.")
    body = read_object(request, known=("content", "embedContentConfig"), required=("content",))
    config = body.get("embedContentConfig", {})
    if unknown := config.keys() - _CONFIG:
        refuse(400, f"Unknown name: {min(unknown)}")
    task = read_choice(config.get("taskType"), TASKS, "taskType") or "RETRIEVAL_QUERY"
    if name == "gemini-embedding-2":
        task = ""  # it reads the task in the text alone
    wanted, cuts = config.get("outputDimensionality"), config.get("autoTruncate", True)
    return [read_content(body["content"])], task, wanted, cuts


VERTEX = VertexShape()
