"""openai-node 6 and 7, as published, against the running gateway."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Ask
from tests.clients.fake_openai import FAILS, fake_vector
from tests.clients.gateways import MODEL
from tests.clients.reference import Reference
from tests.clients.vectors import bits

pytestmark = pytest.mark.parametrize(
    "script", ["node/openai6.mjs", "node/openai7.mjs"], ids=["openai6", "openai7"]
)

# Case: the key of its texts in texts.json, and the dimensions.
LOCAL = {
    "default_string": ("hello", 256),
    "list": ("three", 256),
    "float": ("hello", 256),
    "list_float": ("three", 256),
    "token_ids": ("hello", 256),
    "token_id_lists": ("split_texts", 256),
    "dimensions_user": ("hello", 64),
    "model_bare": ("hello", 256),
    "extra_fields_gateflow": ("hello", 256),
    "undefined_and_null_fields": ("hello", 256),
    "headers_and_query": ("hello", 256),
    "withResponse": ("hello", 256),
    "base_url_trailing_slash": ("hello", 256),
    "base_url_without_v1": ("hello", 256),
    "with_a_key": ("hello", 256),
}

# Case: status, the client's class, code, param.
ERRORS = {
    "empty_string": (400, "BadRequestError", "invalid_input", "input[0]"),
    "empty_list": (400, "BadRequestError", "invalid_input", "input"),
    "wrong_dimensions": (400, "BadRequestError", "unsupported_dimensions", "dimensions"),
    "wrong_key": (401, "AuthenticationError", "invalid_api_key", None),
    "unknown_model": (404, "NotFoundError", "model_not_found", "model"),
    "big_body": (413, "APIError", "request_too_large", None),
    "upstream_limits": (429, "RateLimitError", "rate_limit_exceeded", None),
    "upstream_fails": (503, "InternalServerError", "provider_unavailable", None),
}


@pytest.mark.parametrize("case", LOCAL)
def test_vectors(
    script: str, case: str, ask: Ask, texts: dict[str, Any], reference: Reference
) -> None:
    """Every way in which the client can ask gives the model's own vectors, in order."""
    key, dimensions = LOCAL[case]
    expected = [texts[key]] if isinstance(texts[key], str) else texts[key]
    answer = ask(script, case)
    reference.check(answer["vectors"], expected, dimensions)
    assert answer["indexes"] == list(range(len(expected)))
    assert answer["model"] == (MODEL if case != "model_bare" else "wordllama-256")
    assert 0 < answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"]


@pytest.mark.parametrize(
    ("floats", "base64"),
    [("float", "base64_explicit"), ("float", "default_string"), ("list_float", "list")],
)
def test_base64_and_floats_are_the_same_bits(
    script: str, floats: str, base64: str, ask: Ask
) -> None:
    """What the client decodes from base64 is the float answer, bit for bit: v6 errs silently."""
    assert bits(ask(script, floats)["vectors"]) == bits(ask(script, base64)["vectors"])


def test_vectors_of_a_provider(script: str, ask: Ask, texts: dict[str, Any]) -> None:
    """A provider's vectors reach the client bit for bit."""
    answer = ask(script, "model_prefixed")
    assert bits(answer["vectors"]) == fake_vector(texts["hello"], 1536).tobytes()
    assert answer["model"] == "openai/text-embedding-3-small"


def test_many_callers_at_once(script: str, ask: Ask, reference: Reference) -> None:
    """Fifty requests at once each get their own text's vector."""
    answer = ask(script, "many_at_once")
    reference.check(answer["vectors"], [f"caller {i}" for i in range(50)])


def test_with_response(script: str, ask: Ask) -> None:
    """`withResponse` shows the headers, and the request's id as the client's own field."""
    answer = ask(script, "withResponse")
    assert answer["status"] == 200
    assert answer["request_id"] == answer["headers"]["x-request-id"]
    assert answer["request_id"] == answer["gateflow"]["request_id"]
    assert answer["headers"]["x-embedway-model"] == MODEL
    assert answer["headers"]["content-type"] == "application/json"


def test_fallback_is_told(script: str, ask: Ask, reference: Reference) -> None:
    """A fallback asked for at the root of the body gives the other model's vector, and says so."""
    answer = ask(script, "fallback_used")
    reference.check(answer["vectors"], [FAILS])
    assert answer["gateflow"]["routing"]["selected_model"] == MODEL


def test_models(script: str, ask: Ask) -> None:
    """The client lists the models, and finds one whose name has a slash."""
    assert MODEL in ask(script, "models_list")["ids"]
    assert ask(script, "models_retrieve")["model"]["id"] == MODEL


@pytest.mark.parametrize("case", ERRORS)
def test_errors(script: str, case: str, ask: Ask) -> None:
    """Each failure is the client's own class for it, asked once, with message, code and id."""
    status, kind, code, param = ERRORS[case]
    answer = ask(script, case)
    error = answer["error"]
    assert (error["status"], error["code"], error["param"]) == (status, code, param)
    assert error["classes"][0] == kind
    assert error["message"].startswith(f"{status} ")
    assert error["requestID"].startswith("req_")
    assert answer["requests"] == 1
