"""What the caller of a limited key sees: the headers, the refusals, and when to come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from embedway.secret import Secret
from embedway.server.app import App
from embedway.settings import CacheSettings, Settings
from embedway.types import Rates
from tests.asgi import MODEL, Response, bearer, call, embed, running
from tests.fakes import FakeClock, make_call, make_grant
from tests.store.redis_server import RedisServer, require_redis

pytestmark = pytest.mark.asyncio(loop_scope="session")


def make_key(app: App, **limits: Any) -> Secret:
    """A new key with these limits."""
    return app.runtime.keys.create("ci", **limits)[1]


def told(response: Response) -> dict[str, str]:
    """The headers about limits, without what they have in common."""
    start = "x-ratelimit-"
    return {
        name.removeprefix(start): value
        for name, value in response.headers.items()
        if name.startswith(start)
    }


async def test_on_every_answer(own: App, clock: FakeClock) -> None:
    """An answer, a refusal for the limit and an error of another kind all say how the limits stand;
    what never reached a model counted nothing."""
    key = bearer(make_key(own, requests_per_minute=2, tokens_per_minute=1000))
    wrong = await embed(own, key, dimensions="many")
    assert (wrong.status, told(wrong)["remaining-requests"]) == (400, "2")
    first = await embed(own, key)
    clock.advance(12.5)
    second = await embed(own, key)
    refused = await embed(own, key)

    tokens = first.json()["usage"]["total_tokens"]
    assert [first.status, second.status, refused.status] == [200, 200, 429]
    assert (
        told(second)
        == told(refused)
        == {
            "limit-requests": "2",
            "remaining-requests": "0",
            "reset-requests": "48s",
            "limit-tokens": "1000",
            "remaining-tokens": str(1000 - 2 * tokens),
            "reset-tokens": "48s",
        }
    )
    assert told(first)["reset-requests"] == "1m0s"


async def test_when_to_come_back(own: App, clock: FakeClock) -> None:
    """Who is refused reads when there is room again, and it is true: not a second earlier."""
    key = bearer(make_key(own, requests_per_minute=1))
    assert (await embed(own, key)).status == 200
    clock.advance(20)
    refused = await embed(own, key)

    assert refused.headers["retry-after"] == "40"
    assert "x-should-retry" not in refused.headers
    assert refused.error["type"] == "rate_limit_error"
    assert refused.error["code"] == "rate_limit_exceeded"
    assert refused.error["message"].endswith("Try again in 40 s.")
    clock.advance(39)
    assert (await embed(own, key)).status == 429
    clock.advance(1)
    assert (await embed(own, key)).status == 200


async def test_no_limits_no_headers(own: App) -> None:
    """A key without limits hears nothing of them, also while another one is refused."""
    limited, free = bearer(make_key(own, requests_per_minute=1)), bearer(make_key(own))
    for _ in range(2):
        await embed(own, limited)

    assert told(await embed(own, free)) == {}


async def test_a_hit_counts(own: App) -> None:
    """What the cache answers is a request, too, with all its tokens."""
    key = bearer(make_key(own, requests_per_minute=9, tokens_per_minute=1000))
    first, again = [await embed(own, key) for _ in range(2)]

    assert again.json()["gateflow"]["cache"]["hits"] == 1
    assert told(again)["remaining-requests"] == "7"
    used = [1000 - int(told(answer)["remaining-tokens"]) for answer in (first, again)]
    assert used[1] == 2 * used[0] > 0


async def test_what_the_key_may_not_ask_for(own: App) -> None:
    """A request for a model that the key may not use uses up nothing of its limit."""
    key = bearer(make_key(own, requests_per_minute=2, models=("openai/text-embedding-3-small",)))
    refused = await embed(own, key)

    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
    assert told(refused)["remaining-requests"] == "2"


async def test_refusals_are_counted(own: App) -> None:
    """A refused request is in the books: the meter stands above the limit."""
    key = bearer(make_key(own, requests_per_minute=1))
    for _ in range(2):
        await embed(own, key)

    metrics = own.runtime.metrics.render().decode()
    assert f'embedway_requests_total{{model="{MODEL}",provider="none",status="429"}} 1.0' in metrics


async def test_the_ai_sdk_is_told(own: App) -> None:
    """The AI SDK's route keeps to the same limit, with its own word for it."""
    key = bearer(make_key(own, requests_per_minute=1))
    headers = {**key, "ai-model-id": MODEL}
    await embed(own, key)
    refused = await call(own, "POST", "/v4/ai/embedding-model", headers, {"values": ["a"]})

    assert (refused.status, refused.error["type"]) == (429, "rate_limit_exceeded")
    assert (refused.headers["retry-after"], told(refused)["remaining-requests"]) == ("60", "0")


async def test_requests_at_a_time(own: App) -> None:
    """While a request of a key is under way, the next one is refused and told to try again; when it
    is answered there is room."""
    key, text = own.runtime.keys.create("ci", concurrency=1)
    grant = make_grant(key_id=key.id, rates=Rates(concurrency=1))
    under_way = make_call(grant=grant)
    await own.runtime.rates.enter(under_way, 0)
    refused = await embed(own, bearer(text))

    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert told(refused) == {}
    own.runtime.rates.leave(under_way, 0, 0)
    for _ in range(2):
        assert (await embed(own, bearer(text))).status == 200


def client_of(app: App, key: Secret) -> openai.AsyncOpenAI:
    """The official client."""
    return openai.AsyncOpenAI(
        api_key=key.reveal(),
        base_url="http://127.0.0.1:1536/v1",
        http_client=httpx2.AsyncClient(transport=httpx2.ASGITransport(app)),
        max_retries=0,
    )


async def test_the_official_client(own: App) -> None:
    """OpenAI's client raises its RateLimitError, which holds the code, the message and the wait."""
    client = client_of(own, make_key(own, requests_per_minute=1))
    answer = await client.embeddings.with_raw_response.create(model=MODEL, input="a")
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(openai.RateLimitError) as caught:
        await client.embeddings.create(model=MODEL, input="a")

    assert caught.value.code == "rate_limit_exceeded"
    assert "may send 1 request a minute" in str(caught.value)
    assert caught.value.response.headers["retry-after"] == "60"


async def test_the_official_client_does_not_repeat_the_impossible(own: App) -> None:
    """A request that alone is over the limit is sent once, however patient the client is."""
    client = client_of(own, make_key(own, tokens_per_minute=5)).with_options(max_retries=5)
    with pytest.raises(openai.RateLimitError, match="send fewer inputs at once") as caught:
        await client.embeddings.create(model=MODEL, input="a long text " * 10)

    headers = caught.value.response.headers
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"


async def test_a_redis_that_stops_answering(tmp_path: Path) -> None:
    """Where the limit is in a Redis that stops answering, limited callers are served all the same,
    and the metrics show it."""
    require_redis()
    redis = RedisServer(tmp_path)
    settings = Settings(home=str(tmp_path), redis_url=redis.url, cache=CacheSettings(enabled=False))
    try:
        async with running(settings) as app:
            key = bearer(make_key(app, requests_per_minute=1))
            statuses = [(await embed(app, key)).status for _ in range(2)]
            assert statuses == [200, 429]
            redis.freeze()
            for _ in range(3):
                assert (await embed(app, key)).status == 200
            metrics = app.runtime.metrics.render().decode()
            assert "embedway_skipped_rate_checks_total 3.0" in metrics
            redis.thaw()
    finally:
        redis.stop()
