"""What is built on openai-python: langchain, llama-index, litellm, haystack, mem0; and httpx."""

from __future__ import annotations

import numpy as np
import pytest

from tests.clients.conftest import Ask
from tests.clients.fake_openai import fake_vector
from tests.clients.gateways import MODEL
from tests.clients.reference import TOLERANCE, Reference
from tests.clients.vectors import bits

LANGCHAIN = "python/langchain_embeddings.py"
LLAMA_INDEX = "python/llama_index_like.py"
LITELLM = "python/litellm_openai.py"
HAYSTACK = "python/haystack_openai.py"
MEM0 = "python/mem0_openai.py"
HTTPX = "python/plain_httpx.py"

HELLO = ["Hello, world!"]
THREE = ["The cat sat.", "Ein Hund läuft 🐕", "third text"]


def counting(count: int) -> list[str]:
    """`t0`, `t1`, ...: as many as make a client split them."""
    return [f"t{i}" for i in range(count)]


VECTORS = [
    (LANGCHAIN, "default_query", HELLO, 256),
    (LANGCHAIN, "default_documents", THREE, 256),
    (LANGCHAIN, "default_dimensions", THREE, 64),
    (LANGCHAIN, "default_async_documents", THREE, 256),
    (LANGCHAIN, "default_async_query", HELLO, 256),
    (LANGCHAIN, "raw_query", HELLO, 256),
    (LANGCHAIN, "raw_documents", THREE, 256),
    (LANGCHAIN, "raw_dimensions", THREE, 128),
    (LANGCHAIN, "raw_model_kwargs", HELLO, 256),
    (LANGCHAIN, "raw_async_documents", THREE, 256),
    (LLAMA_INDEX, "query", HELLO, 256),
    (LLAMA_INDEX, "documents", counting(25), 256),
    (LLAMA_INDEX, "dimensions", THREE, 64),
    (LLAMA_INDEX, "async_list", THREE, 256),
    (LITELLM, "string", HELLO, 256),
    (LITELLM, "list_input", THREE, 256),
    (LITELLM, "extra_body", THREE, 64),
    (LITELLM, "async_list", THREE, 256),
    (HAYSTACK, "text", HELLO, 256),
    (HAYSTACK, "documents", counting(70), 256),
    (HAYSTACK, "dimensions", HELLO, 128),
    (MEM0, "text", HELLO, 256),
    (MEM0, "batch", counting(101), 256),
    (MEM0, "dimensions", HELLO, 64),
    (HTTPX, "minimal", HELLO, 256),
    (HTTPX, "list_input", THREE, 256),
    (HTTPX, "provider_field", HELLO, 256),
]


def name(script: str) -> str:
    """The script's name alone, for the test's id."""
    return script.removeprefix("python/").removesuffix(".py")


@pytest.mark.parametrize(
    ("script", "case", "expected", "dimensions"),
    [pytest.param(*row, id=f"{name(row[0])}-{row[1]}") for row in VECTORS],
)
def test_vectors(
    script: str, case: str, expected: list[str], dimensions: int, ask: Ask, reference: Reference
) -> None:
    """A framework with its own defaults gets the model's own vectors, in the texts' order."""
    reference.check(ask(script, case)["vectors"], expected, dimensions)


def test_langchain_splits_many_documents(ask: Ask, reference: Reference) -> None:
    """langchain's 1,001 documents, as token ids in two requests, come back in order."""
    answer = ask(LANGCHAIN, "default_many_documents")
    assert answer["count"] == 1001
    reference.check(answer["vectors"], ["t0", "t999", "t1000"])


def test_langchain_long_text(ask: Ask, reference: Reference) -> None:
    """A text that langchain cuts after 8,191 tokens is the weighted mean of its pieces."""
    answer = ask(LANGCHAIN, "default_long_text_split")
    assert len(answer["pieces"]) > 1
    mean = np.average(reference.long_vectors(answer["pieces"]), axis=0, weights=answer["weights"])
    expected = mean / np.linalg.norm(mean)
    assert np.abs(np.asarray(answer["vectors"][0]) - expected).max() <= TOLERANCE


def test_langchain_token_ids_reach_a_provider_that_takes_them(ask: Ask) -> None:
    """langchain's token ids go to OpenAI as they are, not as decoded text."""
    answer = ask(LANGCHAIN, "default_upstream_model")
    expected = fake_vector([9906, 11, 1917, 0], 1536).astype(np.float64)
    assert np.abs(np.asarray(answer["vectors"][0]) - expected).max() <= TOLERANCE


def test_langchain_empty_text(ask: Ask) -> None:
    """An empty text, for which langchain sends an empty input, is refused by name."""
    error = ask(LANGCHAIN, "default_empty_text")["error"]
    assert (error["status_code"], error["code"]) == (400, "invalid_input")
    assert "empty text" in error["message"]


def test_token_ids_and_text_are_the_same_bits(ask: Ask) -> None:
    """The same text as cl100k ids or as a string is the same vector, bit for bit."""
    tokens, text = (ask(LANGCHAIN, case)["vectors"] for case in ("default_query", "raw_query"))
    assert bits(tokens) == bits(text)


@pytest.mark.parametrize(
    ("script", "case"), [(LITELLM, "list_input"), (HAYSTACK, "text"), (HAYSTACK, "documents")]
)
def test_usage_reaches_the_framework(script: str, case: str, ask: Ask) -> None:
    """Frameworks that add up `usage` find whole numbers there."""
    usage = ask(script, case)["usage"]
    assert 0 < usage["prompt_tokens"] == usage["total_tokens"]


@pytest.mark.parametrize("script", [LANGCHAIN, LLAMA_INDEX, LITELLM, HAYSTACK, MEM0], ids=name)
def test_unknown_model(script: str, ask: Ask) -> None:
    """Under every framework an unknown model is a NotFoundError that says where to look."""
    error = ask(script, "unknown_model")["error"]
    assert error["classes"][0] == "NotFoundError"
    assert "nobody/nothing" in error["text"]
    assert "GET /v1/models" in error["text"]


def test_plain_http(ask: Ask) -> None:
    """A caller without any SDK speaks plain HTTP/1.1, with the slash of a model's name as it is."""
    answer = ask(HTTPX, "http2_is_not_needed")
    assert answer == {"versions": ["HTTP/1.1", "HTTP/1.1"], "id": MODEL}
