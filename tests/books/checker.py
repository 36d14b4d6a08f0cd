"""One check of the books against a provider's own bill, for every test that breaks something.

Each request of such a test has a number of tokens of its own, so that a line of the bill tells
which attempt it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine, select

from embedway.store.database import (
    ATTEMPTS,
    BUDGETS,
    RESERVATIONS,
    USAGE,
    WINDOWS,
    WRITTEN_OFF,
)
from tests.fake_provider.bill import Line


def rows(engine: Engine, table: Any) -> list[dict[str, Any]]:
    """All rows of a table."""
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def check_attempts(engine: Engine, bill: Iterable[Line], *, unknown_at_most: int = 0) -> None:
    """Every attempt that was billed is in the book, once, at no less than was billed; what is
    charged beyond the bill is unknown, and that is no more than was in flight."""
    attempts = rows(engine, ATTEMPTS)
    assert max(Counter(row["id"] for row in attempts).values(), default=1) == 1
    booked = {row["reserved_tokens"]: row for row in attempts}
    assert len(booked) == len(attempts), "two attempts of one request"
    billed = Counter(line.tokens for line in bill if line.tokens)
    for tokens, times in billed.items():
        assert times == 1, "the provider was asked twice"
        row = booked.get(tokens)
        assert row is not None, f"an attempt of {tokens} tokens is billed and not in the book"
        assert row["state"] in ("settled", "unknown", "reserved"), row
        if row["state"] == "settled":
            assert row["tokens"] == tokens
    for row in attempts:
        if row["state"] == "settled":
            assert row["reserved_tokens"] in billed, "settled, but never billed"
    by_state = Counter(row["state"] for row in attempts)
    assert by_state["unknown"] + by_state["reserved"] <= unknown_at_most
    settled = sum(row["tokens"] for row in attempts if row["state"] == "settled")
    open_ = sum(
        row["reserved_tokens"] for row in attempts if row["state"] in ("unknown", "reserved")
    )
    assert settled <= sum(billed.elements()) <= settled + open_


def reserved(engine: Engine) -> list[dict[str, Any]]:
    """The reservations that are under way: not those of processes that were taken for dead."""
    return [row for row in rows(engine, RESERVATIONS) if row["process"] != WRITTEN_OFF]


def check_budgets(engine: Engine) -> None:
    """No budget is passed, and what is reserved is what requests under way have reserved."""
    amounts = {row["id"]: row["amount"] for row in rows(engine, BUDGETS)}
    held: Counter[tuple[str, int]] = Counter()
    for row in reserved(engine):
        held[row["budget_id"], row["starts_ms"]] += row["amount"]
    for row in rows(engine, WINDOWS):
        assert row["spent"] + row["reserved"] <= amounts[row["budget_id"]], row
        assert row["reserved"] == held[row["budget_id"], row["starts_ms"]], row


def check_usage(engine: Engine, answered: Iterable[str], *, lost_at_most: int = 0) -> None:
    """Every request that was answered has one line."""
    written = Counter(row["id"] for row in rows(engine, USAGE))
    assert max(written.values(), default=1) == 1
    missing = [id for id in answered if id not in written]
    assert len(missing) <= lost_at_most, missing
