"""What the two books add up to: requests of callers by any of their marks, and attempts by state.

Works on SQLite and on PostgreSQL alike, so that it asks for little. A column is summed in two
halves, because SQLite gives up where a sum leaves 64 bits. Tags are taken apart here and not by the
database: PostgreSQL's JSON refuses a NUL, and one caller's tag must not spoil everybody's sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Literal, get_args

import orjson
from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Engine,
    Label,
    RowMapping,
    Select,
    case,
    func,
    literal_column,
    select,
)

from embedway.errors import InvalidRequest
from embedway.money import usd_text
from embedway.store.database import ATTEMPTS, KEYS, USAGE
from embedway.store.transactions import reading

Group = Literal["key", "model", "provider", "project", "user", "tag", "day"]
GROUPS: tuple[Group, ...] = get_args(Group)

_EPOCH = date(1970, 1, 1)
# Written out, because PostgreSQL takes two parameters of the same value for two things.
_DAY = USAGE.c.created_ms // literal_column("86400000", BigInteger)
_HALF_BITS = 32
_HALF = literal_column(str(2**_HALF_BITS), BigInteger)
_COLUMNS: dict[Group, ColumnElement[Any]] = {
    "key": USAGE.c.key_id,
    "model": USAGE.c.model,
    "provider": USAGE.c.provider,
    "project": USAGE.c.project,
    "user": USAGE.c.user,
    "tag": USAGE.c.tags,
    "day": _DAY,
}
_SUMMED = ("inputs", "tokens", "cost", "market_cost", "saved")


class UsageQuery(Struct, frozen=True, kw_only=True):
    """Which rows count; None: whatever it is."""

    since_ms: int | None = None
    """Milliseconds since 1970, UTC: the first that counts."""
    until_ms: int | None = None
    """The first that no longer counts."""
    key_id: str | None = None
    project: str | None = None
    model: str | None = None
    """Canonical."""
    provider: str | None = None
    """The account's name."""
    user: str | None = None
    tag: str | None = None
    status: int | None = None
    """Of requests, what the caller saw; of attempts, what the provider said."""


class UsageSum(Struct, frozen=True, kw_only=True):
    """What the requests of one group add up to. Money is in picodollars."""

    group: tuple[str | None, ...]
    """A value for each thing that was grouped by, in its order. A day is like 2026-11-21, UTC."""
    requests: int
    errors: int
    inputs: int
    tokens: int
    cost: int
    market_cost: int
    saved: int

    def record(self, by: Sequence[Group]) -> dict[str, str | int | None]:
        """The group's values under the names in *by*, then the sums; money as decimal USD."""
        return {
            **dict(zip(by, self.group, strict=True)),
            "requests": self.requests,
            "errors": self.errors,
            "inputs": self.inputs,
            "tokens": self.tokens,
            "cost": usd_text(self.cost),
            "market_cost": usd_text(self.market_cost),
            "saved": usd_text(self.saved),
        }


class AttemptSums(Struct, frozen=True, kw_only=True):
    """What the attempts at providers add up to, by what is known of each."""

    settled_tokens: int
    """Tokens that providers said they counted."""
    settled_cost: int
    """Picodollars of those."""
    unknown_attempts: int
    """Sent, and nobody knows whether they were billed."""
    unknown_tokens_reserved: int
    """The most tokens that those can have had."""
    unbilled_attempts: int
    reserved_attempts: int
    """Under way."""

    def record(self) -> dict[str, str | int]:
        """The sums under their names; money as decimal USD."""
        return {**asdict(self), "settled_cost": usd_text(self.settled_cost)}


class UnknownAttempt(Struct, frozen=True, kw_only=True):
    """An attempt to look for on the provider's bill."""

    id: str
    request_id: str
    key_id: str
    project: str
    model: str
    provider: str
    inputs: int
    reserved_tokens: int
    reserved_cost: int
    created_ms: int
    ended_ms: int | None
    status: int | None
    code: str | None

    def record(self) -> dict[str, str | int | None]:
        """Its fields; money as decimal USD."""
        return {**asdict(self), "reserved_cost": usd_text(self.reserved_cost)}


def usage_sums(engine: Engine, query: UsageQuery, by: Sequence[Group] = ()) -> list[UsageSum]:
    """One sum for each group that has requests, in the order of the groups' values.

    by: any of GROUPS, each once; empty: one sum of everything, also if that is nothing. A request
    counts under each of its tags, and one without tags under None.
    Blocking. Raises InvalidRequest for a wrong *by*, StoreError.
    """
    _check(by)
    totals: dict[tuple[str | None, ...], list[int]] = {} if by else {(): [0] * 7}
    for row in _read(engine, "usage", _usage_statement(query, by)):
        tags = orjson.loads(row["tags"]) if "tags" in row else []
        if query.tag is not None and query.tag not in tags:
            continue
        counted = [row["requests"], row["errors"], *(_whole(row, name) for name in _SUMMED)]
        for group in _groups(row, tags, by):
            so_far = totals.get(group, [0] * len(counted))
            totals[group] = [a + b for a, b in zip(so_far, counted, strict=True)]
    ordered = sorted(totals, key=lambda group: [(value is None, value or "") for value in group])
    names = UsageSum.__struct_fields__[1:]
    return [
        UsageSum(group=group, **dict(zip(names, totals[group], strict=True))) for group in ordered
    ]


def add_up(sums: Sequence[UsageSum]) -> UsageSum:
    """The sum of everything. Not of sums by tag, in which a request counts several times."""
    names = UsageSum.__struct_fields__[1:]
    return UsageSum(group=(), **{name: sum(getattr(one, name) for one in sums) for name in names})


def attempt_sums(engine: Engine, query: UsageQuery) -> AttemptSums:
    """The attempts of that time, key, project, model, provider and status.

    Blocking. Raises InvalidRequest for a user or a tag, which attempts do not have; StoreError.
    """
    state = ATTEMPTS.c.state
    settled, unknown = state == "settled", state == "unknown"
    statement = select(
        *_halves("settled_tokens", case((settled, ATTEMPTS.c.tokens))),
        *_halves("settled_cost", case((settled, ATTEMPTS.c.cost))),
        *_halves("unknown_tokens_reserved", case((unknown, ATTEMPTS.c.reserved_tokens))),
        *(
            func.count(case((state == name, 1))).label(f"{name}_attempts")
            for name in ("unknown", "unbilled", "reserved")
        ),
    )
    (row,) = _read(engine, "attempts", statement.where(*_attempt_conditions(query)))
    return AttemptSums(
        settled_tokens=_whole(row, "settled_tokens"),
        settled_cost=_whole(row, "settled_cost"),
        unknown_attempts=row["unknown_attempts"],
        unknown_tokens_reserved=_whole(row, "unknown_tokens_reserved"),
        unbilled_attempts=row["unbilled_attempts"],
        reserved_attempts=row["reserved_attempts"],
    )


def unknown_attempts_of(engine: Engine, query: UsageQuery) -> list[UnknownAttempt]:
    """The unknown attempts that `attempt_sums` counts, oldest first; raises what that raises."""
    columns = [ATTEMPTS.c[name] for name in UnknownAttempt.__struct_fields__]
    statement = select(*columns).where(ATTEMPTS.c.state == "unknown", *_attempt_conditions(query))
    ordered = statement.order_by(ATTEMPTS.c.created_ms, ATTEMPTS.c.id)
    return [UnknownAttempt(**row) for row in _read(engine, "attempts", ordered)]


def key_names(engine: Engine) -> dict[str, str]:
    """Each key's id with its name, so that sums by key can be read. Blocking. Raises StoreError."""
    return {row["id"]: row["name"] for row in _read(engine, "keys", select(KEYS.c.id, KEYS.c.name))}


def _check(by: Sequence[str]) -> None:
    for name in by:
        if name not in GROUPS:
            raise InvalidRequest(f"by: {name[:64]!r} is none of {', '.join(GROUPS)}.", param="by")
        if by.count(name) > 1:
            raise InvalidRequest(f"by: names {name} twice.", param="by")


def _usage_statement(query: UsageQuery, by: Sequence[Group]) -> Select[Any]:
    grouped = [_COLUMNS[name].label(f"by_{name}") for name in by if name != "tag"]
    if "tag" in by or query.tag is not None:
        grouped.append(USAGE.c.tags.label("tags"))
    conditions = list(_conditions(query, USAGE.c))
    if query.user is not None:
        conditions.append(USAGE.c.user == query.user)
    if query.tag is not None:
        # Leaves out most of what does not have the tag; the rest is looked at one by one.
        written = orjson.dumps(query.tag).decode()
        conditions.append(USAGE.c.tags.contains(written, autoescape=True))
    counts = (func.count().label("requests"), func.count(USAGE.c.code).label("errors"))
    sums = (half for name in _SUMMED for half in _halves(name, USAGE.c[name]))
    return select(*grouped, *counts, *sums).where(*conditions).group_by(*grouped)


def _groups(
    row: RowMapping, tags: Sequence[str], by: Sequence[Group]
) -> Iterator[tuple[str | None, ...]]:
    """The groups that the row counts in: one, or one for each of its tags."""
    for tag in (dict.fromkeys(tags) or (None,)) if "tag" in by else (None,):
        yield tuple(
            tag if name == "tag" else _day(row["by_day"]) if name == "day" else row[f"by_{name}"]
            for name in by
        )


def _day(number: int) -> str:
    return (_EPOCH + timedelta(days=number)).isoformat()


def _attempt_conditions(query: UsageQuery) -> Iterator[ColumnElement[bool]]:
    for name in ("user", "tag"):
        if getattr(query, name) is not None:
            raise InvalidRequest(
                f"{name}: attempts at providers have none; leave it out.", param=name
            )
    return _conditions(query, ATTEMPTS.c)


def _conditions(query: UsageQuery, columns: Any) -> Iterator[ColumnElement[bool]]:
    """What both books have."""
    if query.since_ms is not None:
        yield columns.created_ms >= query.since_ms
    if query.until_ms is not None:
        yield columns.created_ms < query.until_ms
    for name in ("key_id", "project", "model", "provider", "status"):
        if (wanted := getattr(query, name)) is not None:
            yield columns[name] == wanted


def _halves(name: str, column: ColumnElement[Any]) -> Iterable[Label[Any]]:
    """The sum of a column of whole numbers as two sums, which `_whole` puts together."""
    yield func.sum(column // _HALF).label(f"{name}_high")
    yield func.sum(column % _HALF).label(f"{name}_low")


def _whole(row: RowMapping, name: str) -> int:
    # Nothing adds up to NULL, and what PostgreSQL adds up is a decimal.
    high, low = (int(row[f"{name}_{half}"] or 0) for half in ("high", "low"))
    return (high << _HALF_BITS) + low


def _read(engine: Engine, book: str, statement: Select[Any]) -> Sequence[RowMapping]:
    with reading(engine, book) as connection:
        return connection.execute(statement).mappings().all()
