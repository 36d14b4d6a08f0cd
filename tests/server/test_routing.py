from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from embedway.server.app import App
from tests.asgi import MODEL, embed
from tests.server.provider import SMALL, TOKENS, failure, with_openai

pytestmark = pytest.mark.asyncio(loop_scope="session")

ULID = "[0-9A-HJKMNP-TV-Z]{26}"


@pytest.mark.parametrize(
    "fields",
    [
        {"provider": "local"},
        {"provider": {"only": ["local"]}},
        {"provider": {"order": ["openai", "local"]}},
        {"providerOptions": {"gateway": {"only": ["local"]}}},
        {"provider": {"only": ["local"]}, "providerOptions": {"gateway": {"only": ["local"]}}},
        {"provider": {"sort": "cost"}},
        {"provider": {"sort": "latency"}},
    ],
)
async def test_routing_that_the_model_can_obey(app: App, fields: dict[str, Any]) -> None:
    """`provider` as text or object and `providerOptions.gateway` mean the same."""
    response = await embed(app, gateflow={"cache": "skip"}, **fields)
    assert response.json()["gateflow"]["provider"] == "local"


async def test_provider_and_options_that_differ_are_refused(app: App) -> None:
    """Two routings that say different things are refused rather than one chosen."""
    fields = {
        "provider": {"only": ["local"]},
        "providerOptions": {"gateway": {"order": ["local"]}},
    }
    error = (await embed(app, **fields)).error
    assert (error["code"], error["param"]) == ("invalid_parameter", "provider")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("anthropic/claude-embed", ["Anthropic", "OpenAI", "Google", "Cohere", "Mistral"]),
        ("claude-sonnet-4.6", ["Anthropic", "no embedding models"]),
        ("google/embedding-001", ["shut down", "2025", "google/gemini-embedding-001"]),
        ("embed-english-v2.0", ["shut down", "cohere/embed-"]),
        ("openai/text-embedding-3-smal", ["does not exist", "openai/text-embedding-3-small"]),
        ("text-embedding-3-small", ["No account", "OPENAI_API_KEY"]),
        ("cohere/embed-english-v3.0", ["No account", "cohere"]),
        ("text-embedding-004", ["No account", "2026-01-14", "vertex"]),
    ],
)
async def test_a_model_that_cannot_be_served_says_what_to_do(
    app: App, model: str, words: list[str]
) -> None:
    """The 404 of a model names its reason and the way out."""
    response = await embed(app, model=model)
    error = response.error
    assert (response.status, error["code"], error["param"]) == (404, "model_not_found", "model")
    for word in words:
        assert word in error["message"]


async def test_a_fallback_is_another_model_and_said_so(app: App) -> None:
    """Where the asked model is not served, the first fallback that is answers under its own name,
    and both blocks tell what happened."""
    response = await embed(
        app,
        model=SMALL,
        gateflow={"fallbacks": ["cohere/embed-v4.0", "wordllama-256"], "cache": "skip"},
    )
    body = response.json()
    assert body["model"] == MODEL
    assert body["gateflow"]["space"] == f"{MODEL}@256"
    routing = body["gateflow"]["routing"]
    assert routing["requested_model"] == SMALL
    assert routing["selected_model"] == MODEL
    assert routing["fallback_used"] is True
    assert routing["fallback_reason"] == "model_unavailable"
    skipped = {"status": "skipped", "error": "model_not_found"}
    assert routing["attempts"] == [
        {"model": SMALL, **skipped},
        {"model": "cohere/embed-v4.0", **skipped},
        {"model": MODEL, "provider": "local", "status": "success"},
    ]
    gateway = body["providerMetadata"]["gateway"]["routing"]
    assert (gateway["originalModelId"], gateway["canonicalSlug"]) == (SMALL, MODEL)
    assert (gateway["resolvedProvider"], gateway["finalProvider"]) == ("local", "local")
    assert (gateway["modelAttemptCount"], gateway["totalProviderAttemptCount"]) == (3, 1)
    passed_over = gateway["modelAttempts"][0]
    assert (passed_over["success"], passed_over["error"]) == (False, "model_not_found")
    assert (passed_over["providerAttemptCount"], passed_over["providerAttempts"]) == (0, [])


async def test_a_failed_provider_is_in_the_attempts(tmp_path: Path) -> None:
    """After a provider's failure the fallback's answer tells of both attempts."""
    context, _ = with_openai(tmp_path, failure(503))
    async with context as app:
        body = (
            await embed(app, model="text-embedding-3-small", gateflow={"fallbacks": [MODEL]})
        ).json()
    routing = body["gateflow"]["routing"]
    assert body["model"] == "wordllama-256"
    assert routing["fallback_reason"] == "provider_error"
    assert routing["attempts"][-1] == {"model": MODEL, "provider": "local", "status": "success"}
    assert routing["attempts"][0] == {
        "model": SMALL,
        "provider": "openai",
        "status": "failed",
        "error": "503",
    }
    gateway = body["providerMetadata"]["gateway"]["routing"]
    assert [attempt["success"] for attempt in gateway["modelAttempts"]] == [False, True]
    assert gateway["finalProvider"] == "local"
    failed = gateway["modelAttempts"][0]["providerAttempts"][0]
    assert (failed["statusCode"], failed["success"]) == (503, False)


@pytest.mark.parametrize(
    ("named", "models", "status"),
    [
        ([MODEL], [MODEL], 200),
        (["wordllama-256"], [MODEL], 200),
        ([], [MODEL], 200),
        ([MODEL], ["cohere/embed-v4.0"], 400),
        ([MODEL, "cohere/embed-v4.0"], ["cohere/embed-v4.0", MODEL], 400),
    ],
)
async def test_two_lists_of_fallbacks_must_agree(
    app: App, named: list[str], models: list[str], status: int
) -> None:
    """`gateflow.fallbacks` and `providerOptions.gateway.models` are one list: if both are there
    and name different models, the request is refused."""
    options = {"gateway": {"models": models}}
    response = await embed(app, model=SMALL, gateflow={"fallbacks": named}, providerOptions=options)
    assert response.status == status
    if status == 400:
        assert response.error["param"] == "gateflow.fallbacks"


async def test_a_bad_request_is_not_tried_elsewhere(app: App) -> None:
    """A fallback is for a model that cannot serve, not for a request that is wrong."""
    response = await embed(app, dimensions=65, gateflow={"fallbacks": ["wordllama-256"]})
    assert response.error["code"] == "unsupported_dimensions"


async def test_a_paid_answer_costs_its_list_price(tmp_path: Path) -> None:
    """Two tokens at two cents a million cost exactly 0.00000004 dollars, wherever it stands."""
    context, send = with_openai(tmp_path)
    async with context as app:
        response = await embed(app, model="text-embedding-3-small", input=["hi"])
        body = response.json()
    assert TOKENS == body["usage"]["total_tokens"] == 2
    gateway = body["providerMetadata"]["gateway"]
    assert (gateway["cost"], gateway["marketCost"]) == ("0.00000004", "0.00000004")
    assert response.headers["x-embedway-cost"] == "0.00000004"
    assert b'"cost":{"total":0.00000004}' in response.body
    assert body["model"] == "text-embedding-3-small"
    assert gateway["routing"]["modelAttempts"][0]["modelId"] == "openai:text-embedding-3-small"
    assert send.bodies[0]["encoding_format"] == "base64"  # the cheapest, whatever was asked


async def test_a_callers_own_credential_costs_nothing_here(tmp_path: Path) -> None:
    """With `byok` the provider bills the caller: cost is 0, the list price stays to be seen."""
    context, send = with_openai(tmp_path)
    async with context as app:
        byok = {"openai": [{"apiKey": "sk-callers-own"}]}
        body = (await embed(app, model=SMALL, providerOptions={"gateway": {"byok": byok}})).json()
    gateway = body["providerMetadata"]["gateway"]
    assert (gateway["cost"], gateway["marketCost"]) == ("0", "0.00000004")
    attempt = gateway["routing"]["modelAttempts"][0]["providerAttempts"][0]
    assert attempt["credentialType"] == "byok"
    assert send.requests[0].headers["authorization"] == "Bearer sk-callers-own"
    assert "sk-callers-own" not in str(body)


async def test_token_ids_are_passed_on_to_who_takes_them(tmp_path: Path) -> None:
    """OpenAI gets token ids as they came, and the ledger's user as its own field."""
    context, send = with_openai(tmp_path)
    async with context as app:
        ids = [[15339, 1917], [791, 4062]]
        response = await embed(app, model=SMALL, input=ids, user="ann", dimensions=64)
    assert len(response.json()["data"]) == 2
    assert send.bodies[0]["input"] == ids
    assert (send.bodies[0]["user"], send.bodies[0]["dimensions"]) == ("ann", 64)


async def test_unreported_tokens_are_counted(tmp_path: Path) -> None:
    """Where the provider reports no tokens, they are counted with the model's own tokenizer, if it
    is here; then nothing is estimated."""

    def silent(request: Any) -> Any:
        from tests.fakes import json_response
        from tests.server.provider import answer

        body = orjson.loads(answer(request).body)
        del body["usage"]
        return json_response(body)

    context, _ = with_openai(tmp_path, silent)
    async with context as app:
        body = (await embed(app, model=SMALL, input="Sunny day at the beach")).json()
    assert "usage_estimated" not in body["gateflow"]
    assert body["usage"]["total_tokens"] == 6
    assert body["providerMetadata"]["gateway"]["cost"] == "0.00000012"


@pytest.mark.parametrize(
    ("headers", "gateway", "user", "tags"),
    [
        ({}, {}, "root", ()),
        ({}, {"user": "nested", "tags": ["a", "b"]}, "nested", ("a", "b")),
        ({"ai-reporting-user": "header"}, {"user": "nested"}, "header", ()),
        ({"ai-reporting-tags": "b, c,,b"}, {"tags": ["a", "b"]}, "root", ("a", "b", "c")),
    ],
)
async def test_user_and_tags_reach_the_books(
    app: App, headers: dict[str, str], gateway: dict[str, Any], user: str, tags: tuple[str, ...]
) -> None:
    """The header's user wins over the nested over the root one; tags are merged, each once."""
    response = await embed(app, headers, user="root", providerOptions={"gateway": gateway})
    ulid = response.json()["gateflow"]["request_id"].removeprefix("req_")
    line = app.runtime.book.find(ulid)
    assert line is not None
    assert (line.user, line.tags) == (user, tags)


async def test_trace_and_application_reach_the_books(app: App) -> None:
    """The caller's trace id and the name of his application are kept with his request."""
    headers = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-title": "Librarian",
        "http-referer": "https://example.com",
    }
    response = await embed(app, headers)
    line = app.runtime.book.find(response.json()["gateflow"]["request_id"].removeprefix("req_"))
    assert line is not None
    assert (line.trace, line.app) == ("0af7651916cd43dd8448eb211c80319c", "Librarian")
    response = await embed(app, {**headers, "x-gateflow-trace-id": "mine"})
    line = app.runtime.book.find(response.json()["gateflow"]["request_id"].removeprefix("req_"))
    assert line is not None
    assert line.trace == "mine"
