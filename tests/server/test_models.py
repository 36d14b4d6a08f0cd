from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embedway.provider import HttpRequest, HttpResponse
from embedway.server.app import App
from embedway.settings import ModelSettings, Settings
from tests.asgi import MODEL, call, embed, running
from tests.fakes import FakeClock, ScriptedSend
from tests.server.provider import SMALL, answer, failure, settings, with_openai

pytestmark = pytest.mark.asyncio(loop_scope="session")

# The seed's seven models: id, dimensions, USD per token.
SEVEN = [
    ("openai/text-embedding-3-small", 1536, "0.00000002"),
    ("openai/text-embedding-3-large", 3072, "0.00000013"),
    ("openai/text-embedding-ada-002", 1536, "0.0000001"),
    ("google/text-embedding-004", 768, "0.000000025"),
    ("cohere/embed-english-v3.0", 1024, "0.0000001"),
    ("cohere/embed-multilingual-v3.0", 1024, "0.0000001"),
    ("mistral/mistral-embed", 1024, "0.0000001"),
]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/embeddings/models"])
async def test_the_list_holds_the_catalogue(app: App, path: str) -> None:
    """Both lists hold every model of the catalogue once, and say which are served here."""
    body = (await call(app, "GET", path)).json()
    ids = [entry["id"] for entry in body["data"]]
    assert body["object"] == "list"
    assert ids == [model.id for model in app.runtime.catalog.models]
    assert len(set(ids)) == len(ids)
    assert [entry["id"] for entry in body["data"] if entry["available"]] == [MODEL]
    assert next(entry for entry in body["data"] if entry["available"])["providers"] == ["local"]


@pytest.mark.parametrize(("id", "dimensions", "price"), SEVEN)
async def test_the_seven_models_are_there(app: App, id: str, dimensions: int, price: str) -> None:
    """Each of the promised seven models has its dimensions and its price."""
    entry = (await call(app, "GET", f"/v1/models/{id}")).json()
    assert (entry["id"], entry["object"], entry["type"]) == (id, "model", "embedding")
    assert entry["owned_by"] == id.partition("/")[0]
    assert entry["dimensions"]["default"] == dimensions
    assert entry["pricing"] == {"input": price}
    assert entry["context_window"] > 0
    assert isinstance(entry["created"], int)
    assert entry["space"].startswith(f"{id}")
    assert entry["space"].endswith(f"@{dimensions}")
    assert entry["max_inputs"] == 2048


async def test_the_local_model(app: App) -> None:
    """The entry of the model in this process says all that its answers will."""
    entry = (await call(app, "GET", f"/v1/models/{MODEL}")).json()
    assert entry["dimensions"] == {"default": 256, "allowed": [64, 128, 256]}
    assert (entry["available"], entry["providers"]) == (True, ["local"])
    assert (entry["normalised"], entry["pricing"]) == ("always", {"input": "0"})


@pytest.mark.parametrize(
    "written",
    [
        "openai/text-embedding-3-small",
        "openai%2Ftext-embedding-3-small",
        "openai%2ftext-embedding-3-small",
        "text-embedding-3-small",
        "text%2Dembedding%2D3%2Dsmall",
    ],
)
async def test_a_model_by_any_spelling(app: App, written: str) -> None:
    """The slash of an id may be raw or percent-encoded, and the creator may be left out."""
    assert (await call(app, "GET", f"/v1/models/{written}")).json()["id"] == SMALL


async def test_a_model_by_an_alias(tmp_path: Path) -> None:
    """An alias leads to its model."""
    settings = Settings(home=str(tmp_path), models={"house": ModelSettings(model=MODEL)})
    async with running(settings) as app:
        assert (await call(app, "GET", "/v1/models/house")).json()["id"] == MODEL


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/v1/models/nothing", "does not exist"),
        ("/v1/models/anthropic/claude-embed", "Anthropic"),
        ("/v1/models/google/embedding-001", "shut down"),
        ("/v1/models/nothing/endpoints", "does not exist"),
        ("/v1/models/%00", "does not exist"),
        ("/v1/models//", "does not exist"),
    ],
)
async def test_a_model_that_is_not_there(app: App, path: str, word: str) -> None:
    """An unknown model is a 404 that says why, as for embeddings."""
    response = await call(app, "GET", path)
    assert (response.status, response.error["code"]) == (404, "model_not_found")
    assert word in response.error["message"]


async def test_the_endpoints_of_a_model(tmp_path: Path) -> None:
    """The deployments of a model are the accounts that serve it, with the price they bill."""
    context, _ = with_openai(tmp_path)
    async with context as app:
        data = (await call(app, "GET", f"/v1/models/{SMALL}/endpoints")).json()["data"]
        idle = (await call(app, "GET", "/v1/models/cohere/embed-v4.0/endpoints")).json()["data"]
        served = (await call(app, "GET", f"/v1/models/{SMALL}")).json()
    assert data["id"] == SMALL
    (endpoint,) = data["endpoints"]
    assert (endpoint["provider_name"], endpoint["status"]) == ("openai", 0)
    assert endpoint["pricing"] == {"prompt": "0.00000002", "completion": "0"}
    assert endpoint["health"] == {
        "breaker": "closed",
        "wait_s": 0,
        "in_flight": 0,
        "concurrency": 64,
        "waiting": 0,
        "latency_ms": {"p50": None, "p95": None},
        "last_error": None,
    }
    assert idle["endpoints"] == []
    assert (served["available"], served["providers"]) == (True, ["openai"])


async def endpoint_of(app: App, model: str) -> Any:
    """The only deployment of *model*."""
    path = f"/v1/models/{model}/endpoints"
    (endpoint,) = (await call(app, "GET", path)).json()["data"]["endpoints"]
    return endpoint


async def test_the_local_model_has_no_limit(app: App) -> None:
    """The model in the process is in use, and has no number of calls at a time."""
    endpoint = await endpoint_of(app, MODEL)
    assert (endpoint["status"], endpoint["health"]["breaker"]) == (0, "closed")
    assert (endpoint["health"]["concurrency"], endpoint["health"]["waiting"]) == (None, 0)


async def test_a_deployment_that_fails_says_so(tmp_path: Path) -> None:
    """A refused credential takes the deployment out: its breaker is open, its status negative, and
    the code of the last error stands there with its time, without a word of the provider's."""
    clock = FakeClock()
    send = ScriptedSend(failure(401, "the key sk-operator-0123456789 is wrong"))
    async with running(settings(tmp_path), send=send, clock=clock) as app:
        assert (await embed(app, model=SMALL)).status == 502
        endpoint = await endpoint_of(app, SMALL)
        clock.advance(8)
        later = await endpoint_of(app, SMALL)
    health = endpoint["health"]
    assert (endpoint["status"], health["breaker"]) == (-3, "open")
    assert health["wait_s"] > 0
    assert health["last_error"] == {
        "code": "provider_unauthorized",
        "at_ms": round((clock.now() - 8) * 1000),
    }
    assert "sk-operator" not in str(endpoint)
    assert (later["status"], later["health"]["breaker"]) == (-2, "half_open")


async def test_a_deployment_at_its_limit_says_so(tmp_path: Path) -> None:
    """After a 429 the deployment is out until the time that the provider named, its breaker stays
    closed, and fewer calls at a time are good for it."""
    send = ScriptedSend(failure(429, **{"retry-after": "30"}))
    async with running(settings(tmp_path), send=send, clock=FakeClock()) as app:
        await embed(app, model=SMALL)
        endpoint = await endpoint_of(app, SMALL)
    health = endpoint["health"]
    assert (endpoint["status"], health["breaker"]) == (-1, "closed")
    assert 0 < health["wait_s"] <= 30
    assert health["concurrency"] < 64
    assert health["last_error"]["code"] == "rate_limit_exceeded"


async def test_a_deployment_shows_its_latency(tmp_path: Path) -> None:
    """The median and the 95th percentile of the last answers are shown, and what is in flight."""
    clock, seen = FakeClock(), []

    async def slow(request: HttpRequest) -> HttpResponse:
        clock.advance(0.25)
        seen.append((await endpoint_of(app, SMALL))["health"]["in_flight"])
        return answer(request)

    async with running(settings(tmp_path), send=ScriptedSend(slow), clock=clock) as app:
        assert (await embed(app, model=SMALL)).status == 200
        health = (await endpoint_of(app, SMALL))["health"]
    assert seen == [1]
    assert health["latency_ms"] == {"p50": 250, "p95": 250}
    assert (health["in_flight"], health["last_error"]) == (0, None)


async def test_every_entry_says_how_long_its_vectors_may_be(app: App) -> None:
    """Each entry allows its default, by a list or between two ends."""
    body = (await call(app, "GET", "/v1/models")).json()
    for entry in body["data"]:
        default, allowed = entry["dimensions"]["default"], entry["dimensions"]["allowed"]
        fits: Any = (
            default in allowed
            if isinstance(allowed, list)
            else allowed["min"] <= default <= allowed["max"]
        )
        assert fits, entry["id"]
