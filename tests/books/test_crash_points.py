"""A process that dies at a named point of the ledger's work leaves books that are true."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from embedway.store.database import ATTEMPTS, BUDGETS, WINDOWS, open_database
from embedway.store.ledger import Ledger
from tests.books.checker import check_attempts, check_budgets, reserved, rows
from tests.books.crashing import DIED
from tests.fake_provider.server import running_fake
from tests.fakes import FakeClock

ROOT = Path(__file__).parents[2]
PRICE = 20_000
"""Picodollars per token."""
MOST = 77 * PRICE


@pytest.mark.parametrize(
    ("what", "when", "billed", "state", "charged"),
    [
        ("reserve", "before", 0, None, 0),
        ("reserve", "after", 0, None, MOST),
        ("begin", "before", 0, None, MOST),
        ("begin", "after", 0, "unknown", MOST),
        ("end", "before", 1, "unknown", MOST),
        ("end", "after", 1, "settled", MOST),
    ],
)
async def test_death(
    tmp_path: Path, what: str, when: str, billed: int, state: str | None, charged: int
) -> None:
    """Whatever the provider may have billed is in the book, and what was held back is charged: a
    minute later nothing is under way any more."""
    engine = open_database(tmp_path / "home")
    with engine.begin() as connection:
        connection.execute(
            insert(BUDGETS).values(
                id="b1", owner_kind="key", owner="open", period="total", amount=10**12, created_ms=0
            )
        )
    async with running_fake() as fake:
        arguments = (str(tmp_path / "home"), fake.url("openai"), what, when)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.books.crashing", *arguments, cwd=ROOT
        )
        assert await child.wait() == DIED
        assert len(fake.bill) == billed
        check_attempts(engine, fake.bill, unknown_at_most=1)
        check_budgets(engine)
        a_minute_later(engine)
        check_attempts(engine, fake.bill, unknown_at_most=1)
        check_budgets(engine)
    assert [row["state"] for row in rows(engine, ATTEMPTS)] == ([state] if state else [])
    assert reserved(engine) == []
    assert sum(row["spent"] for row in rows(engine, WINDOWS)) == charged
    engine.dispose()


def a_minute_later(engine: Engine) -> None:
    """Another gateway starts when the dead one has been silent for long."""
    Ledger(engine, FakeClock(now=4_000_000_000.0), "later").close()
