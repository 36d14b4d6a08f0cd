"""haystack: its two embedders for OpenAI's API."""

from __future__ import annotations

from typing import Any

from cases import case, main, question
from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret

BASE, MODEL = f"{question['url']}/v1", question["model"]
HELLO = question["hello"]


def settings(**fields: Any) -> dict[str, Any]:
    key = Secret.from_token("any")
    return {"api_key": key, "model": MODEL, "api_base_url": BASE, **fields}


@case
def text() -> Any:
    answer = OpenAITextEmbedder(**settings()).run(HELLO)
    return {"vectors": [answer["embedding"]], "usage": answer["meta"]["usage"]}


@case
def documents() -> Any:
    """More than one request: it sends 32 texts in each."""
    documents = [Document(content=f"t{i}") for i in range(70)]
    embedder = OpenAIDocumentEmbedder(**settings(), progress_bar=False, raise_on_failure=True)
    answer = embedder.run(documents)
    return {"vectors": [d.embedding for d in answer["documents"]], "usage": answer["meta"]["usage"]}


@case
def dimensions() -> Any:
    answer = OpenAITextEmbedder(**settings(dimensions=128)).run(HELLO)
    return {"vectors": [answer["embedding"]]}


@case
def unknown_model() -> Any:
    return OpenAITextEmbedder(**settings(model="nobody/nothing")).run(HELLO)


main()
