"""The AI SDK: `@ai-sdk/openai-compatible` (6, 7) and `@ai-sdk/gateway` (5, 6, 7)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Ask
from tests.clients.fake_openai import FAILS, fake_vector
from tests.clients.gateways import MODEL
from tests.clients.reference import Reference
from tests.clients.vectors import bits

COMPATIBLE = ("node/compatible6.mjs", "node/compatible7.mjs")
GATEWAY = ("node/gateway5.mjs", "node/gateway6.mjs", "node/gateway7.mjs")
SPECIFICATIONS = dict(zip(GATEWAY, ("v2", "v3", "v4"), strict=True))

# Case: the key of its texts in texts.json, and the dimensions.
COMPATIBLE_CASES = {
    "embed": ("hello", 256),
    "embedMany": ("three", 256),
    "embedMany_maxParallel": ("three", 256),
    "providerOptions_dimensions": ("hello", 64),
    "providerOptions_other": ("hello", 256),
    "embeddingModel": ("hello", 256),
    "with_a_key": ("hello", 256),
}
GATEWAY_CASES = {
    "embed": ("hello", 256),
    "embedMany": ("three", 256),
    "providerOptions": ("hello", 128),
    "string_model": ("hello", 256),
    "base_url_of_the_openai_routes": ("hello", 256),
    "with_a_key": ("hello", 256),
}
LOCAL = [
    *((script, case, *told) for script in COMPATIBLE for case, told in COMPATIBLE_CASES.items()),
    *((script, case, *told) for script in GATEWAY for case, told in GATEWAY_CASES.items()),
    # Only 7 has the field; the others do not send it.
    *(
        (script, "dimensions_top_level", "hello", 64 if "7" in script else 256)
        for script in COMPATIBLE + GATEWAY
    ),
]

# Case: status, the code of our error, whether the AI SDK would try again.
COMPATIBLE_ERRORS = {
    "wrong_key": (401, "invalid_api_key", False),
    "unknown_model": (404, "model_not_found", False),
    "empty_string": (400, "invalid_input", False),
    "wrong_dimensions": (400, "unsupported_dimensions", False),
    "upstream_fails": (503, "provider_unavailable", True),
}

# Case: status, and the class that the client makes of it.
GATEWAY_ERRORS = {
    "wrong_key": (401, "GatewayAuthenticationError"),
    "unknown_model": (404, "GatewayModelNotFoundError"),
    "empty_string": (400, "GatewayInvalidRequestError"),
    "wrong_dimensions": (400, "GatewayInvalidRequestError"),
    "upstream_limits": (429, "GatewayRateLimitError"),
    "upstream_fails": (503, "GatewayInternalServerError"),
}


def name(script: str) -> str:
    """The script's name alone, for the test's id."""
    return script.removeprefix("node/").removesuffix(".mjs")


@pytest.mark.parametrize(
    ("script", "case", "key", "dimensions"),
    [pytest.param(*row, id=f"{name(row[0])}-{row[1]}") for row in LOCAL],
)
def test_vectors(
    script: str,
    case: str,
    key: str,
    dimensions: int,
    ask: Ask,
    texts: dict[str, Any],
    reference: Reference,
) -> None:
    """`embed` and `embedMany` of every generation give the model's own vectors, and the usage."""
    expected = [texts[key]] if isinstance(texts[key], str) else texts[key]
    answer = ask(script, case)
    reference.check(answer["vectors"], expected, dimensions)
    assert answer["usage"]["tokens"] > 0


@pytest.mark.parametrize("script", COMPATIBLE + GATEWAY, ids=name)
def test_split_of_2049_values(script: str, ask: Ask, reference: Reference) -> None:
    """2,049 values, which the client sends as 2,048 and one, come back whole and in order."""
    answer = ask(script, "embedMany_2049")
    assert (answer["count"], answer["requests"]) == (2049, 2)
    reference.check(answer["vectors"], ["t0", "t2047", "t2048"])


@pytest.mark.parametrize("script", COMPATIBLE + GATEWAY, ids=name)
def test_vectors_of_a_provider(script: str, ask: Ask, texts: dict[str, Any]) -> None:
    """A provider's vectors reach the client bit for bit, as floats."""
    answer = ask(script, "upstream_model")
    assert bits(answer["vectors"]) == fake_vector(texts["hello"], 1536).tobytes()
    assert answer["metadata"]["gateway"]["routing"]["finalProvider"] == "openai"


@pytest.mark.parametrize("script", COMPATIBLE + GATEWAY, ids=name)
def test_provider_metadata_is_visible(script: str, ask: Ask) -> None:
    """`providerMetadata.gateway` passes the client's check and says who answered, at what cost."""
    answer = ask(script, "embed")
    gateway = answer["metadata"]["gateway"]
    assert gateway["routing"]["finalProvider"] == "local"
    assert gateway["cost"] == "0"
    assert gateway["generationId"] == answer["request_id"].replace("req_", "gen_")


@pytest.mark.parametrize("script", GATEWAY, ids=name)
def test_fallback_is_told(script: str, ask: Ask, reference: Reference) -> None:
    """`providerOptions.gateway.models` are tried in turn, and each attempt is listed."""
    answer = ask(script, "fallback_used")
    reference.check(answer["vectors"], [FAILS])
    attempts = answer["metadata"]["gateway"]["routing"]["modelAttempts"]
    assert [attempt["success"] for attempt in attempts] == [False, True]


@pytest.mark.parametrize("script", GATEWAY, ids=name)
def test_available_models(script: str, ask: Ask) -> None:
    """Each generation lists the models that are served here, in its own specification's words."""
    models = {model["id"]: model for model in ask(script, "getAvailableModels")["models"]}
    assert set(models) == {
        MODEL,
        "openai/text-embedding-3-small",
        "openai/text-embedding-3-large",
        "openai/text-embedding-ada-002",
    }
    assert models[MODEL]["modelType"] == "embedding"
    assert models[MODEL]["specification"] == {
        "specificationVersion": SPECIFICATIONS[script],
        "provider": "gateway",
        "modelId": MODEL,
    }
    assert models["openai/text-embedding-3-small"]["pricing"]["input"] == "0.00000002"


@pytest.mark.parametrize("script", GATEWAY, ids=name)
def test_credits_and_generation(script: str, ask: Ask) -> None:
    """The client reads the key's balance, and one request's record by its generation id."""
    credits = ask(script, "getCredits")["credits"]
    assert float(credits["balance"]) > 0
    assert float(credits["totalUsed"]) >= 0
    answer = ask(script, "getGenerationInfo")
    assert answer["info"]["id"] == answer["id"]
    assert answer["info"]["model"] == MODEL
    assert answer["info"]["promptTokens"] == 4


@pytest.mark.parametrize("case", COMPATIBLE_ERRORS)
@pytest.mark.parametrize("script", COMPATIBLE, ids=name)
def test_errors_of_the_openai_routes(script: str, case: str, ask: Ask) -> None:
    """The AI SDK shows our message and code, and asks again only where that may help."""
    status, code, is_retryable = COMPATIBLE_ERRORS[case]
    answer = ask(script, case)
    error = answer["error"]
    assert error["classes"][0] == "APICallError"
    assert (error["statusCode"], error["isRetryable"]) == (status, is_retryable)
    assert error["data"]["error"]["code"] == code
    assert error["message"] == error["data"]["error"]["message"]
    assert answer["requests"] == 1


@pytest.mark.parametrize("case", GATEWAY_ERRORS)
@pytest.mark.parametrize("script", GATEWAY, ids=name)
def test_errors_of_the_gateway_protocol(script: str, case: str, ask: Ask) -> None:
    """Each failure is the protocol's own class for it, which the client tells by `error.type`."""
    status, kind = GATEWAY_ERRORS[case]
    answer = ask(script, case)
    error = answer["error"]
    # Bundled builds write some classes with an underscore before the name.
    assert error["classes"][0].lstrip("_") == kind
    assert error["statusCode"] == status
    assert answer["requests"] == 1
    if case == "unknown_model":
        assert error["modelId"] == "nobody/nothing"
