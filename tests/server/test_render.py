from __future__ import annotations

from typing import Any

import orjson
import pytest

from embedway.catalog_file import load_catalog
from embedway.server.answer import CACHED, Answer
from embedway.server.render import render
from embedway.types import Embedding, EmbedParams, EmbedResponse, replace
from tests.fakes import make_attempt, make_vector
from tests.server.provider import SMALL

ULID = "01M2RV50ENRGT4K2CHJ0WC4N1H"


def answer(*sources: str, **changes: Any) -> Answer:
    """An answer with one embedding from each of *sources*, eight numbers long."""
    found = load_catalog().find(SMALL)
    assert found is not None
    embeddings = tuple(
        Embedding(make_vector(f"text {i}"), 2, source, 0 if source == CACHED else 40_000)
        for i, source in enumerate(sources)
    )
    fields: dict[str, Any] = {
        "response": EmbedResponse(
            params=EmbedParams(model=SMALL, dimensions=8),
            embeddings=embeddings,
            attempts=() if set(sources) == {CACHED} else (make_attempt(),),
        ),
        "asked": SMALL,
        "is_bare": False,
        "also": (),
        "requested_model": SMALL,
        "model": found.model,
        "accounts": ("openai", "azure"),
        "cost": sum(embedding.cost for embedding in embeddings),
        "market_cost": 40_000 * len(sources),
        "id": ULID,
        "request_id": f"req_{ULID}",
        "latency_ms": 89,
        "cache": "use",
        "is_kept": True,
    }
    return Answer(**{**fields, **changes})


def rendered(answer: Answer) -> tuple[dict[str, str], Any]:
    """Headers and body."""
    outgoing = render(answer, form="float", metadata="both")
    headers = {name.decode(): value.decode() for name, value in outgoing.headers}
    return headers, orjson.loads(outgoing.body)


@pytest.mark.parametrize(
    ("sources", "header", "block", "provider", "cost"),
    [
        (
            (CACHED, CACHED),
            "embedway; hit",
            {"status": "hit", "hits": 2, "misses": 0},
            "cache",
            "0",
        ),
        (
            (CACHED, "openai", CACHED),
            'embedway; fwd=partial; detail="2/3"',
            {"status": "partial", "hits": 2, "misses": 1},
            "openai",
            "0.00000004",
        ),
        (
            ("openai",),
            "embedway; fwd=miss; stored",
            {"status": "miss", "hits": 0, "misses": 1},
            "openai",
            "0.00000004",
        ),
    ],
)
def test_known_vectors_are_said_to_be_known(
    sources: tuple[str, ...], header: str, block: dict[str, Any], provider: str, cost: str
) -> None:
    """What came from the cache costs nothing, counts in the usage, and shows in `Cache-Status`, in
    `gateflow.cache` and as provider where nobody was asked."""
    headers, body = rendered(answer(*sources))
    assert headers["cache-status"] == header
    assert body["gateflow"]["cache"] == block
    assert headers["x-embedway-provider"] == body["gateflow"]["provider"] == provider
    assert headers["x-embedway-cost"] == body["providerMetadata"]["gateway"]["cost"] == cost
    assert body["usage"]["total_tokens"] == 2 * len(sources)
    routing = body["providerMetadata"]["gateway"]["routing"]
    assert routing["totalProviderAttemptCount"] == (0 if provider == "cache" else 1)


def test_cut_inputs_are_listed() -> None:
    """If a provider cut inputs `gateflow.truncated` has their positions."""
    whole = Embedding(make_vector("a"), 2, "openai")
    cut = Embedding(make_vector("b"), 2, "openai", is_truncated=True)
    response = EmbedResponse(
        params=EmbedParams(model=SMALL, dimensions=8), embeddings=(cut, whole, cut)
    )
    assert rendered(answer("openai", response=response))[1]["gateflow"]["truncated"] == [0, 2]
    assert "truncated" not in rendered(answer("openai"))[1]["gateflow"]


def test_what_a_bare_name_could_also_have_meant_is_said() -> None:
    """A bare name that fits several models is answered by the catalogue's first, which the
    response states with the others; other accounts of the model are the fallbacks available."""
    _, body = rendered(answer("openai", is_bare=True, also=("azure/other",)))
    routing = body["providerMetadata"]["gateway"]["routing"]
    assert body["model"] == "text-embedding-3-small"
    assert "azure/other" in routing["planningReasoning"]
    assert "openai(system) → azure(system)" in routing["planningReasoning"]
    assert routing["fallbacksAvailable"] == ["azure"]


def test_the_input_type_used_is_shown() -> None:
    """Where an input type was used the block says which."""
    response = EmbedResponse(
        params=EmbedParams(model=SMALL, dimensions=8, input_type="document"),
        embeddings=(Embedding(make_vector("a"), 2, "openai"),),
    )
    _, body = rendered(answer("openai", response=response))
    assert body["gateflow"]["input_type"] == "document"


@pytest.mark.parametrize(
    ("model", "dimensions", "options", "space"),
    [
        ("openai/text-embedding-3-small", 256, b"", "openai/text-embedding-3-small@256"),
        ("google/gemini-embedding-001", 3072, b"", "google/gemini-embedding-001@3072+document"),
        ("google/gemini-embedding-001", 768, b"", "google/gemini-embedding-001#l2@768+document"),
        ("amazon/titan-embed-text-v1", 1536, b"", "amazon/titan-embed-text-v1#l2@1536"),
        (
            "amazon/titan-embed-text-v2",
            1024,
            b'{"bedrock":{"normalize":false}}',
            "amazon/titan-embed-text-v2#raw@1024",
        ),
        ("voyage/voyage-4-lite", 1024, b"", "voyage/voyage-4@1024+document"),
    ],
)
def test_the_space_says_what_may_be_compared(
    model: str, dimensions: int, options: bytes, space: str
) -> None:
    """The space names the model, the width, the input type where it matters, and whether the
    length was made 1 here or left as it came; models that share a space share its name."""
    found = load_catalog().find(model)
    assert found is not None, [m.id for m in load_catalog().models]
    params = EmbedParams(model=model, dimensions=dimensions, input_type="document", options=options)
    headers, body = rendered(
        answer(
            "openai",
            model=found.model,
            requested_model=found.model.id,
            response=EmbedResponse(params=params, embeddings=answer("openai").response.embeddings),
        )
    )
    assert headers["x-embedway-space"] == body["gateflow"]["space"] == space


def test_estimated_tokens_are_said_to_be() -> None:
    """Where tokens were estimated, `gateflow.usage_estimated` says so; else it is not there."""
    plain = answer("openai")
    response = plain.response
    guessed = tuple(replace(one, is_estimated=True) for one in response.embeddings)
    _, body = rendered(answer("openai", response=replace(response, embeddings=guessed)))
    assert body["gateflow"]["usage_estimated"] is True
    assert "usage_estimated" not in rendered(plain)[1]["gateflow"]
