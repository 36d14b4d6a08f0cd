"""Gateways that are killed in the middle of their work, under load, and what their books say then.

`scripts/kill` does as many as you like.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
from sqlalchemy import Engine, insert

from embedway.store.database import ATTEMPTS, BUDGETS, open_database
from embedway.store.ledger import Ledger
from tests.books.checker import check_attempts, check_budgets, check_usage, rows
from tests.fake_provider.exchange import KEY
from tests.fake_provider.server import FakeProvider, running_fake
from tests.fakes import FakeClock
from tests.server.serving import serving

CALLERS = 12
ANSWERS = 30
"""How many answers a gateway gives before it is killed."""
SMALL = "openai/text-embedding-3-small"
ACCOUNT = f"""
[providers.openai]
private = true
api_key = "{KEY}"
base_url = "%s"
[local]
enabled = false
"""


class Callers:
    """Callers who ask again and again, each time for another number of tokens, until the gateway
    is gone."""

    def __init__(self) -> None:
        self.sizes: Iterator[int] = itertools.count(1)
        self.answered: list[str] = []
        self.enough = asyncio.Event()
        self.wanted = 0
        self.lost = 0

    async def ask(self, host: str, port: int) -> None:
        """One caller, on one connection."""
        reader, writer = await asyncio.open_connection(host, port)
        try:
            while True:
                await self._ask_once(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.lost += 1
        finally:
            writer.close()

    async def _ask_once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = orjson.dumps({"model": SMALL, "input": [1] * next(self.sizes)})
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        writer.write(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n" + length + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(answer.partition(b"content-length: ")[2].split(b"\r\n")[0])
        told = orjson.loads(await reader.readexactly(size))
        assert answer.startswith(b"http/1.1 200"), told
        self.answered.append(told["gateflow"]["request_id"].removeprefix("req_"))
        if len(self.answered) >= self.wanted:
            self.enough.set()


async def cycle(work: Path, fake: FakeProvider, callers: Callers) -> None:
    """A gateway that is started, asked by many, and killed while it works."""
    with serving(work, ACCOUNT % fake.url("openai")) as (url, process):
        host, _, port = url.removeprefix("http://").partition(":")
        callers.wanted = len(callers.answered) + ANSWERS
        callers.enough.clear()
        asking = [asyncio.create_task(callers.ask(host, int(port))) for _ in range(CALLERS)]
        await callers.enough.wait()
        process.send_signal(signal.SIGKILL)
        await asyncio.gather(*asking)
        await asyncio.to_thread(process.wait)


async def kill_again_and_again(folder: Path, cycles: int) -> None:
    """So many gateways on one database. Raises AssertionError where the books are not true."""
    engine, callers = open_database(folder / "home"), Callers()
    with engine.begin() as connection:
        connection.execute(
            insert(BUDGETS).values(
                id="b1",
                owner_kind="project",
                owner="default",
                period="total",
                amount=10**15,
                created_ms=0,
            )
        )
    try:
        async with running_fake() as fake:
            for number in range(1, cycles + 1):
                await cycle(folder, fake, callers)
                assert callers.lost == number * CALLERS
            check_attempts(engine, fake.bill, unknown_at_most=cycles * CALLERS)
            check_budgets(engine)
            # The line of a caller's last answer may not have been written when he asked again.
            check_usage(engine, callers.answered, lost_at_most=2 * cycles * CALLERS)
            a_minute_later(engine)
            assert not [row for row in rows(engine, ATTEMPTS) if row["state"] == "reserved"]
            check_attempts(engine, fake.bill, unknown_at_most=cycles * CALLERS)
            check_budgets(engine)
    finally:
        engine.dispose()


def a_minute_later(engine: Engine) -> None:
    """Another gateway starts a minute after the last one said that it lives."""
    latest = max(row["created_ms"] for row in rows(engine, ATTEMPTS))
    Ledger(engine, FakeClock(now=latest / 1000 + 60), "later").close()
