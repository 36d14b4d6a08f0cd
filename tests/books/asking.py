"""One of several gateways on one PostgreSQL: asks for its share of a budget, many at a time.

    python -m tests.books.asking URL NAME CALLERS AMOUNT

It says that it is ready, waits for a line, and prints how many it was let have.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from embedway.clock import SystemClock
from embedway.errors import BudgetExceeded
from embedway.ids import Ids
from embedway.ledger import Reservation
from embedway.secret import Secret
from embedway.store.budgets import BudgetStore
from embedway.store.database import open_database
from embedway.store.ledger import Ledger


async def ask(url: str, name: str, callers: int, amount: int) -> int:
    """How many of *callers*, at once, may hold back *amount*."""
    clock = SystemClock()
    engine = open_database(Path(), Secret(url))
    ids, ledger, budgets = Ids(clock), Ledger(engine, clock, name), BudgetStore(engine, clock).all()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()

    async def one() -> bool:
        wanted = Reservation(
            id=ids.new(), budgets=budgets, amount=amount, created_ms=int(clock.now() * 1000)
        )
        try:
            held = await ledger.reserve(wanted)
        except BudgetExceeded:
            return False
        ledger.settle(wanted, held, amount)
        return True

    admitted = sum(await asyncio.gather(*(one() for _ in range(callers))))
    await asyncio.to_thread(ledger.close)
    engine.dispose()
    return admitted


if __name__ == "__main__":
    url, name, callers, amount = sys.argv[1:]
    sys.stdout.write(str(asyncio.run(ask(url, name, int(callers), int(amount)))))
