from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import insert

from embedway.budgets import Budget, window_of
from embedway.money import PICODOLLARS
from embedway.server.app import App
from embedway.store.books import UsageBook
from embedway.store.database import WINDOWS, StoreError
from tests.asgi import MODEL, bearer, call, embed
from tests.fakes import FakeClock
from tests.server.provider import SMALL, failure, with_openai

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIELDS = {
    "id",
    "total_cost",
    "upstream_inference_cost",
    "usage",
    "created_at",
    "model",
    "is_byok",
    "provider_name",
    "streamed",
    "finish_reason",
    "latency",
    "generation_time",
    "tokens_prompt",
    "tokens_completion",
    "native_tokens_prompt",
    "native_tokens_completion",
    "native_tokens_reasoning",
    "native_tokens_cached",
    "native_tokens_cache_creation",
    "billable_web_search_calls",
}


async def test_a_record_by_either_prefix(app: App) -> None:
    """`gen_…`, `req_…` and the bare ULID find the same record, which has every field that the AI
    SDK's client demands and none that is null."""
    body = (await embed(app, gateflow={"cache": "skip"})).json()
    ulid = body["gateflow"]["request_id"].removeprefix("req_")
    records = [
        (await call(app, "GET", f"/v1/generation?id={prefix}{ulid}")).json()["data"]
        for prefix in ("gen_", "req_", "")
    ]
    assert records[0] == records[1] == records[2]
    assert set(records[0]) == FIELDS
    assert None not in records[0].values()
    assert records[0]["id"] == f"gen_{ulid}"
    assert records[0]["model"] == MODEL
    assert records[0]["provider_name"] == "local"
    assert records[0]["tokens_prompt"] == body["usage"]["total_tokens"]
    assert datetime.fromisoformat(records[0]["created_at"]).tzinfo is not None


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?id=", 400),
        ("?id=gen_nothing", 404),
        (f"?id=gen_{'0' * 26}", 404),
        ("?id=%00", 404),
        ("?id=%ED%A0%80", 404),
    ],
)
async def test_a_record_that_is_not_there(app: App, query: str, status: int) -> None:
    """An id that is missing is a 400, one that nobody has a 404, and both name `id`."""
    response = await call(app, "GET", f"/v1/generation{query}")
    assert (response.status, response.error["param"]) == (status, "id")


async def test_costs_are_exact_numbers(tmp_path: Path) -> None:
    """The record's costs are JSON numbers, the credits' texts, both exact to the last picodollar,
    and failed requests have a record that costs nothing."""
    context, _ = with_openai(tmp_path)
    async with context as app:
        for _ in range(3):
            body = (await embed(app, model=SMALL, gateflow={"cache": "skip"})).json()
        raw = await call(app, "GET", f"/v1/generation?id={body['gateflow']['request_id']}")
        credits = (await call(app, "GET", "/v1/credits")).json()
    assert b'"total_cost":0.00000004,' in raw.body
    assert b'"usage":0.00000004,' in raw.body
    assert credits == {"balance": "Infinity", "total_used": "0.00000012"}


async def test_a_failure_has_a_record_too(tmp_path: Path) -> None:
    """A request that failed is found under the id that its error carried, with its code."""
    context, _ = with_openai(tmp_path, failure(503))
    async with context as app:
        failed = await embed(app, model=SMALL)
        path = f"/v1/generation?id={failed.headers['x-request-id']}"
        record = (await call(app, "GET", path)).json()["data"]
    assert record["finish_reason"] == "provider_unavailable"
    assert (record["total_cost"], record["tokens_prompt"]) == (0, 0)


async def test_a_key_sees_its_own_records_only(own: App) -> None:
    """Another key's record is not there, and no different from one that nobody has; an admin's key
    finds it."""
    (_, mine), (_, other) = (own.runtime.keys.create(name) for name in ("mine", "other"))
    _, admin = own.runtime.keys.create("admin", type="admin")
    ulid = (await embed(own, bearer(mine))).headers["x-request-id"].removeprefix("req_")
    path = f"/v1/generation?id=gen_{ulid}"
    assert (await call(own, "GET", path, bearer(mine))).status == 200
    assert (await call(own, "GET", path, bearer(admin))).status == 200
    refused = await call(own, "GET", path, bearer(other))
    unknown = await call(own, "GET", path[:-1] + "?", bearer(other))
    assert refused.status == unknown.status == 404
    assert refused.error["message"].replace(ulid, "") == (
        unknown.error["message"].replace(ulid[:-1] + "?", "")
    )


async def test_what_a_caller_pays_the_provider(tmp_path: Path) -> None:
    """A request with the caller's own credential costs him nothing here, and its record tells what
    the provider bills him at list price: all of it at first, nothing of what was known before."""
    context, _ = with_openai(tmp_path)
    async with context as app:
        options = {"gateway": {"byok": {"openai": [{"apiKey": "sk-callers-own"}]}}}
        told = []
        for inputs in (["a"], ["a", "b"]):
            body = await embed(app, model=SMALL, input=inputs, providerOptions=options)
            path = f"/v1/generation?id={body.headers['x-request-id']}"
            told.append((await call(app, "GET", path)).json()["data"])
    assert [record["is_byok"] for record in told] == [True, True]
    assert [record["total_cost"] for record in told] == [0, 0]
    assert [record["tokens_prompt"] for record in told] == [2, 4]
    assert [record["upstream_inference_cost"] for record in told] == [4e-8, 4e-8]


async def test_a_new_server_has_used_nothing(app: App) -> None:
    """A key without a budget has no end, and the local model costs nothing."""
    await embed(app)
    credits = (await call(app, "GET", "/v1/credits")).json()
    assert credits == {"balance": "Infinity", "total_used": "0"}


@pytest.mark.parametrize("path", ["/v1/credits", f"/v1/generation?id=gen_{'0' * 26}"])
async def test_an_unreadable_book(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A usage book that cannot be read is a 503 to try again, not a bug."""

    def broken(self: UsageBook, *_: object) -> None:
        raise StoreError("the usage book cannot be read: OperationalError")

    monkeypatch.setattr(UsageBook, "find", broken)
    monkeypatch.setattr(UsageBook, "total_cost", broken)
    context, _ = with_openai(tmp_path)
    async with context as app:
        response = await call(app, "GET", path)
    assert (response.status, response.error["code"]) == (503, "ledger_unavailable")


def spend(app: App, budget: Budget, spent: int, reserved: int) -> None:
    """So much is spent of a budget in the window of now, and reserved."""
    window = window_of(budget.period, int(app.runtime.clock.now() * 1000))
    row = {"budget_id": budget.id, "starts_ms": window.starts_ms, "ends_ms": window.ends_ms}
    with app.runtime.database.begin() as connection:
        connection.execute(insert(WINDOWS).values(**row, spent=spent, reserved=reserved))


async def test_what_is_left(own: App, clock: FakeClock) -> None:
    """The balance is what is left of the budget that ends first, the key's or its project's, less
    what is reserved; others' budgets do not count, and a new day brings a new window."""
    budgets = own.runtime.budgets
    key, secret = own.runtime.keys.create("mine", project="team")
    foreign, _ = own.runtime.keys.create("other")

    async def balance() -> str:
        found: str = (await call(own, "GET", "/v1/credits", bearer(secret))).json()["balance"]
        return found

    budgets.set("key", foreign.id, "total", 1)
    budgets.set("project", "default", "total", 1)
    assert await balance() == "Infinity"
    month = budgets.set("project", "team", "month", 5 * PICODOLLARS)
    assert await balance() == "5"
    day = budgets.set("key", key.id, "day", 2 * PICODOLLARS)
    assert await balance() == "2"
    spend(own, day, PICODOLLARS // 2, 1)
    assert await balance() == "1.499999999999"
    spend(own, month, 3 * PICODOLLARS, PICODOLLARS)
    assert await balance() == "1"
    budgets.set("key", key.id, "day", 1)
    assert await balance() == "0"  # less than is spent already
    clock.advance(86_400)
    assert await balance() == "0.000000000001"
