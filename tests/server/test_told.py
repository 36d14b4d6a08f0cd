"""What callers are told of the way their request went: in answers and in errors, on all routes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from embedway.provider import HttpRequest, HttpResponse
from embedway.secret import Secret
from embedway.server.app import App
from embedway.settings import AccountSettings, ServerSettings, Settings
from tests.asgi import MODEL, Response, call, embed, running
from tests.fakes import FakeClock, ScriptedSend, until
from tests.server.provider import SMALL, answer, failure

pytestmark = pytest.mark.asyncio(loop_scope="session")

Answers = Callable[[HttpRequest], HttpResponse]


def two_accounts(home: Path, **answers: Answers) -> AbstractAsyncContextManager[App]:
    """A gateway with the accounts "one" and "two" at OpenAI, each with its own answers."""
    accounts = {
        name: AccountSettings(
            kind="openai",
            base_url=f"https://{name}.example.com/v1",
            api_key=Secret(f"sk-of-{name}"),
        )
        for name in ("one", "two")
    }

    def send(request: HttpRequest) -> HttpResponse:
        name = request.url.removeprefix("https://").partition(".")[0]
        return answers.get(name, answer)(request)

    settings = Settings(home=str(home), providers=accounts)
    return running(settings, send=ScriptedSend(send), clock=FakeClock())


def refuse(status: int) -> Answers:
    """An account that always answers so."""
    return lambda request: failure(status)


def gateway_of(response: Response) -> Any:
    """`providerMetadata.gateway.routing`."""
    return response.json()["providerMetadata"]["gateway"]["routing"]


async def test_a_retry_is_told(tmp_path: Path) -> None:
    """After a failure the answer tells of both attempts: who was asked first, who served, what the
    first one said, and that no other model was needed."""
    async with two_accounts(tmp_path, one=refuse(503)) as app:
        response = await embed(app, model=SMALL, provider={"order": ["one", "two"]})
    routing = gateway_of(response)
    assert (routing["resolvedProvider"], routing["finalProvider"]) == ("one", "two")
    assert (routing["modelAttemptCount"], routing["totalProviderAttemptCount"]) == (1, 2)
    (model,) = routing["modelAttempts"]
    assert (model["success"], model["providerAttemptCount"]) == (True, 2)
    first, second = model["providerAttempts"]
    assert (first["provider"], first["statusCode"], first["success"]) == ("one", 503, False)
    assert (second["provider"], second["success"]) == ("two", True)
    assert routing["fallbacksAvailable"] == ["one"]
    assert response.json()["gateflow"]["routing"] == {
        "requested_model": SMALL,
        "selected_model": SMALL,
        "fallback_used": False,
        "attempts": [
            {"model": SMALL, "provider": "one", "status": "failed", "error": "503"},
            {"model": SMALL, "provider": "two", "status": "success"},
        ],
    }


async def test_an_error_tells_as_much(tmp_path: Path) -> None:
    """A request that failed everywhere tells what was asked, planned and tried, and costs
    nothing."""
    async with two_accounts(tmp_path, one=refuse(503), two=refuse(401)) as app:
        response = await embed(
            app, model="text-embedding-3-small", provider={"order": ["one", "two"]}
        )
    body = response.json()
    routing = gateway_of(response)
    assert body["error"]["type"] == "provider_error"
    assert response.headers["x-should-retry"] == "false"
    assert (routing["originalModelId"], routing["canonicalSlug"]) == (
        "text-embedding-3-small",
        SMALL,
    )
    (model,) = routing["modelAttempts"]
    tried = [(one["provider"], one["statusCode"]) for one in model["providerAttempts"]]
    assert tried[:2] == [("one", 503), ("two", 401)]
    assert (model["success"], routing["totalProviderAttemptCount"]) == (False, len(tried))
    assert "one(system) → two(system)" in routing["planningReasoning"]
    assert body["providerMetadata"]["gateway"]["cost"] == "0"
    request_id = body["gateflow"]["request_id"]
    assert body["providerMetadata"]["gateway"]["generationId"][4:] == request_id[4:]
    assert body["gateflow"]["routing"]["fallback_used"] is False
    assert "sk-of" not in str(body)


async def test_a_failed_fallback_is_told(tmp_path: Path) -> None:
    """If no model could serve, the error is the first model's, and tells of all: those that were
    asked with their attempts, those passed over with the reason and none."""
    async with two_accounts(tmp_path, one=refuse(503), two=refuse(503)) as app:
        fallbacks = {"fallbacks": ["cohere/embed-v4.0", "openai/text-embedding-3-large"]}
        response = await embed(app, model=SMALL, gateflow=fallbacks)
    routing = gateway_of(response)
    models = {model["modelId"].rpartition(":")[2]: model for model in routing["modelAttempts"]}
    passed_over = models["cohere/embed-v4.0"]
    assert (passed_over["error"], passed_over["providerAttempts"]) == ("model_not_found", [])
    assert models["text-embedding-3-large"]["providerAttemptCount"] >= 1
    told = response.json()["gateflow"]["routing"]
    assert (told["fallback_used"], told["fallback_reason"]) == (True, "provider_error")
    assert "selected_model" not in told
    skipped = next(one for one in told["attempts"] if one["status"] == "skipped")
    assert skipped == {
        "model": "cohere/embed-v4.0",
        "status": "skipped",
        "error": "model_not_found",
    }


async def test_who_was_refused_before_anybody_was_asked(tmp_path: Path) -> None:
    """An error before any attempt has no routing to tell of."""
    async with two_accounts(tmp_path) as app:
        for fields in ({"dimensions": 5000}, {"model": "nothing"}):
            assert set((await embed(app, **{"model": SMALL, **fields})).json()) == {"error"}


async def test_a_hit_asked_nobody(tmp_path: Path) -> None:
    """An answer from the cache was made without an attempt, and says so."""
    async with two_accounts(tmp_path) as app:
        await embed(app, model=SMALL)
        response = await embed(app, model=SMALL)
    routing = gateway_of(response)
    assert (routing["resolvedProvider"], routing["finalProvider"]) == ("cache", "cache")
    assert (routing["modelAttempts"], routing["totalProviderAttemptCount"]) == ([], 0)
    assert routing["planningReasoning"] == "Every vector was known. Else it would be: one, two."
    assert "routing" not in response.json()["gateflow"]


@pytest.mark.parametrize("path", ["/v4/ai/embedding-model", "/v1/ai/embedding-model"])
async def test_the_ai_sdk_is_told_as_much(tmp_path: Path, path: str) -> None:
    """On the AI SDK's routes answers and errors carry the gateway's block, too."""
    body = {"input": ["a"]} if path.startswith("/v1") else {"values": ["a"]}
    headers = {"ai-model-id": SMALL}
    async with two_accounts(tmp_path, one=refuse(503), two=refuse(503)) as app:
        failed = await call(app, "POST", path, headers, body)
    assert failed.status == 503
    assert gateway_of(failed)["totalProviderAttemptCount"] >= 2
    assert "gateflow" not in failed.json()
    async with two_accounts(tmp_path / "good") as app:
        assert gateway_of(await call(app, "POST", path, headers, body))["canonicalSlug"] == SMALL


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"provider": {"order": ["two"]}}, "two(system) → one(system). Order: the request's own."),
        ({"provider": {"only": ["two"]}}, "planned for: two. Total execution order: two(system)."),
        ({"provider": {"sort": "cost"}}, "Order: the cheapest first."),
        ({"provider": {"sort": "latency"}}, "Order: the fastest first."),
        ({}, "Order: by health and load."),
    ],
)
async def test_the_plan_says_why(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    """`planningReasoning` names the accounts that could serve, their order, and its reason; who
    served stands first."""
    async with two_accounts(tmp_path) as app:
        response = await embed(app, model=SMALL, **fields)
    routing = gateway_of(response)
    assert words in routing["planningReasoning"]
    assert f"order: {routing['finalProvider']}(" in routing["planningReasoning"]


async def test_the_plan_says_who_is_let_alone(tmp_path: Path) -> None:
    """An account whose breaker is open, or that is at its limit, is named as let alone."""
    answers = {"one": refuse(401), "two": answer}
    async with two_accounts(tmp_path, one=lambda request: answers["one"](request)) as app:
        order = {"order": ["one", "two"]}
        await embed(app, model=SMALL, input="first", provider=order)
        response = await embed(app, model=SMALL, input="second", provider=order)
    assert gateway_of(response)["totalProviderAttemptCount"] == 1
    reasoning = gateway_of(response)["planningReasoning"]
    assert "Let alone for now: one (failed again and again)." in reasoning


async def test_own_credentials_are_told_apart(tmp_path: Path) -> None:
    """An account that was asked with the caller's own credential is planned for as such."""
    settings = Settings(
        home=str(tmp_path), providers={"openai": AccountSettings(api_key=Secret("sk-operator"))}
    )
    byok = {"openai": [{"apiKey": "sk-callers-own"}]}
    async with running(settings, send=ScriptedSend(answer)) as app:
        options = {"gateway": {"byok": byok}}
        response = await embed(app, model=SMALL, providerOptions=options)
    reasoning = gateway_of(response)["planningReasoning"]
    assert reasoning == (
        "Own credentials planned for: openai. Total execution order: openai(byok)."
    )


@pytest.mark.parametrize(
    "value",
    ["0", "-1", "1.5", "1e3", "", "abc", "1 000", "٣", "0x10", "+5", "NaN"],
)
async def test_a_time_that_is_none(app: App, value: str) -> None:
    """A time limit other than a whole number of milliseconds from 1 on is refused by its name."""
    encoded = value.encode().decode("latin-1")
    response = await embed(app, {"x-request-timeout-ms": encoded})
    error = response.error
    assert (response.status, error["code"]) == (400, "invalid_parameter")
    assert error["param"] == "x-request-timeout-ms"
    assert "X-Request-Timeout-Ms" in error["message"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0250", 0.25), ("7000", 7), ("8000", 7), ("9" * 5000, 7), (None, 3)],
)
async def test_the_callers_time_limit(tmp_path: Path, value: str | None, seconds: float) -> None:
    """The provider gets nearly all the time that the caller gives, and never more, nor more than
    the operator allows."""
    send = ScriptedSend(answer)
    settings = Settings(
        home=str(tmp_path),
        providers={"openai": AccountSettings(api_key=Secret("sk-operator"))},
        server=ServerSettings(request_timeout_s=3, max_request_timeout_s=7),
    )
    headers = {} if value is None else {"x-request-timeout-ms": value}
    async with running(settings, send=send, clock=FakeClock()) as app:
        response = await embed(app, headers, model=SMALL)
    assert response.status == 200
    assert 0.9 * seconds < send.limits[0][0] <= seconds


async def test_the_shortest_time_limit(tmp_path: Path) -> None:
    """One millisecond is a sound limit: when it is over nobody else is asked."""
    asked: list[HttpRequest] = []

    async def slow(request: HttpRequest) -> HttpResponse:
        asked.append(request)
        await asyncio.get_running_loop().create_future()  # for ever
        raise AssertionError

    async with two_accounts(tmp_path, one=slow, two=slow) as app:
        response = await embed(app, {"x-request-timeout-ms": "1"}, model=SMALL)
    assert (response.status, response.error["code"]) == (504, "provider_timeout")
    assert len(asked) <= 1


async def test_the_time_limit_covers_the_queues(tmp_path: Path) -> None:
    """A request that waits for its turn in a queue of ours is given up when its time is over."""
    settings = Settings(
        home=str(tmp_path),
        providers={"openai": AccountSettings(api_key=Secret("sk-operator"), concurrency=1)},
    )
    send = ScriptedSend(answer)
    async with running(settings, send=send) as app:
        limits = app.runtime.gateway.models[SMALL].limits
        limits["openai"].headroom.begin(0)  # a call that never ends
        response = await embed(app, {"x-request-timeout-ms": "50"}, model=SMALL)
        assert response.status in (503, 504)
        assert send.requests == []
        assert limits["openai"].waiting == 0
    assert MODEL not in response.error["message"]


async def test_who_waits_for_any_account_is_told(tmp_path: Path) -> None:
    """Requests that wait to travel together stand in the metrics and with the model's endpoints,
    and no longer once they are answered."""
    held = asyncio.Event()

    async def hold(request: HttpRequest) -> HttpResponse:
        await held.wait()
        return answer(request)

    async def told(app: App) -> tuple[int, str]:
        endpoints = await call(app, "GET", f"/v1/models/{SMALL}/endpoints")
        lines = (await call(app, "GET", "/metrics")).body.decode().splitlines()
        [line] = [one for one in lines if f'waiting_requests{{model="{SMALL}"}}' in one]
        return endpoints.json()["data"]["waiting"], line.rpartition(" ")[2]

    settings = Settings(
        home=str(tmp_path),
        providers={"openai": AccountSettings(api_key=Secret("sk-operator"), concurrency=1)},
    )
    async with running(settings, send=ScriptedSend(hold)) as app:
        stack = app.runtime.gateway.models[SMALL]
        asking = [asyncio.create_task(embed(app, model=SMALL, input=f"text {i}")) for i in range(3)]
        await until(lambda: stack.waiting == 2)
        assert await told(app) == (2, "2.0")
        held.set()
        assert [(await one).status for one in asking] == [200] * 3
        assert await told(app) == (0, "0.0")


async def test_the_metrics_tell_of_attempts(tmp_path: Path) -> None:
    """Attempts are counted by account and outcome, refused ones by the code of their error, and
    the breaker's state is shown; nothing that a caller wrote becomes a label."""
    async with two_accounts(tmp_path, one=refuse(401)) as app:
        order = {"order": ["one", "two", "invented"]}
        await embed(app, model=SMALL, input="first", provider=order, user="invented")
        await embed(app, model=SMALL, input="second", provider=order)
        text = (await call(app, "GET", "/metrics")).body.decode()
    lines = text.splitlines()
    for outcome, account, number in [
        ("provider_unauthorized", "one", 1),
        ("success", "two", 2),
    ]:
        labels = f'model="{SMALL}",outcome="{outcome}",provider="{account}"'
        assert f"embedway_attempts_total{{{labels}}} {number}.0" in lines
    assert f'embedway_breaker_state{{model="{SMALL}",provider="one"}} 2.0' in lines
    assert f'embedway_breaker_state{{model="{SMALL}",provider="two"}} 0.0' in lines
    assert f'embedway_queue_depth{{model="{SMALL}",provider="two"}} 0.0' in lines
    assert f'embedway_concurrency{{model="{SMALL}",provider="two"}} 64.0' in lines
    assert 'embedway_retries_total{granted="true"} 1.0' in lines
    assert "embedway_requests_in_flight 0.0" in lines
    assert "invented" not in text
