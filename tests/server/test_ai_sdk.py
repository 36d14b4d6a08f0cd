from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedway.server.app import App
from embedway.settings import ServerSettings, Settings
from tests.asgi import MODEL, Response, call, embed, running
from tests.server.provider import SMALL, failure, with_openai

pytestmark = pytest.mark.asyncio(loop_scope="session")

VERSION = "ai-embedding-model-specification-version"
PATHS = ("/v4/ai/embedding-model", "/v3/ai/embedding-model", "/v1/ai/embedding-model")


async def ask(app: App, path: str, body: Any, model: str = MODEL, **headers: str) -> Response:
    """What `@ai-sdk/gateway` sends; a header's `_` stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fixed = {"ai-model-id": model, "ai-gateway-protocol-version": "0.0.1"}
    return await call(app, "POST", path, {**fixed, **named}, body)


# Generation, and what its client sends for two texts and 64 dimensions. AI SDK 5 sends `input`, a
# text or a list, with the options first spread at the root, later nested.
BODIES = [
    (PATHS[0], "4", {"values": ["one", "two"], "dimensions": 64}),
    (PATHS[0], "4", {"values": ["one", "two"], "providerOptions": {"local": {"dimensions": 64}}}),
    (PATHS[1], "3", {"values": ["one", "two"], "providerOptions": {"local": {"dimensions": 64}}}),
    (PATHS[2], "2", {"input": ["one", "two"], "local": {"dimensions": 64}, "openai": {}}),
    (PATHS[2], "2", {"input": ["one", "two"], "providerOptions": {"local": {"dimensions": 64}}}),
    (PATHS[2], "2", {"input": ["one", "two"], "dimensions": 64}),
    (PATHS[2], "4", {"values": ["one", "two"], "dimensions": 64}),
    (PATHS[0], "2", {"input": ["one", "two"], "local": {"dimensions": 64}}),
    ("/v1/embedding-model", "4", {"values": ["one", "two"], "dimensions": 64}),
]


@pytest.mark.parametrize(("path", "version", "body"), BODIES)
async def test_every_generation_gets_its_vectors(
    app: App, path: str, version: str, body: dict[str, Any]
) -> None:
    """All generations of the protocol give the vectors of the OpenAI route, as floats; the header
    says the generation, whatever the path."""
    response = await call(app, "POST", path, {"ai-model-id": MODEL, VERSION: version}, body)
    assert response.status == 200, response.body
    answer = response.json()
    plain = (await embed(app, input=["one", "two"], dimensions=64)).json()
    expected = [item["embedding"] for item in plain["data"]]
    assert np.array_equal(np.float32(answer["embeddings"]), np.float32(expected))
    assert answer["usage"] == {"tokens": plain["usage"]["total_tokens"]}
    assert set(answer) == {"embeddings", "usage", "providerMetadata"}
    gateway = answer["providerMetadata"]["gateway"]
    assert gateway["generationId"].startswith("gen_")
    assert response.headers["x-embedway-space"] == f"{MODEL}@64"


async def test_one_text_of_ai_sdk_5(app: App) -> None:
    """AI SDK 5 sends one value as a text, without a list."""
    answer = (await ask(app, PATHS[2], {"input": "one"})).json()
    assert len(answer["embeddings"]) == 1


@pytest.mark.parametrize("mode", ["gateflow", "none"])
async def test_the_operator_switches_the_metadata_off(tmp_path: Path, mode: Any) -> None:
    """Without the gateway's block `providerMetadata` is an empty object, never null."""
    server = ServerSettings(response_metadata=mode)
    async with running(Settings(home=str(tmp_path), server=server)) as app:
        assert (await ask(app, PATHS[0], {"values": ["a"]})).json()["providerMetadata"] == {}


BAD: list[tuple[str, Any, str, Any]] = [
    (PATHS[0], {}, "invalid_parameter", "values"),
    (PATHS[0], {"values": "one"}, "invalid_input", "values"),
    (PATHS[0], {"values": []}, "invalid_input", "values"),
    (PATHS[0], {"values": [""]}, "invalid_input", "values[0]"),
    (PATHS[0], {"values": ["a", 1]}, "invalid_input", "values[1]"),
    (PATHS[0], {"values": [[1]]}, "invalid_input", "values[0]"),
    (PATHS[0], {"values": ["x"] * 2049}, "invalid_input", "values[2048]"),
    (PATHS[0], {"values": ["a"], "input": "a"}, "invalid_parameter", "input"),
    (PATHS[0], {"values": ["a"], "model": "a"}, "invalid_parameter", "model"),
    (PATHS[0], {"values": ["a"], "dimensions": 65}, "unsupported_dimensions", "dimensions"),
    (PATHS[0], {"values": ["a"], "dimensions": "64"}, "invalid_parameter", "dimensions"),
    (
        PATHS[1],
        {"values": ["a"], "providerOptions": {"openai": {"foo": 1}}},
        "invalid_parameter",
        "providerOptions.openai.foo",
    ),
    (PATHS[1], b"{", "invalid_parameter", None),
    (PATHS[1], b'{"values":["a"],"values":["b"]}', "invalid_parameter", "values"),
    (PATHS[1], b'{"values":' + b"[" * 10**6, "invalid_input", "values[0]"),
    (PATHS[2], {}, "invalid_parameter", "input"),
    (PATHS[2], {"input": ""}, "invalid_input", "input[0]"),
    (PATHS[2], {"input": ["a", ""]}, "invalid_input", "input[1]"),
    (PATHS[2], {"input": 1}, "invalid_input", "input"),
    (PATHS[2], {"input": "a", "foo": {}}, "invalid_parameter", "providerOptions.foo"),
    (PATHS[2], {"input": "a", "providerOptions": 1}, "invalid_parameter", "providerOptions"),
    (
        PATHS[2],
        {"input": "a", "providerOptions": {"openai": {}}, "foo": 1},
        "invalid_parameter",
        "providerOptions.foo",
    ),
    (PATHS[2], [], "invalid_parameter", None),
]


@pytest.mark.parametrize(("path", "body", "code", "param"), BAD)
async def test_a_bad_body_names_the_clients_own_field(
    app: App, path: str, body: Any, code: str, param: Any
) -> None:
    """An error names the field as this client calls it: `values`, or `input` in AI SDK 5."""
    response = await ask(app, path, body)
    error = response.error
    assert (response.status, error["code"], error["param"]) == (400, code, param)
    assert error["type"] == "invalid_request_error"
    assert param is None or param.partition("[")[0] in error["message"]


async def test_the_model_is_in_a_header(app: App) -> None:
    """Without `ai-model-id`, or with one too long, the error names that header."""
    for model in ("", "x" * 257):
        error = (await ask(app, PATHS[0], {"values": ["a"]}, model)).error
        assert error["param"] == "ai-model-id"


@pytest.mark.parametrize("path", PATHS)
async def test_an_unknown_model_is_named(app: App, path: str) -> None:
    """A model that is not there has the type `model_not_found` and its name in `param`."""
    body = {"input": "a"} if path == PATHS[2] else {"values": ["a"]}
    response = await ask(app, path, body, "openai/nothing")
    assert response.status == 404
    assert response.error["type"] == "model_not_found"
    assert response.error["param"] == {"modelId": "openai/nothing"}


@pytest.mark.parametrize(
    ("answer", "status", "type", "code"),
    [
        (failure(401), 502, "internal_server_error", "provider_unauthorized"),
        (failure(429), 429, "rate_limit_exceeded", "rate_limit_exceeded"),
        (failure(500), 503, "internal_server_error", "provider_unavailable"),
        (failure(400), 400, "invalid_request_error", "invalid_parameter"),
        (failure(404), 404, "model_not_found", "model_not_found"),
    ],
)
async def test_errors_have_the_protocols_words(
    tmp_path: Path, answer: Any, status: int, type: str, code: str
) -> None:
    """`error.type` is the protocol's word, the envelope has the generation's id at its root, and
    the provider that failed is named."""
    context, _ = with_openai(tmp_path, answer)
    async with context as app:
        response = await ask(app, PATHS[0], {"values": ["a"]}, SMALL)
    error = response.error
    assert (response.status, error["type"], error["code"]) == (status, type, code)
    assert error["provider"] == "openai"
    assert response.json()["generationId"].startswith("gen_")
    assert response.headers["x-should-retry"] == "false"


async def test_who_may_come_in(tmp_path: Path) -> None:
    """A missing key and a model the key may not use have the protocol's words, too."""
    async with running(Settings(home=str(tmp_path))) as app:
        _, key = app.runtime.keys.create("k", models=(SMALL,))
        headers = {"authorization": f"Bearer {key.reveal()}"}
        missing = await ask(app, PATHS[0], {"values": ["a"]})
        refused = await ask(app, PATHS[0], {"values": ["a"]}, **headers)
        config = await call(app, "GET", "/v4/ai/config")
    assert (missing.status, missing.error["type"]) == (401, "authentication_error")
    assert (refused.status, refused.error["type"]) == (403, "forbidden")
    assert (config.status, config.error["type"]) == (401, "authentication_error")


@pytest.mark.parametrize(("path", "version"), [("v4", "v4"), ("v3", "v3"), ("v1", "v2")])
async def test_the_config_lists_what_is_served(app: App, path: str, version: str) -> None:
    """`config` has the served models with both prices as text and the generation's literal."""
    models = (await call(app, "GET", f"/{path}/ai/config")).json()["models"]
    assert [model["id"] for model in models] == [MODEL]
    assert models[0]["pricing"] == {"input": "0", "output": "0"}
    assert models[0]["specification"] == {
        "specificationVersion": version,
        "provider": "gateway",
        "modelId": MODEL,
    }
    assert models[0]["modelType"] == "embedding"
