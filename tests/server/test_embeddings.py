from __future__ import annotations

import asyncio
import base64
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedway.server.app import App
from embedway.settings import ModelSettings, ServerSettings, Settings
from tests.asgi import MODEL, Response, call, embed, running

pytestmark = pytest.mark.asyncio(loop_scope="session")

ULID = "[0-9A-HJKMNP-TV-Z]{26}"


def vectors(response: Response) -> Any:
    """The vectors of an answer, one a row; base64 is decoded."""
    assert response.status == 200, response.body
    rows = [item["embedding"] for item in response.json()["data"]]
    if isinstance(rows[0], str):
        return np.stack([np.frombuffer(base64.b64decode(row), "<f4") for row in rows])
    return np.array(rows, np.float32)


# cl100k ids of "hello world" and of "The quick brown fox"
HELLO, FOX = [15339, 1917], [791, 4062, 14198, 39935]


@pytest.mark.parametrize(
    ("sent", "texts"),
    [
        ("hello world", ["hello world"]),
        (["hello world", "The quick brown fox"], ["hello world", "The quick brown fox"]),
        (HELLO, ["hello world"]),
        ([HELLO, FOX], ["hello world", "The quick brown fox"]),
        ([" "], [" "]),
    ],
)
async def test_all_four_shapes_of_input(app: App, sent: Any, texts: list[str]) -> None:
    """A text, texts, token ids and lists of token ids give the same vectors for the same text."""
    response = await embed(app, input=sent)
    expected = np.concatenate([vectors(await embed(app, input=text)) for text in texts])
    assert np.array_equal(vectors(response), expected)


@pytest.mark.parametrize("dimensions", [None, 64, 128, 256])
async def test_base64_is_the_same_bits(app: App, dimensions: int | None) -> None:
    """Both encodings carry the same vector bit for bit, little-endian."""
    texts = [f"text number {i}" for i in range(20)]
    fields = {"input": texts, "dimensions": dimensions}
    floats = vectors(await embed(app, **fields, encoding_format="float"))
    packed = vectors(await embed(app, **fields, encoding_format="base64"))
    assert np.array_equal(floats, packed)
    assert floats.shape == (20, dimensions or 256)


async def test_vectors_keep_the_order_of_the_inputs(app: App) -> None:
    """Item i belongs to input i and says so, equal inputs have equal vectors."""
    texts = ["b", "a", "b", "c"]
    response = await embed(app, input=texts)
    body, rows = response.json(), vectors(response)
    assert [item["index"] for item in body["data"]] == [0, 1, 2, 3]
    assert {item["object"] for item in body["data"]} == {"embedding"}
    assert body["object"] == "list"
    assert np.array_equal(rows[0], rows[2])
    assert not np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[3], vectors(await embed(app, input="c"))[0])


@pytest.mark.parametrize("dimensions", [64, 128, 256])
async def test_shorter_vectors_are_the_first_numbers_normalised(app: App, dimensions: int) -> None:
    """`dimensions` cuts the full vector and brings it back to length 1."""
    full = vectors(await embed(app))[0]
    response = await embed(app, dimensions=dimensions)
    cut = full[:dimensions] / np.linalg.norm(full[:dimensions])
    assert np.allclose(vectors(response)[0], cut, atol=1e-6)
    assert response.json()["gateflow"]["dimensions"] == dimensions
    assert response.headers["x-embedway-space"] == f"{MODEL}@{dimensions}"


@pytest.mark.parametrize("dimensions", [1, 65, 255, 257, 512])
async def test_other_lengths_are_refused_with_those_that_go(app: App, dimensions: int) -> None:
    """A length the model does not have is refused, never ignored, and the message lists the
    lengths it has."""
    error = (await embed(app, dimensions=dimensions)).error
    assert (error["code"], error["param"]) == ("unsupported_dimensions", "dimensions")
    assert "64, 128 or 256" in error["message"]


async def test_a_providers_own_dimensions_win(app: App) -> None:
    """`providerOptions.<provider>` wins over the root field, and only for who serves."""
    options = {"local": {"dimensions": 64}, "openai": {"dimensions": 128}}
    response = await embed(app, dimensions=256, providerOptions=options)
    assert vectors(response).shape == (1, 64)


@pytest.mark.parametrize("input_type", ["query", "document"])
async def test_both_input_types_are_welcome(app: App, input_type: str) -> None:
    """A model that knows no input types takes the two standard words and embeds both alike."""
    response = await embed(app, input_type=input_type)
    assert np.array_equal(vectors(response), vectors(await embed(app)))
    assert "input_type" not in response.json()["gateflow"] or response.json()["gateflow"][
        "input_type"
    ] in ("query", "document")


@pytest.mark.parametrize(
    ("headers", "fields", "header", "status"),
    [
        ({}, {"gateflow": {"cache": "skip"}}, "fwd=bypass", "bypass"),
        ({}, {"gateflow": {"cache": "refresh"}}, "fwd=request; stored", "miss"),
        ({"cache-control": "no-store"}, {}, "fwd=bypass", "bypass"),
        ({"cache-control": "max-age=0, No-Store"}, {}, "fwd=bypass", "bypass"),
        (
            {"cache-control": "no-store"},
            {"gateflow": {"cache": "refresh"}},
            "fwd=bypass",
            "bypass",
        ),
    ],
)
async def test_the_cache_status_says_what_was_asked(
    app: App, headers: dict[str, str], fields: dict[str, Any], header: str, status: str
) -> None:
    """`gateflow.cache` and `Cache-Control: no-store` show in the header and in the body; where
    they disagree nothing is stored."""
    await embed(app)  # from here on the text is known
    response = await embed(app, headers, **fields)
    assert response.headers["cache-status"] == f"embedway; {header}"
    assert response.json()["gateflow"]["cache"] == {"status": status, "hits": 0, "misses": 1}


async def test_a_known_text_is_said_to_be_known(app: App) -> None:
    """A text is missed and stored once; then it is hit, alone and among others, for nothing."""
    texts = ["told once", "told later"]
    answers = [await embed(app, input=texts[:count]) for count in (1, 1, 2, 2)]
    assert [answer.headers["cache-status"] for answer in answers] == [
        "embedway; fwd=miss; stored",
        "embedway; hit",
        'embedway; fwd=partial; detail="1/2"',
        "embedway; hit",
    ]
    assert [answer.json()["gateflow"]["cache"] for answer in answers] == [
        {"status": "miss", "hits": 0, "misses": 1},
        {"status": "hit", "hits": 1, "misses": 0},
        {"status": "partial", "hits": 1, "misses": 1},
        {"status": "hit", "hits": 2, "misses": 0},
    ]
    first = vectors(answers[0])[0]
    assert all(np.array_equal(vectors(answer)[0], first) for answer in answers)
    tokens = [answer.json()["usage"]["total_tokens"] for answer in answers]
    assert tokens[0] == tokens[1] < tokens[2] == tokens[3]


async def test_the_headers_of_an_answer(app: App) -> None:
    """An answer carries exactly the headers of the contract that apply to it."""
    response = await embed(app, gateflow={"cache": "skip"})
    assert set(response.headers) == {
        "content-type",
        "content-length",
        "x-request-id",
        "x-embedway-model",
        "x-embedway-provider",
        "x-embedway-space",
        "x-embedway-cost",
        "cache-status",
        "server-timing",
        "openai-processing-ms",
    }
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.body))
    assert response.headers["x-embedway-model"] == MODEL
    assert response.headers["x-embedway-provider"] == "local"
    assert response.headers["x-embedway-cost"] == "0"
    assert re.fullmatch(r"total;dur=\d+", response.headers["server-timing"])
    assert response.headers["openai-processing-ms"].isdigit()


async def test_the_body_of_an_answer(app: App) -> None:
    """The blocks of an answer say what the contract says, and agree with each other."""
    body = (await embed(app, input=["hello world", "hello"])).json()
    assert list(body) == ["object", "data", "model", "usage", "providerMetadata", "gateflow"]
    tokens = body["usage"]["prompt_tokens"]
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert tokens > 1
    gateway, gateflow = body["providerMetadata"]["gateway"], body["gateflow"]
    assert (gateway["cost"], gateway["marketCost"]) == ("0", "0")
    assert gateflow["cost"] == {"total": 0}
    assert (gateflow["provider"], gateflow["space"]) == ("local", f"{MODEL}@256")
    routing = gateway["routing"]
    assert (routing["originalModelId"], routing["canonicalSlug"]) == (MODEL, MODEL)
    assert routing["modelAttemptCount"] == routing["totalProviderAttemptCount"] == 1
    attempt = routing["modelAttempts"][0]["providerAttempts"][0]
    assert attempt["startTime"] <= attempt["endTime"]
    assert (attempt["success"], attempt["credentialType"]) == (True, "system")
    assert "routing" not in gateflow  # no fallback


async def test_usage_is_the_sum_over_the_inputs(app: App) -> None:
    """The tokens of a request are those of its inputs, each counted alone, added up."""
    alone = [(await embed(app, input=text)).json()["usage"] for text in ("hello", "a b c", "x")]
    both = (await embed(app, input=["hello", "a b c", "x"])).json()["usage"]
    assert both["total_tokens"] == sum(usage["total_tokens"] for usage in alone)


async def test_one_ulid_two_prefixes(app: App) -> None:
    """`req_` and `gen_` of one request hold one ULID, and the next request has another."""
    seen = set()
    for _ in range(3):
        response = await embed(app)
        body = response.json()
        request_id = body["gateflow"]["request_id"]
        assert re.fullmatch(f"req_{ULID}", request_id)
        generation = body["providerMetadata"]["gateway"]["generationId"]
        assert generation == request_id.replace("req_", "gen_")
        assert response.headers["x-request-id"] == request_id
        seen.add(request_id)
    assert len(seen) == 3


@pytest.mark.parametrize("sent", ["a", "x" * 64, "my-Own_1d"])
async def test_the_callers_request_id_is_echoed(app: App, sent: str) -> None:
    """A sound `x-request-id` comes back, in errors too; the body keeps our own."""
    response = await embed(app, {"x-request-id": sent})
    assert response.headers["x-request-id"] == sent
    assert response.json()["gateflow"]["request_id"].startswith("req_0")
    assert (await embed(app, {"x-request-id": sent}, input="")).headers["x-request-id"] == sent


@pytest.mark.parametrize("name", [MODEL, "wordllama-256"])
async def test_the_model_is_named_as_the_caller_named_it(app: App, name: str) -> None:
    """A bare name is answered with a bare name, a full one with a full one."""
    response = await embed(app, model=name)
    assert response.json()["model"] == name
    assert response.headers["x-embedway-model"] == MODEL


async def test_an_alias_serves_its_model(tmp_path: Path) -> None:
    """The operator's own name for a model gives the model's vectors and space."""
    settings = Settings(home=str(tmp_path), models={"house": ModelSettings(model=MODEL)})
    async with running(settings) as app:
        response = await embed(app, model="house")
        assert np.array_equal(vectors(response), vectors(await embed(app)))
        assert response.json()["gateflow"]["space"] == f"{MODEL}@256"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
async def test_both_paths_answer(app: App, path: str) -> None:
    """The path with and without `/v1` is the same route."""
    response = await call(app, "POST", path, body={"model": MODEL, "input": "a text"})
    assert np.array_equal(vectors(response), vectors(await embed(app)))


@pytest.mark.parametrize(
    ("mode", "blocks"),
    [
        ("both", {"providerMetadata", "gateflow"}),
        ("gateway", {"providerMetadata"}),
        ("gateflow", {"gateflow"}),
        ("none", set()),
    ],
)
async def test_the_operator_chooses_the_blocks(tmp_path: Path, mode: Any, blocks: set[str]) -> None:
    """`server.response_metadata` decides which extension blocks an answer carries."""
    server = ServerSettings(response_metadata=mode)
    async with running(Settings(home=str(tmp_path), server=server)) as app:
        body = (await embed(app)).json()
    assert set(body) == {"object", "data", "model", "usage"} | blocks


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": MODEL, "input": ["x"] * 2048}),
        ("/v4/ai/embedding-model", {"values": ["x"] * 2048}),
    ],
)
async def test_large_answers_are_rendered_off_the_loop(
    app: App, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    """Half a million numbers are turned into text in another thread than the event loop's."""
    threads = set()
    from embedway.server import ai_sdk, render

    for module in (render, ai_sdk):
        original = render.float_json

        def watched(vector: bytes, original: Any = original) -> Any:
            threads.add(threading.current_thread())
            return original(vector)

        monkeypatch.setattr(module, "float_json", watched)
    response = await call(app, "POST", path, {"ai-model-id": MODEL}, body)
    assert response.status == 200
    assert len(threads) == 1
    assert threading.current_thread() not in threads


async def test_many_callers_at_once_get_their_own(app: App) -> None:
    """A hundred requests at the same time get each their own vectors."""
    alone = [vectors(await embed(app, input=f"text {i}")) for i in range(100)]
    at_once = await asyncio.gather(*(embed(app, input=f"text {i}") for i in range(100)))
    for expected, response in zip(alone, at_once, strict=True):
        assert np.allclose(expected, vectors(response), atol=1e-6)


async def test_cors_only_where_it_is_set(tmp_path: Path, app: App) -> None:
    """No answer allows another origin unless the operator has named it."""
    preflight = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in (await embed(app)).headers
    server = ServerSettings(cors_origins=("https://shop.example",))
    async with running(Settings(home=str(tmp_path), server=server)) as other:
        other.runtime.keys.create("k")
        allowed = await call(other, "OPTIONS", "/v1/embeddings", preflight)
        assert allowed.status == 200
        assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
        foreign = {**preflight, "origin": "https://evil.example"}
        refused = await call(other, "OPTIONS", "/v1/embeddings", foreign)
        assert "access-control-allow-origin" not in refused.headers
