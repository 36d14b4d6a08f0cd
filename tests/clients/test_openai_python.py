"""openai-python 3, as published, against the running gateway."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.clients.conftest import Ask
from tests.clients.fake_openai import fake_vector
from tests.clients.gateways import MODEL
from tests.clients.reference import Reference
from tests.clients.vectors import bits

SCRIPT = "python/openai_python.py"

# Case: the key of its texts in texts.json, and the dimensions.
LOCAL = {
    "default_string": ("hello", 256),
    "list_input": ("three", 256),
    "encoding_format_float": ("hello", 256),
    "list_float": ("three", 256),
    "token_ids": ("hello", 256),
    "token_id_lists": ("split_texts", 256),
    "dimensions_user": ("hello", 64),
    "dimensions_128": ("hello", 128),
    "none_dimensions": ("hello", 256),
    "bare_model": ("hello", 256),
    "extra_body_gateflow_cache_skip": ("hello", 256),
    "extra_body_gateflow_fallbacks": ("hello", 256),
    "extra_body_providerOptions": ("hello", 256),
    "extra_body_provider": ("hello", 256),
    "extra_body_input_type": ("hello", 256),
    "extra_headers_query": ("hello", 256),
    "tuple_input": ("three", 256),
    "iterator_input": ("three", 256),
    "with_raw_response": ("hello", 256),
    "with_streaming_response": ("hello", 256),
    "base_url_trailing_slash": ("hello", 256),
    "base_url_without_v1": ("hello", 256),
    "async_list": ("three", 256),
    "with_a_key": ("hello", 256),
}

# Case: the model as it must come back, and the provider's vector.
UPSTREAM = {
    "upstream_model": ("text-embedding-3-small", "hello", 1536),
    "upstream_prefixed_model": ("openai/text-embedding-3-small", "hello", 1536),
    "upstream_dimensions": ("openai/text-embedding-3-small", "hello", 768),
    "upstream_token_ids": ("text-embedding-3-small", "hello_ids", 1536),
}

# Case: status, class, code, param, and a word that the message must have.
ERRORS = {
    "empty_string": (400, "BadRequestError", "invalid_input", "input[0]", "empty"),
    "empty_list": (400, "BadRequestError", "invalid_input", "input", "empty"),
    "empty_among_others": (400, "BadRequestError", "invalid_input", "input[1]", "empty"),
    "too_many_inputs": (400, "BadRequestError", "invalid_input", "input[2048]", "2048"),
    "wrong_dimensions": (
        400,
        "BadRequestError",
        "unsupported_dimensions",
        "dimensions",
        "64, 128 or 256",
    ),
    "unknown_field": (400, "BadRequestError", "invalid_parameter", "dimension", "dimensions"),
    "unknown_model": (404, "NotFoundError", "model_not_found", "model", "text-embedding-3-small"),
    "anthropic_model": (404, "NotFoundError", "model_not_found", "model", "Cohere"),
    "unserved_model": (404, "NotFoundError", "model_not_found", "model", "mistral"),
    "models_retrieve_unknown": (404, "NotFoundError", "model_not_found", "model", "/v1/models"),
    "async_error": (404, "NotFoundError", "model_not_found", "model", "nobody/nothing"),
    "with_a_wrong_key": (401, "AuthenticationError", "invalid_api_key", None, "key"),
    "big_body": (413, "APIStatusError", "request_too_large", None, "10485760"),
    "upstream_fails": (503, "InternalServerError", "provider_unavailable", None, "openai"),
    "upstream_limits": (429, "RateLimitError", "rate_limit_exceeded", None, "openai"),
}


def texts_of(texts: dict[str, Any], key: str) -> list[str]:
    """The texts of a case as a list."""
    found: str | list[str] = texts[key]
    return [found] if isinstance(found, str) else found


@pytest.mark.parametrize("case", LOCAL)
def test_vectors(case: str, ask: Ask, texts: dict[str, Any], reference: Reference) -> None:
    """Every way in which the client can ask gives the model's own vectors, in order."""
    key, dimensions = LOCAL[case]
    answer = ask(SCRIPT, case)
    expected = texts_of(texts, key)
    reference.check(answer["vectors"], expected, dimensions)
    assert answer["indexes"] == list(range(len(expected)))
    assert answer["objects"] == ["list"] + ["embedding"] * len(expected)
    assert answer["model"] == (MODEL if case != "bare_model" else "wordllama-256")
    assert 0 < answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"]
    assert answer["extra"]["gateflow"]["dimensions"] == dimensions


@pytest.mark.parametrize("case", UPSTREAM)
def test_vectors_of_a_provider(case: str, ask: Ask, texts: dict[str, Any]) -> None:
    """A provider's vectors reach the client bit for bit, its model named as the caller named it."""
    model, key, dimensions = UPSTREAM[case]
    answer = ask(SCRIPT, case)
    assert bits(answer["vectors"]) == fake_vector(texts[key], dimensions).tobytes()
    assert answer["model"] == model


@pytest.mark.parametrize(
    ("floats", "base64"),
    [
        ("encoding_format_float", "encoding_format_base64"),
        ("encoding_format_float", "default_string"),
        ("list_float", "list_input"),
    ],
)
def test_base64_and_floats_are_the_same_bits(floats: str, base64: str, ask: Ask) -> None:
    """What a client decodes from base64 is the float answer, bit for bit."""
    decoded = ask(SCRIPT, base64)["vectors"]
    assert bits(ask(SCRIPT, floats)["vectors"]) == bits(decoded)


def test_explicit_base64_stays_text(ask: Ask) -> None:
    """Asked for base64 outright, the client hands over text: 256 float32 in 1,368 letters."""
    (text,) = ask(SCRIPT, "encoding_format_base64")["vectors"]
    assert isinstance(text, str)
    assert len(text) == 1368


def test_many_callers_at_once(ask: Ask, reference: Reference) -> None:
    """Fifty callers at once, embedded together, each get their own text's vector."""
    answer = ask(SCRIPT, "async_many")
    reference.check(answer["vectors"], [f"caller {i}" for i in range(50)])


def test_most_inputs(ask: Ask, reference: Reference) -> None:
    """2,048 inputs come back as 2,048 vectors in order."""
    answer = ask(SCRIPT, "most_inputs")
    assert answer["count"] == 2048
    reference.check(answer["vectors"], ["t0", "t1024", "t2047"])


@pytest.mark.parametrize("case", ["with_raw_response", "with_streaming_response"])
def test_headers_are_visible(case: str, ask: Ask) -> None:
    """Through the client's raw responses a caller sees who answered, at what cost, and its id."""
    headers = ask(SCRIPT, case)["headers"]
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"].startswith("req_")
    assert headers["x-embedway-model"] == MODEL
    assert headers["x-embedway-provider"] == "local"
    assert headers["x-embedway-space"] == f"{MODEL}@256"
    assert headers["x-embedway-cost"] == "0"
    assert headers["cache-status"].startswith("embedway; ")
    assert headers["openai-processing-ms"].isdigit()


def test_raw_response_carries_the_request_id(ask: Ask) -> None:
    """The client's own `request_id` is that of the header and of the `gateflow` block."""
    answer = ask(SCRIPT, "with_raw_response")
    assert answer["status"] == 200
    assert answer["request_id"] == answer["headers"]["x-request-id"]
    assert answer["request_id"] == answer["body"]["gateflow"]["request_id"]
    assert answer["body"]["providerMetadata"]["gateway"]["generationId"].startswith("gen_")


def test_callers_own_request_id_comes_back(ask: Ask) -> None:
    """A sound `x-request-id` of the caller's is kept, whatever else he sends."""
    assert ask(SCRIPT, "extra_headers_query")["headers"]["x-request-id"] == "mine-1"


def test_models_list(ask: Ask) -> None:
    """The client lists the catalogue: the seed's seven models and the local one, priced as text."""
    models = {model["id"]: model for model in ask(SCRIPT, "models_list")["models"]}
    assert set(models) >= {
        MODEL,
        "openai/text-embedding-3-small",
        "openai/text-embedding-3-large",
        "openai/text-embedding-ada-002",
        "google/text-embedding-004",
        "cohere/embed-english-v3.0",
        "cohere/embed-multilingual-v3.0",
        "mistral/mistral-embed",
    }
    small = models["openai/text-embedding-3-small"]
    assert small["pricing"] == {"input": "0.00000002"}
    assert small["dimensions"]["default"] == 1536
    assert {model["object"] for model in models.values()} == {"model"}


def test_models_retrieve_with_a_slash(ask: Ask) -> None:
    """The client writes the slash of a model's name as %2F, and is understood."""
    answer = ask(SCRIPT, "models_retrieve_slash")
    assert answer["path"].endswith("/v1/models/local%2Fwordllama-256")
    assert answer["model"]["id"] == MODEL
    assert answer["model"]["owned_by"] == "local"


def test_fallback_is_told(ask: Ask, reference: Reference) -> None:
    """A fallback through `extra_body` gives the other model's vector, and says so."""
    answer = ask(SCRIPT, "extra_body_fallback_used")
    reference.check(answer["vectors"], ["the upstream fails"])
    routing = answer["extra"]["gateflow"]["routing"]
    assert routing["requested_model"] == "openai/text-embedding-3-small"
    assert routing["selected_model"] == MODEL
    assert routing["fallback_used"] is True
    assert [attempt["status"] for attempt in routing["attempts"]] == ["failed", "failed", "success"]


def test_wrong_provider_is_refused(ask: Ask) -> None:
    """A provider that does not serve the model is the caller's mistake, not another's vector."""
    error = ask(SCRIPT, "extra_body_wrong_provider")["error"]
    assert error["status_code"] == 400
    assert "cohere" in error["message"]


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case: str, ask: Ask) -> None:
    """Each failure is the client's own class for it, with a message that helps, code and id."""
    status, kind, code, param, word = ERRORS[case]
    error = ask(SCRIPT, case)["error"]
    assert (error["status_code"], error["code"], error["param"]) == (status, code, param)
    assert error["classes"][0] == kind
    assert word in error["text"]
    assert error["request_id"].startswith("req_")


@pytest.mark.parametrize("case", ["big_body", "upstream_fails", "upstream_limits"])
def test_client_does_not_ask_again(case: str, ask: Ask) -> None:
    """`x-should-retry: false` holds the client back where the gateway has done its own tries."""
    answer = ask(SCRIPT, case)
    assert answer["headers"]["x-should-retry"] == "false"
    assert answer["requests"] == 1


def test_retry_after_is_passed_on(ask: Ask) -> None:
    """The seconds that a provider asks for reach the client."""
    assert ask(SCRIPT, "upstream_limits")["headers"]["retry-after"] == "7"


def test_vectors_are_of_unit_length(ask: Ask) -> None:
    """A shortened vector is renormalised: cosine and dot product agree."""
    for case in ("default_string", "dimensions_128", "dimensions_user"):
        assert np.linalg.norm(ask(SCRIPT, case)["vectors"][0]) == pytest.approx(1, abs=1e-6)
