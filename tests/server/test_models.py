from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embedway.server.app import App
from embedway.settings import ModelSettings, Settings
from tests.asgi import MODEL, call, running
from tests.server.provider import SMALL, with_openai

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
    assert idle["endpoints"] == []
    assert (served["available"], served["providers"]) == (True, ["openai"])


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
