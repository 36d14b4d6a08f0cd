"""What every client needs of an error: recorded clients lose the message where it is missing."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from tests.clients.fake_openai import FAILS, LIMITS
from tests.clients.gateways import MODEL, Gateway

SMALL = "openai/text-embedding-3-small"
OPENAI = "/v1/embeddings"
AI_SDK = "/v4/ai/embedding-model"
JSON = {"content-type": "application/json"}


def body_for(path: str, model: str, value: str) -> dict[str, Any]:
    """The same request in either protocol."""
    return {"values": [value]} if path == AI_SDK else {"model": model, "input": [value]}


# Name: status, model, text, headers, and the method or body in place of the usual one.
CASES: dict[str, tuple[int, str, str, dict[str, str], Any]] = {
    "empty": (400, MODEL, "", {}, None),
    "not_json": (400, MODEL, "a", {}, b"{"),
    "no_key": (401, MODEL, "a", {"authorization": ""}, None),
    "wrong_key": (401, MODEL, "a", {"authorization": "Bearer gw_prod_no_no"}, None),
    "unknown_model": (404, "nobody/nothing", "a", {}, None),
    "wrong_method": (405, MODEL, "a", {}, "PUT"),
    "big_body": (413, MODEL, "a", {}, b"x" * 11_000_000),
    "wrong_media_type": (415, MODEL, "a", {"content-type": "text/plain"}, None),
    "upstream_limits": (429, SMALL, LIMITS, {}, None),
    "big_head": (431, MODEL, "a", {"x-long": "x" * 40_000}, None),
    "upstream_fails": (503, SMALL, FAILS, {}, None),
}

# The words by which @ai-sdk/gateway tells errors apart; any other becomes an internal error.
AI_SDK_TYPES = {
    401: "authentication_error",
    404: "model_not_found",
    429: "rate_limit_exceeded",
    503: "internal_server_error",
}


def ask(gateway: Gateway, path: str, case: str) -> tuple[http.client.HTTPResponse, Any]:
    """The response and its body."""
    _, model, text, headers, other = CASES[case]
    data = other if isinstance(other, bytes) else json.dumps(body_for(path, model, text)).encode()
    usual = {**JSON, "authorization": f"Bearer {gateway.key}", "ai-model-id": model}
    sent = {name: value for name, value in {**usual, **headers}.items() if value}
    connection = http.client.HTTPConnection(*gateway.address, timeout=30)
    try:
        connection.request(other if isinstance(other, str) else "POST", path, data, sent)
        response = connection.getresponse()
        return response, json.loads(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize("path", [OPENAI, AI_SDK], ids=["openai", "ai_sdk"])
@pytest.mark.parametrize("case", CASES)
def test_error_has_what_clients_read(case: str, path: str, keyed: Gateway) -> None:
    """Every error is a JSON object with `error.message`, `type`, `param` and `code`, and an id."""
    response, answer = ask(keyed, path, case)
    assert response.status == CASES[case][0]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    error = answer["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert len(error["message"]) > 20
    assert isinstance(error["type"], str)
    assert isinstance(error["code"], str)
    assert "detail" not in answer  # FastAPI's form, of which openai-python shows nothing


@pytest.mark.parametrize("path", [OPENAI, AI_SDK], ids=["openai", "ai_sdk"])
@pytest.mark.parametrize("case", CASES)
def test_error_tells_whether_to_try_again(case: str, path: str, keyed: Gateway) -> None:
    """No client should repeat what the gateway will refuse again; `Retry-After` stays below 120."""
    response, answer = ask(keyed, path, case)
    assert response.headers["x-should-retry"] == "false"
    assert 0 <= int(response.headers.get("retry-after", "0")) <= 120
    # @langchain/openai stops for good where it reads these words.
    assert "billing" not in answer["error"]["message"]
    assert "quota exhausted" not in answer["error"]["message"]


@pytest.mark.parametrize(
    "case", ["empty", "wrong_key", "unknown_model", "upstream_limits", "upstream_fails"]
)
def test_ai_sdk_error_words(case: str, keyed: Gateway) -> None:
    """On the AI SDK's route `error.type` is one of the words which that client knows."""
    response, answer = ask(keyed, AI_SDK, case)
    expected = AI_SDK_TYPES.get(response.status, "invalid_request_error")
    assert answer["error"]["type"] == expected
    if case == "unknown_model":
        assert answer["error"]["param"] == {"modelId": "nobody/nothing"}
