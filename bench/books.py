"""What the two books and the budgets cost a paid request, with SQLite at full durability.

    .venv/bin/python bench/books.py            # --json prints one JSON list in place of the table

One process on one core. Each paid request writes its attempt down and waits until that is on the
disk, ends it, and leaves its line in the usage book; with a budget it holds back and is charged,
too. Idle: one after the other, so that nothing is shared. Loaded: many at a time. CPU is that of
the whole process, with the threads that write. The disk is that of the folder for temporary files.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from load import Result, report

from embedway.budgets import Budget
from embedway.clock import SystemClock
from embedway.ids import Ids
from embedway.ledger import AttemptBegun, AttemptEnded, Reservation, UsageLine
from embedway.store.books import UsageBook
from embedway.store.budgets import BudgetStore
from embedway.store.database import open_database
from embedway.store.ledger import Ledger

CALLERS = 256
IDLE = 300
Booking = Callable[[], Awaitable[None]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000, help="of each loaded round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    with (
        tempfile.TemporaryDirectory() as home,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        results = runner.run(measure(Path(home), options))
    report(results, as_json=options.json)


async def measure(home: Path, options: argparse.Namespace) -> list[Result]:
    """All of it, on one database."""
    engine, clock = open_database(home), SystemClock()
    books = Books(Ledger(engine, clock, "bench"), UsageBook(engine), Ids(clock))
    store = BudgetStore(engine, clock)
    budgets = tuple(store.set("key", "k1", period, 10**18) for period in ("day", "month", "total"))
    try:
        waits = await idle(lambda: books.pay(()))
        plain = [await loaded(lambda: books.pay(()), options) for _ in range(options.rounds)]
        bound = [await loaded(lambda: books.pay(budgets), options) for _ in range(options.rounds)]
    finally:
        await asyncio.to_thread(books.close)
        engine.dispose()
    return [
        Result("idle: added by the book, p50", statistics.median(waits) * 1000, "ms", most=2),
        *_told("loaded", plain, most=80, least=4000),
        *_told("loaded, with three budgets", bound),
    ]


class Books:
    """A gateway's books, and what a paid request writes in them."""

    def __init__(self, ledger: Ledger, usage: UsageBook, ids: Ids) -> None:
        self.ledger, self.usage, self.ids = ledger, usage, ids

    async def pay(self, budgets: tuple[Budget, ...]) -> None:
        """One request."""
        id, now_ms = self.ids.new(), int(time.time() * 1000)
        wanted = Reservation(id=id, budgets=budgets, amount=200, created_ms=now_ms)
        held = await self.ledger.reserve(wanted) if budgets else ()
        await self.ledger.begin(
            AttemptBegun(
                id=id,
                request_id=id,
                key_id="k1",
                project="default",
                model="openai/text-embedding-3-small",
                provider="openai",
                inputs=1,
                reserved_tokens=10,
                reserved_cost=200,
                created_ms=now_ms,
            )
        )
        self.ledger.end(
            AttemptEnded(id=id, state="settled", tokens=7, cost=140, ended_ms=now_ms, status=200)
        )
        if budgets:
            self.ledger.settle(wanted, held, 140)
        self.usage.add(_line(id, now_ms))

    def close(self) -> None:
        """Write what is left."""
        self.ledger.close()
        self.usage.close()


async def idle(book: Booking) -> list[float]:
    """Seconds that each of some requests waited, one after the other."""
    waits = []
    for _ in range(IDLE):
        await asyncio.sleep(0.002)
        started = time.perf_counter()
        await book()
        waits.append(time.perf_counter() - started)
    return waits


async def loaded(book: Booking, options: argparse.Namespace) -> tuple[float, float]:
    """Requests a second, and microseconds of CPU that each took."""
    left = options.requests

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await book()

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    took, spent = time.perf_counter() - started, time.process_time() - cpu
    return options.requests / took, spent / options.requests * 1e6


def _told(
    name: str,
    rounds: list[tuple[float, float]],
    most: float | None = None,
    least: float | None = None,
) -> list[Result]:
    rates, cpu = zip(*rounds, strict=True)
    return [
        Result(f"{name}: paid requests booked", statistics.median(rates), "req/s", least=least),
        Result("  CPU of the process", statistics.median(cpu), "µs", most=most),
    ]


def _line(id: str, now_ms: int) -> UsageLine:
    return UsageLine(
        id=id,
        created_ms=now_ms,
        key_id="k1",
        model="openai/text-embedding-3-small",
        provider="openai",
        inputs=1,
        tokens=7,
        cost=140,
        market_cost=140,
        latency_ms=80,
        status=200,
        space="openai/text-embedding-3-small@1536",
    )


if __name__ == "__main__":
    main()
