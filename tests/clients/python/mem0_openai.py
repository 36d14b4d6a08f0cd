"""mem0: its embedder for OpenAI's API."""

from __future__ import annotations

from typing import Any

from cases import case, main, question
from mem0.configs.embeddings.base import BaseEmbedderConfig
from mem0.embeddings.openai import OpenAIEmbedding

BASE, MODEL = f"{question['url']}/v1", question["model"]
HELLO = question["hello"]


def memory(**fields: Any) -> OpenAIEmbedding:
    settings = {"model": MODEL, "api_key": "any", "openai_base_url": BASE, **fields}
    return OpenAIEmbedding(BaseEmbedderConfig(**settings))


@case
def text() -> Any:
    return {"vectors": [memory().embed(HELLO, "add")]}


@case
def batch() -> Any:
    """More than one request: it sends 100 texts in each, and sorts by index."""
    return {"vectors": memory().embed_batch([f"t{i}" for i in range(101)])}


@case
def dimensions() -> Any:
    return {"vectors": [memory(embedding_dims=64).embed(HELLO, "search")]}


@case
def unknown_model() -> Any:
    return {"vectors": [memory(model="nobody/nothing").embed(HELLO, "add")]}


main()
