"""What is told of the books is what stands in them, to the last token and picodollar."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace
from sqlalchemy import Engine, Table, delete, insert

from embedway.errors import InvalidRequest
from embedway.ledger import UsageLine
from embedway.store.database import ATTEMPTS, USAGE, StoreError
from embedway.store.usage import (
    GROUPS,
    AttemptSums,
    Group,
    UsageQuery,
    UsageSum,
    attempt_sums,
    unknown_attempts_of,
    usage_sums,
)

DAY_MS = 86_400_000
NOON = 1_800_000_000_000  # 2027-01-15 08:00 UTC
EVERYTHING = UsageQuery()
NAMES = ("a", "b", "ß%_")
TAGS = ("a", "A", ",", '"', "\\", "\0", "%", "ß/_")
"""Among them what has a meaning in JSON, in a pattern of SQL, or nowhere in PostgreSQL."""
SUMMED = ("inputs", "tokens", "cost", "market_cost", "saved")


def line(id: str = "1", **changes: Any) -> UsageLine:
    """A request that was answered."""
    usual = UsageLine(
        id=id,
        created_ms=NOON,
        key_id="k1",
        model="openai/text-embedding-3-small",
        provider="openai",
        inputs=2,
        tokens=10,
        cost=200_000,
        market_cost=300_000,
        latency_ms=12,
        status=200,
        saved=100_000,
    )
    return replace(usual, **changes)


def keep(engine: Engine, lines: Iterable[UsageLine]) -> None:
    """The lines, and no others, are the usage book."""
    rows = [{**asdict(one), "tags": orjson.dumps(one.tags).decode()} for one in lines]
    with engine.begin() as connection:
        connection.execute(delete(USAGE))
        if rows:
            connection.execute(insert(USAGE), rows)


def attempt(id: str, state: str, **changes: Any) -> dict[str, Any]:
    """A row of the attempts book."""
    return {
        "id": id,
        "request_id": "r" + id,
        "process": "p",
        "key_id": "k1",
        "project": "default",
        "model": "openai/text-embedding-3-small",
        "provider": "openai",
        "inputs": 1,
        "state": state,
        "reserved_tokens": 100,
        "reserved_cost": 2_000_000,
        "tokens": None,
        "cost": None,
        "created_ms": NOON,
        "ended_ms": None,
        "status": None,
        "code": None,
        **changes,
    }


def keep_attempts(engine: Engine, *rows: dict[str, Any]) -> None:
    """The rows are in the attempts book."""
    with engine.begin() as connection:
        connection.execute(insert(ATTEMPTS), list(rows))


def counted(one: UsageSum) -> tuple[int, ...]:
    """The numbers of a sum."""
    return one.requests, one.errors, one.inputs, one.tokens, one.cost, one.market_cost, one.saved


def total(sums: Iterable[UsageSum]) -> tuple[int, ...]:
    """The numbers of sums, added up."""
    return tuple(map(sum, zip(*map(counted, sums), strict=True)))


whole = st.integers(0, 2**62)
LINES = st.lists(
    st.builds(
        line,
        created_ms=st.integers(NOON - 2 * DAY_MS, NOON + 2 * DAY_MS),
        key_id=st.sampled_from(NAMES),
        model=st.sampled_from(NAMES),
        provider=st.sampled_from((None, *NAMES)),
        project=st.sampled_from(NAMES),
        user=st.sampled_from((None, "", *NAMES)),
        tags=st.lists(st.sampled_from(TAGS), max_size=3, unique=True).map(tuple),
        code=st.sampled_from((None, "caller_gone")),
        status=st.sampled_from((200, 499)),
        inputs=st.integers(0, 2**31 - 1),
        tokens=whole,
        cost=whole,
        market_cost=whole,
        saved=whole,
    ),
    max_size=8,
).map(lambda lines: [replace(one, id=str(number)) for number, one in enumerate(lines)])
quietly = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def values(one: UsageLine, name: str) -> tuple[str | None, ...]:
    """What a line counts under in that grouping."""
    if name == "tag":
        return one.tags or (None,)
    if name == "day":
        return (DAYS[one.created_ms // DAY_MS - NOON // DAY_MS],)
    return (getattr(one, "key_id" if name == "key" else name),)


DAYS = {-2: "2027-01-13", -1: "2027-01-14", 0: "2027-01-15", 1: "2027-01-16", 2: "2027-01-17"}


def groups(one: UsageLine, by: Iterable[str]) -> Iterable[tuple[str | None, ...]]:
    """Every group that a line counts in."""
    return product(*(values(one, name) for name in by))


@quietly
@given(lines=LINES, by=st.lists(st.sampled_from(GROUPS), unique=True))
def test_groups(engine: Engine, lines: list[UsageLine], by: list[Group]) -> None:
    """Each group holds exactly the sums of its own lines, beyond 64 bits too, and where tags are
    not among the groups they add up to the whole."""
    keep(engine, lines)
    sums = usage_sums(engine, EVERYTHING, by)
    wanted: dict[tuple[str | None, ...], tuple[int, ...]] = {} if by else {(): (0,) * 7}
    for one in lines:
        mine = (1, one.code is not None, *(getattr(one, name) for name in SUMMED))
        for group in groups(one, by):
            wanted[group] = tuple(map(sum, zip(wanted.get(group, (0,) * 7), mine, strict=True)))

    assert {one.group: counted(one) for one in sums} == wanted
    if "tag" not in by and lines:
        assert total(sums) == total(usage_sums(engine, EVERYTHING))


@quietly
@given(
    lines=LINES,
    query=st.builds(
        UsageQuery,
        since_ms=st.none() | st.integers(NOON - DAY_MS, NOON + DAY_MS),
        until_ms=st.none() | st.integers(NOON - DAY_MS, NOON + DAY_MS),
        key_id=st.sampled_from((None, *NAMES)),
        project=st.sampled_from((None, *NAMES)),
        model=st.sampled_from((None, *NAMES)),
        provider=st.sampled_from((None, *NAMES)),
        user=st.sampled_from((None, "", *NAMES)),
        tag=st.sampled_from((None, *TAGS)),
        status=st.sampled_from((None, 200, 499)),
    ),
)
def test_queries(engine: Engine, lines: list[UsageLine], query: UsageQuery) -> None:
    """A query counts the lines that match all it names, and no others."""
    keep(engine, lines)
    mine = [one for one in lines if matches(one, query)]
    (found,) = usage_sums(engine, query)

    assert (found.requests, found.tokens) == (len(mine), sum(one.tokens for one in mine))


def matches(one: UsageLine, query: UsageQuery) -> bool:
    """Whether the line is among those that are asked for."""
    if query.since_ms is not None and one.created_ms < query.since_ms:
        return False
    if query.until_ms is not None and one.created_ms >= query.until_ms:
        return False
    if query.tag is not None and query.tag not in one.tags:
        return False
    names = ("key_id", "project", "model", "provider", "user", "status")
    return all(getattr(query, name) in (None, getattr(one, name)) for name in names)


def test_bounds(engine: Engine) -> None:
    """The first millisecond that is asked for counts, and the one after the last does not."""
    keep(engine, [line(str(time), created_ms=time) for time in range(NOON, NOON + 4)])
    (found,) = usage_sums(engine, UsageQuery(since_ms=NOON + 1, until_ms=NOON + 3))

    assert found.requests == 2


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag(engine: Engine, tag: str) -> None:
    """A tag is found wherever it stands, and is not taken for what only looks like it in JSON, in a
    pattern of SQL or in letters of another case."""
    lines = [line(str(number), tags=(other,)) for number, other in enumerate(TAGS)]
    others = tuple(other for other in TAGS if other != tag)
    keep(engine, [*lines, line("all", tags=TAGS), line("others", tags=others), line("none")])
    (found,) = usage_sums(engine, UsageQuery(tag=tag))

    assert found.requests == 2


def test_an_empty_database(engine: Engine) -> None:
    """Where nothing is kept, everything adds up to nothing, and there are no groups."""
    assert total(usage_sums(engine, EVERYTHING)) == (0,) * 7
    assert usage_sums(engine, EVERYTHING, GROUPS) == []
    assert asdict(attempt_sums(engine, EVERYTHING)) == dict.fromkeys(
        AttemptSums.__struct_fields__, 0
    )
    assert unknown_attempts_of(engine, EVERYTHING) == []


def test_order(engine: Engine) -> None:
    """Groups come in the order of their values, days as they passed, what has no value last."""
    keep(
        engine,
        [
            line("1", user="b", created_ms=NOON),
            line("2", user=None, created_ms=NOON - DAY_MS),
            line("3", user="a", created_ms=NOON),
            line("4", user="b", created_ms=NOON - DAY_MS),
        ],
    )
    assert [one.group for one in usage_sums(engine, EVERYTHING, ("day", "user"))] == [
        ("2027-01-14", "b"),
        ("2027-01-14", None),
        ("2027-01-15", "a"),
        ("2027-01-15", "b"),
    ]


def test_days_end_at_midnight(engine: Engine) -> None:
    """A day is that of UTC, from its first millisecond to its last."""
    midnight = NOON // DAY_MS * DAY_MS
    keep(engine, [line("1", created_ms=midnight - 1), line("2", created_ms=midnight)])
    days = usage_sums(engine, EVERYTHING, ("day",))
    assert [(one.group, one.requests) for one in days] == [
        (("2027-01-14",), 1),
        (("2027-01-15",), 1),
    ]


def test_a_record(engine: Engine) -> None:
    """A record has the names that were grouped by, tokens as numbers and money as text, exact
    beyond what a float holds."""
    keep(
        engine, [line("1", tokens=2**60 + 1, cost=2**62, tags=("x",)), line("2", tokens=0, cost=1)]
    )
    (first, second) = usage_sums(engine, EVERYTHING, ("tag", "model"))
    record = json.loads(json.dumps(first.record(("tag", "model"))))
    assert record == {
        "tag": "x",
        "model": "openai/text-embedding-3-small",
        "requests": 1,
        "errors": 0,
        "inputs": 2,
        "tokens": 2**60 + 1,
        "cost": "4611686.018427387904",
        "market_cost": "0.0000003",
        "saved": "0.0000001",
    }
    assert second.record(("tag", "model"))["tag"] is None


@pytest.mark.parametrize(
    ("by", "told"),
    [
        (
            ("key", "colour"),
            "by: 'colour' is none of key, model, provider, project, user, tag, day",
        ),
        (("day", "key", "day"), "by: names day twice"),
    ],
)
def test_a_wrong_grouping(engine: Engine, by: Any, told: str) -> None:
    """A group that there is not, or that is named twice, is refused by name."""
    with pytest.raises(InvalidRequest, match=told) as caught:
        usage_sums(engine, EVERYTHING, by)
    assert caught.value.param == "by"


def test_attempts(engine: Engine) -> None:
    """Of settled attempts the provider's numbers count, of unknown ones what was reserved, of the
    others only how many there are."""
    keep_attempts(
        engine,
        attempt("1", "settled", tokens=2**62, cost=2**62),
        attempt("2", "settled", tokens=2**62, cost=2**62),
        attempt("3", "unknown", reserved_tokens=2**53 + 1),
        attempt("4", "unknown", reserved_tokens=6),
        attempt("5", "unbilled", tokens=0, cost=0),
        attempt("6", "reserved"),
        attempt("7", "reserved"),
        attempt("8", "reserved"),
    )
    assert attempt_sums(engine, EVERYTHING) == AttemptSums(
        settled_tokens=2**63,
        settled_cost=2**63,
        unknown_attempts=2,
        unknown_tokens_reserved=2**53 + 7,
        unbilled_attempts=1,
        reserved_attempts=3,
    )
    assert attempt_sums(engine, EVERYTHING).record() == {
        "settled_tokens": 2**63,
        "settled_cost": "9223372.036854775808",
        "unknown_attempts": 2,
        "unknown_tokens_reserved": 2**53 + 7,
        "unbilled_attempts": 1,
        "reserved_attempts": 3,
    }


@pytest.mark.parametrize(
    "query",
    [
        UsageQuery(since_ms=NOON + 1),
        UsageQuery(until_ms=NOON),
        UsageQuery(key_id="k2"),
        UsageQuery(project="other"),
        UsageQuery(model="other"),
        UsageQuery(provider="other"),
        UsageQuery(status=500),
    ],
)
def test_attempts_of_a_query(engine: Engine, query: UsageQuery) -> None:
    """Attempts are chosen by all that they have, for the sums as for the list."""
    keep_attempts(engine, attempt("1", "unknown", status=503), attempt("2", "reserved"))
    sums = attempt_sums(engine, query)
    assert (sums.unknown_attempts, sums.reserved_attempts) == (0, 0)
    assert unknown_attempts_of(engine, query) == []


def test_unknown_attempts(engine: Engine) -> None:
    """What has to be looked for on a provider's bill is listed, oldest first, with its time, its
    provider and what was reserved."""
    keep_attempts(
        engine,
        attempt("2", "unknown", created_ms=NOON + 1, status=503, code="provider_unavailable"),
        attempt("1", "unknown", ended_ms=NOON + 5),
        attempt("3", "settled", tokens=1, cost=1),
    )
    first, second = unknown_attempts_of(engine, EVERYTHING)
    assert [first.id, second.id] == ["1", "2"]
    assert first.record() == {
        "id": "1",
        "request_id": "r1",
        "key_id": "k1",
        "project": "default",
        "model": "openai/text-embedding-3-small",
        "provider": "openai",
        "inputs": 1,
        "reserved_tokens": 100,
        "reserved_cost": "0.000002",
        "created_ms": NOON,
        "ended_ms": NOON + 5,
        "status": None,
        "code": None,
    }
    assert (second.status, second.code) == (503, "provider_unavailable")


@pytest.mark.parametrize("name", ["user", "tag"])
@pytest.mark.parametrize("ask", [attempt_sums, unknown_attempts_of])
def test_attempts_have_no_caller(engine: Engine, ask: Callable[..., Any], name: str) -> None:
    """A user or a tag is refused where attempts are asked for, instead of being passed over."""
    with pytest.raises(InvalidRequest, match=f"{name}: attempts at providers have none") as caught:
        ask(engine, UsageQuery(**{name: "x"}))
    assert caught.value.param == name


@pytest.mark.parametrize("table", [USAGE, ATTEMPTS])
def test_an_unreadable_book(engine: Engine, table: Table) -> None:
    """A book that cannot be read is a StoreError without data in it."""
    table.drop(engine)
    ask = usage_sums if table is USAGE else attempt_sums
    with pytest.raises(StoreError, match=rf"^{table.name} cannot be read: [A-Za-z]+$"):
        ask(engine, UsageQuery(key_id="k1"))
