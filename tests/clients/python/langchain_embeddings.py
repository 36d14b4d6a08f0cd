"""langchain-openai: token arrays unless told otherwise."""

from __future__ import annotations

import math
from typing import Any

import tiktoken
from cases import case, main, question
from langchain_openai import OpenAIEmbeddings

HELLO, THREE = question["hello"], question["three"]
PIECE_TOKENS = 8191
LONG = " ".join(f"word{i}" for i in range(4000))


def embeddings(**fields: Any) -> OpenAIEmbeddings:
    settings = {"model": question["model"], "base_url": f"{question['url']}/v1", "api_key": "any"}
    return OpenAIEmbeddings(**{**settings, **fields})


@case
def default_query() -> Any:
    return {"vectors": [embeddings().embed_query(HELLO)]}


@case
def default_documents() -> Any:
    return {"vectors": embeddings().embed_documents(THREE)}


@case
def default_many_documents() -> Any:
    """More than one request: it sends 1,000 texts in each."""
    vectors = embeddings().embed_documents([f"t{i}" for i in range(1001)])
    return {"count": len(vectors), "vectors": [vectors[0], vectors[999], vectors[1000]]}


@case
def default_long_text_split() -> Any:
    """It cuts the text into pieces and averages their vectors, weighted by their tokens."""
    encoding = tiktoken.get_encoding("cl100k_base")
    tokens = encoding.encode(LONG)
    pieces = [tokens[i : i + PIECE_TOKENS] for i in range(0, len(tokens), PIECE_TOKENS)]
    return {
        "vectors": [embeddings().embed_query(LONG)],
        "pieces": [encoding.decode(piece) for piece in pieces],
        "weights": [len(piece) for piece in pieces],
    }


@case
def default_empty_text() -> Any:
    """For an empty text it sends another request, with an empty input."""
    return {"vectors": embeddings().embed_documents(["a", ""])}


@case
def default_dimensions() -> Any:
    return {"vectors": embeddings(dimensions=64).embed_documents(THREE)}


@case
async def default_async_documents() -> Any:
    return {"vectors": await embeddings().aembed_documents(THREE)}


@case
async def default_async_query() -> Any:
    return {"vectors": [await embeddings().aembed_query(HELLO)]}


@case
def default_upstream_model() -> Any:
    """A model that takes token ids gets them as they are."""
    small = embeddings(model="text-embedding-3-small")
    return {"vectors": [small.embed_query(HELLO)]}


@case
def raw_query() -> Any:
    return {"vectors": [embeddings(check_embedding_ctx_length=False).embed_query(HELLO)]}


@case
def raw_documents() -> Any:
    return {"vectors": embeddings(check_embedding_ctx_length=False).embed_documents(THREE)}


@case
def raw_dimensions() -> Any:
    short = embeddings(check_embedding_ctx_length=False, dimensions=128)
    return {"vectors": short.embed_documents(THREE)}


@case
def raw_model_kwargs() -> Any:
    fields = {"encoding_format": "float", "extra_body": {"gateflow": {"cache": "skip"}}}
    plain = embeddings(check_embedding_ctx_length=False, model_kwargs=fields)
    return {"vectors": [plain.embed_query(HELLO)]}


@case
async def raw_async_documents() -> Any:
    raw = embeddings(check_embedding_ctx_length=False, default_headers={"x-tenant": "t1"})
    return {"vectors": await raw.aembed_documents(THREE)}


@case
def unknown_model() -> Any:
    return {"vectors": [embeddings(model="nobody/nothing").embed_query(HELLO)]}


@case
def norm_of_long_text() -> Any:
    return {"norm": math.hypot(*embeddings().embed_query(LONG))}


main()
