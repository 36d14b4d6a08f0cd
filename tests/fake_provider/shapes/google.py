"""The Gemini API: batchEmbedContents, one entry for each text.

Source: https://ai.google.dev/api/embeddings, and recordings of the real service.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from tests.fake_provider import served
from tests.fake_provider.checks import check_header, read_choice, read_object
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

TASKS = (
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
)
_PATH = re.compile(r"/v1(?:beta)?/models/([^/:]+):batchEmbedContents")
_ENTRY = {"model", "content", "taskType", "title", "outputDimensionality"}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class GoogleShape:
    """The Gemini API's."""

    name = "google"
    has_index = False

    def read(self, request: Request) -> Asked:
        """What is asked for. gemini-embedding-2 ignores the task type."""
        found = _PATH.fullmatch(request.path)
        if request.method != "POST" or found is None:
            refuse(404, f"{request.path} was not found.")
        check_header(request, "x-goog-api-key", KEY)
        name = unquote(found[1])
        if (model := served.find("google", name)) is None:
            refuse(404, f"models/{name} is not found for API version v1beta")
        entries = read_object(request, known=("requests",), required=("requests",))["requests"]
        if not 1 <= len(entries) <= 100:
            refuse(400, "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one")
        texts = [_read_entry(entry, name) for entry in entries]
        first = entries[0]
        if any({**e, "content": 0} != {**first, "content": 0} for e in entries):
            refuse(400, "The fake answers one task and one length a batch.")
        task = read_choice(first.get("taskType"), TASKS, "taskType") or ""
        dimensions = model.dimensions(first.get("outputDimensionality"))
        return Asked(
            model=name,
            texts=texts,
            dimensions=dimensions,
            task="" if name == "gemini-embedding-2" else task,
            length=model.length(dimensions),
        )

    def write(self, asked: Asked, items: Sequence[Item], tokens: Any) -> Answer:
        """The vectors in order; only gemini-embedding-2 counts the tokens."""
        usage: Any = NOT_GIVEN
        if asked.model == "gemini-embedding-2" and tokens is not NOT_GIVEN:
            details = [{"modality": "TEXT", "tokenCount": tokens}]
            usage = {"promptTokenCount": tokens, "promptTokenDetails": details}
        vectors = [{"values": numbers(item.vector)} for item in items]
        return json_answer({"embeddings": vectors, "usageMetadata": usage})

    def refuse(self, refused: Refused) -> Answer:
        """google.rpc.Status; a bad key is an invalid argument, and a wait stands in the details."""
        status, details = refused.status, []
        if status == 401:
            status = 400
            details.append({"@type": _type("ErrorInfo"), "reason": "API_KEY_INVALID"})
        return status_answer(refused, status, details)


def status_answer(refused: Refused, status: int, details: list[dict[str, Any]]) -> Answer:
    """A google.rpc.Status."""
    if refused.retry_after_s is not None:
        details.append({"@type": _type("RetryInfo"), "retryDelay": f"{refused.retry_after_s:g}s"})
    error: dict[str, Any] = {
        "code": status,
        "message": refused.message,
        "status": _STATUSES.get(status, "UNKNOWN"),
        "details": details or NOT_GIVEN,
    }
    return json_answer({"error": error}, status)


def read_content(content: Any) -> str:
    """The text of a content; its parts are put together, as the service does it."""
    if not isinstance(content, dict) or content.keys() - {"role", "parts"}:
        refuse(400, "Invalid JSON payload received: content")
    texts = [part["text"] for part in content["parts"] if part.keys() == {"text"}]
    if len(texts) != len(content["parts"]) or not all(texts):
        refuse(400, "The parts of a content must be texts, none of them empty.")
    return "\n".join(texts)


def _read_entry(entry: Any, name: str) -> str:
    if unknown := entry.keys() - _ENTRY:
        refuse(400, f"Invalid JSON payload received. Unknown name: {min(unknown)}")
    if entry.get("model") != f"models/{name}":
        refuse(400, "Every entry of a batch must name the model of the path.")
    if "title" in entry and entry.get("taskType") != "RETRIEVAL_DOCUMENT":
        refuse(400, "A title is for RETRIEVAL_DOCUMENT only.")
    return read_content(entry["content"])


def _type(name: str) -> str:
    return f"type.googleapis.com/google.rpc.{name}"


GOOGLE = GoogleShape()
