"""Several gateways on one PostgreSQL share budgets, and none of them passes one."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from embedway.clock import SystemClock
from embedway.store.budgets import BudgetStore
from embedway.store.database import WINDOWS, open_database
from tests.books.checker import check_budgets, reserved, rows
from tests.store.postgres_server import PostgresServer

ROOT = Path(__file__).parents[2]
PROCESSES = 3
CALLERS = 64


@pytest.mark.parametrize("amount", [1, 7, 10])
async def test_exactly_what_fits(running_postgres: PostgresServer, amount: int) -> None:
    """Of 192 who ask at once in three processes, exactly those are let in whom every budget covers,
    and nobody waits for ever for a lock."""
    with running_postgres.database() as url:
        engine = open_database(Path(), url)
        store = BudgetStore(engine, SystemClock())
        store.set("project", "default", "total", 1000)
        store.set("key", "open", "day", 10_000)
        store.set("project", "default", "month", 600)
        asking = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.books.asking", url.reveal()),
                *(f"p{number}", str(CALLERS), str(amount)),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for number in range(PROCESSES)
        ]
        for process in asking:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        told = await asyncio.gather(*(process.communicate(b"\n") for process in asking))
        admitted = sum(int(out) for out, _ in told)
        assert admitted == min(PROCESSES * CALLERS, 600 // amount)
        check_budgets(engine)
        spent = {row["budget_id"]: row["spent"] for row in rows(engine, WINDOWS)}
        assert set(spent.values()) == {admitted * amount}
        assert reserved(engine) == []
        engine.dispose()
