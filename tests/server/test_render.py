from __future__ import annotations

import threading
from typing import Any, Literal

import orjson
import pytest

from embedway.catalog_file import load_catalog
from embedway.server.answer import Answer, sum_up
from embedway.server.messages import Outgoing
from embedway.server.render import is_large, render, render_aside
from embedway.spaces import space_of
from embedway.types import CACHED, Embedding, EmbedParams, EmbedResponse, Plan, replace
from embedway.vectors import from_base64, from_numbers
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
    response = EmbedResponse(
        params=EmbedParams(model=SMALL, dimensions=8),
        embeddings=embeddings,
        attempts=() if set(sources) == {CACHED} else (make_attempt(),),
    )
    fields: dict[str, Any] = {
        "response": response,
        "plan": Plan(SMALL, SMALL, ("openai", "azure"), "because"),
        "is_bare": False,
        "requested_model": SMALL,
        "model": found.model,
        "market_cost": 40_000 * len(sources),
        "id": ULID,
        "request_id": f"req_{ULID}",
        "latency_ms": 89,
        "cache": "use",
        "is_kept": True,
        **changes,
    }
    totals = sum_up(fields["response"].embeddings)
    space = space_of(fields["model"], fields["response"].params)
    return Answer(totals=totals, space=space, **fields)


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


def test_the_model_is_named_as_the_caller_did() -> None:
    """A bare name is answered with a bare name; other accounts of the model are the fallbacks
    available."""
    _, body = rendered(answer("openai", is_bare=True))
    routing = body["providerMetadata"]["gateway"]["routing"]
    assert body["model"] == "text-embedding-3-small"
    assert (routing["originalModelId"], routing["planningReasoning"]) == (SMALL, "because")
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


def test_what_is_a_mean_is_said_to_be() -> None:
    """Where a vector is the mean of its input's pieces, `gateflow.averaged` has its position."""
    plain = answer("openai", "openai", "openai")
    first, second, third = plain.response.embeddings
    embeddings = (first, second, replace(third, is_averaged=True))
    response = replace(plain.response, embeddings=embeddings)
    assert rendered(answer(response=response))[1]["gateflow"]["averaged"] == [2]
    assert "averaged" not in rendered(plain)[1]["gateflow"]


@pytest.mark.parametrize("count", [1, 2, 11, 2048])
@pytest.mark.parametrize("form", ["float", "base64"])
def test_every_vector_stands_at_its_place(form: Literal["float", "base64"], count: int) -> None:
    """An answer of any length is sound JSON with every vector, bit for bit, at its index."""
    given = answer(*["openai"] * count)
    body = orjson.loads(render(given, form=form, metadata="both").body)
    assert list(body)[:2] == ["object", "data"]
    for position, (item, made) in enumerate(
        zip(body["data"], given.response.embeddings, strict=True)
    ):
        assert list(item) == ["object", "index", "embedding"]
        assert item["index"] == position
        found = item["embedding"]
        if form == "base64":
            assert from_base64(found) == made.vector
        else:
            assert from_numbers(found) == made.vector


@pytest.mark.parametrize(
    ("form", "numbers", "is_aside"),
    [
        ("float", 2**17, False),
        ("float", 2**17 + 8, True),
        ("base64", 2**17 + 8, False),
        ("base64", 2**20, False),
        ("base64", 2**20 + 8, True),
    ],
)
def test_what_counts_as_large(
    form: Literal["float", "base64"], numbers: int, is_aside: bool
) -> None:
    """What would hold the event loop for long is rendered aside; base64 may be eight times as
    large, for it is so much quicker."""
    one = answer("openai")
    embeddings = one.response.embeddings * (numbers // 8)

    assert is_large(answer(response=replace(one.response, embeddings=embeddings)), form) == is_aside


async def test_large_answers_are_rendered_aside() -> None:
    """What is rendered aside is rendered in a thread, always the same one."""
    threads = []

    def note() -> Outgoing:
        threads.append(threading.current_thread())
        return Outgoing(200, (), b"")

    for _ in range(3):
        await render_aside(note)

    assert threads[0] is not threading.current_thread()
    assert len(set(threads)) == 1
