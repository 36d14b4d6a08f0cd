"""llama-index over openai-python, through its class for OpenAI's look-alikes."""

from __future__ import annotations

from typing import Any

from cases import case, main, question
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

BASE, MODEL = f"{question['url']}/v1", question["model"]
HELLO, THREE = question["hello"], question["three"]


def llama_index(**fields: Any) -> OpenAILikeEmbedding:
    return OpenAILikeEmbedding(
        **{"model_name": MODEL, "api_base": BASE, "api_key": "any", "max_retries": 0, **fields}
    )


@case
def query() -> Any:
    return {"vectors": [llama_index().get_query_embedding(HELLO)]}


@case
def documents() -> Any:
    """More than one request: it sends ten texts in each."""
    return {"vectors": llama_index().get_text_embedding_batch([f"t{i}" for i in range(25)])}


@case
def dimensions() -> Any:
    return {"vectors": llama_index(dimensions=64).get_text_embedding_batch(THREE)}


@case
async def async_list() -> Any:
    return {"vectors": await llama_index().aget_text_embedding_batch(THREE)}


@case
def unknown_model() -> Any:
    return {"vectors": [llama_index(model_name="nobody/nothing").get_query_embedding(HELLO)]}


main()
