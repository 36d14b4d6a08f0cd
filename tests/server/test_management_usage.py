"""`/v1/management/usage`: sums of the two books, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from sqlalchemy import insert

from embedway.server.app import App
from embedway.server.management_money_schemas import (
    AttemptsAnswer,
    UnknownAttemptList,
    UsageAnswer,
)
from embedway.store.database import ATTEMPTS
from tests.asgi import MODEL, embed
from tests.server.managing import answered, ask, managing
from tests.server.test_management_budgets import JANUARY_MS, line

pytestmark = pytest.mark.asyncio(loop_scope="session")

DAY_MS = 86_400_000
SMALL = "openai/text-embedding-3-small"
LINES = (
    line(1, user="ann", tags=("a", "b")),
    line(2, user="ann", tags=("a",), created_ms=JANUARY_MS + DAY_MS - 1),
    line(3, user="bob", model=SMALL, provider="openai", created_ms=JANUARY_MS + DAY_MS),
    line(4, key_id="k", project="p", status=400, code="invalid_input", cost=0, provider=None),
    line(5, user="=1+1", tags=("@x",), tokens=2**60, cost=2**60, saved=11),
)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def kept(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    """A server whose usage book has five lines."""
    async with managing(tmp_path_factory.mktemp("managed")) as app:
        for one in LINES:
            app.runtime.book.add(one)
        yield app


async def usage(app: App, query: str = "") -> UsageAnswer:
    """The answer to a query."""
    return answered(await ask(app, "GET", f"/usage{query}"), UsageAnswer)


def numbers(answer: UsageAnswer, *names: str) -> list[tuple[Any, ...]]:
    """Some fields of each row."""
    return [tuple(getattr(row, name) for name in names) for row in answer.data]


async def test_everything(kept: App) -> None:
    """Without grouping there is the summary alone, exact to the last picodollar."""
    answer = await usage(kept)
    assert answer.data == []
    summary = answer.summary
    assert (summary.total_requests, summary.total_errors, summary.total_inputs) == (5, 1, 5)
    assert summary.total_tokens == 2**60 + 8
    assert summary.total_cost == "1152921.504606846985"  # 2**60 + 9 picodollars
    assert (summary.total_market_cost, summary.cache_savings) == (
        "0.000000000025",
        "0.000000000011",
    )
    assert summary.effective_cost_per_request == "230584.300921369397"
    assert (answer.period.start, answer.period.end) == (None, None)


async def test_by(kept: App) -> None:
    """Groups come in the order and under the names that were asked for."""
    answer = await usage(kept, "?by=model,day")
    assert numbers(answer, "model", "day", "requests") == [
        (MODEL, "2027-01-01", 4),
        (SMALL, "2027-01-02", 1),
    ]
    raw = (await ask(kept, "GET", "/usage?by=day,provider")).json()["data"][0]
    assert list(raw)[:2] == ["day", "provider"]
    assert "model" not in raw
    by_provider = numbers(await usage(kept, "?by=provider"), "provider", "requests")
    assert by_provider == [("local", 3), ("openai", 1), (None, 1)]


async def test_by_tag(kept: App) -> None:
    """A request counts under each of its tags, and once in the summary."""
    answer = await usage(kept, "?by=tag")
    assert numbers(answer, "tag", "requests") == [("@x", 1), ("a", 2), ("b", 1), (None, 2)]
    assert answer.summary.total_requests == 5


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("?since=2027-01-01&until=2027-01-01", 4),
        ("?since=2027-01-02", 1),
        ("?until=2027-01-01", 4),
        ("?until=2026-12-31", 0),
        ("?since=2027-01-01T23:59:59.999Z", 2),
        ("?since=2027-01-02T00:59:59.999%2B01:00", 2),
        ("?until=2027-01-01T23:59:59.999Z", 3),
        ("?key=k", 1),
        ("?project=p", 1),
        ("?model=wordllama-256", 4),
        (f"?model={SMALL}", 1),
        ("?provider=openai", 1),
        ("?user=ann", 2),
        ("?tag=a", 2),
        ("?user=ann&tag=b", 1),
        ("?status=400", 1),
        ("?user=nobody", 0),
        ("?format=json", 5),
    ],
)
async def test_filters(kept: App, query: str, count: int) -> None:
    """What is asked for counts, and nothing else; a day counts to its end."""
    assert (await usage(kept, query)).summary.total_requests == count


async def test_the_period(kept: App) -> None:
    """The answer says from when until when it counted."""
    period = (await usage(kept, "?since=2027-01-01&until=2027-01-31")).period
    assert (period.start, period.end) == ("2027-01-01T00:00:00.000Z", "2027-02-01T00:00:00.000Z")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?by=model,week", "by"),
        ("?by=model,model", "by"),
        ("?by=", "by"),
        ("?by=model,", "by"),
        ("?by=model%00", "by"),
        ("?group=model", "group"),
        ("?since=yesterday", "since"),
        ("?since=2027-13-01", "since"),
        ("?since=2027-W01-1", "since"),
        ("?since=20270101", "since"),
        ("?since=2027-01-01T00:00:00", "since"),
        ("?since=2027-01-01T00:00:00+01:00", "since"),
        ("?until=9999-12-31", "until"),
        ("?since=2027-01-02&until=2027-01-01", "since"),
        ("?since=2027-01-01&since=2027-01-02", "since"),
        ("?status=ok", "status"),
        ("?status=200%0A", "status"),
        ("?format=xml", "format"),
        ("?user=", "user"),
        (f"?tag={'x' * 257}", "tag"),
    ],
)
async def test_wrong_queries(kept: App, query: str, param: str) -> None:
    """A query that could mean something else than it says is refused by its name."""
    response = await ask(kept, "GET", f"/usage{query}")
    assert (response.status, response.error["param"]) == (400, param), response.body


@pytest.mark.parametrize(
    ("query", "accept", "is_csv"),
    [
        ("&format=csv", "application/json", True),
        ("&format=json", "text/csv", False),
        ("", "text/csv", True),
        ("", "text/csv; charset=utf-8, */*;q=0.1", True),
        ("", "application/json, text/csv", False),
        ("", "*/*", False),
        ("", "text/csvx", False),
    ],
)
async def test_which_form(kept: App, query: str, accept: str, is_csv: bool) -> None:
    """CSV comes to whoever asks for it, in the query or in the head; the query wins."""
    response = await ask(kept, "GET", f"/usage?by=model{query}", {"accept": accept})
    kind = response.headers["content-type"].partition(";")[0]
    assert kind == ("text/csv" if is_csv else "application/json")


async def test_csv(kept: App) -> None:
    """CSV has the same numbers as JSON, and no cell that a spreadsheet would compute."""
    response = await ask(kept, "GET", "/usage?by=user,tag&format=csv")
    table = list(csv.DictReader(io.StringIO(response.body.decode(), newline="")))
    rows = (await ask(kept, "GET", "/usage?by=user,tag")).json()["data"]
    expected = [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    for row in expected:
        for name in ("user", "tag"):
            row[name] = f"'{row[name]}" if row[name].startswith(("=", "@")) else row[name]
    assert table == expected
    assert "'=1+1" in {row["user"] for row in table}
    assert "'@x" in {row["tag"] for row in table}


async def test_what_was_just_asked(own: App) -> None:
    """A request counts as soon as it is answered."""
    await embed(own, input=["one", "two"], user="me")
    answer = await usage(own, "?by=user,model,key")
    assert numbers(answer, "user", "model", "key", "requests", "inputs") == [
        ("me", MODEL, "open", 1, 2)
    ]


def attempt(number: int, state: str, **fields: Any) -> dict[str, Any]:
    """A row of the attempts book."""
    row = {
        "id": f"{number:026d}",
        "request_id": "r",
        "process": "me",
        "key_id": "k",
        "project": "p",
        "model": SMALL,
        "provider": "openai",
        "inputs": 1,
        "state": state,
        "reserved_tokens": 100,
        "reserved_cost": 2_000_000,
        "created_ms": JANUARY_MS + number,
    }
    return row | fields


async def test_attempts(own: App) -> None:
    """The attempts add up by what is known of each, and the unknown ones are listed, oldest
    first."""
    rows = (
        attempt(1, "settled", tokens=7, cost=140_000),
        attempt(2, "unknown"),
        attempt(3, "unknown", ended_ms=JANUARY_MS + 5, code="provider_timeout", status=504),
        attempt(4, "unbilled"),
        attempt(5, "reserved"),
        attempt(6, "settled", tokens=2**55, cost=2, provider="azure"),
    )
    with own.runtime.database.begin() as connection:
        for row in rows:
            connection.execute(insert(ATTEMPTS).values(row))
    sums = answered(await ask(own, "GET", "/usage/attempts"), AttemptsAnswer)
    assert (sums.settled_tokens, sums.settled_cost) == (2**55 + 7, "0.000000140002")
    assert (sums.unknown_attempts, sums.unknown_tokens_reserved) == (2, 200)
    assert (sums.unbilled_attempts, sums.reserved_attempts) == (1, 1)
    azure = answered(await ask(own, "GET", "/usage/attempts?provider=azure"), AttemptsAnswer)
    assert (azure.settled_tokens, azure.unknown_attempts) == (2**55, 0)
    found = await ask(own, "GET", "/usage/attempts/unknown?model=text-embedding-3-small")
    first, second = answered(found, UnknownAttemptList).data
    assert (first.created_at, first.ended_at) == ("2027-01-01T00:00:00.002Z", None)
    assert (second.ended_at, second.code) == ("2027-01-01T00:00:00.005Z", "provider_timeout")
    assert (second.reserved_tokens, second.reserved_cost) == (100, "0.000002")


async def test_attempts_have_no_user(own: App) -> None:
    """What attempts do not have cannot be asked of them."""
    for path in ("attempts", "attempts/unknown"):
        for name in ("user", "tag", "by", "format"):
            response = await ask(own, "GET", f"/usage/{path}?{name}=a")
            assert (response.status, response.error["param"]) == (400, name)


async def test_a_book_that_cannot_be_read(own: App, caplog: pytest.LogCaptureFixture) -> None:
    """A database that fails is a 503 with a time to wait, told to the operator without data."""
    with own.runtime.database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE usage RENAME TO elsewhere")
    for path in ("/usage", "/projects"):
        response = await ask(own, "GET", path)
        assert (response.status, response.headers["retry-after"]) == (503, "5")
        assert b"elsewhere" not in response.body
    assert "usage cannot be read" in caplog.text
    assert orjson.loads(response.body)["error"]["code"] == "overloaded"
