"""Processes that are killed in the middle of their work: no attempt is missing from the book."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine, insert

from embedway.store.database import ATTEMPTS, BUDGETS, open_database
from embedway.store.ledger import Ledger
from tests.books.checker import check_attempts, check_budgets, check_usage, rows
from tests.fake_provider.exchange import KEY
from tests.fake_provider.server import FakeProvider, running_fake
from tests.fakes import FakeClock
from tests.server.serving import serving

CYCLES = 25
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


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Engine]:
    """The database that all gateways of a test share, with a budget for all they do."""
    engine = open_database(tmp_path / "home")
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
    yield engine
    engine.dispose()


@pytest.mark.timeout(300)  # 25 starts of a process
async def test_killed_again_and_again(tmp_path: Path, shared: Engine) -> None:
    """After 25 kills under load every billed attempt is in the book, none twice, and no more are
    unknown than were in flight; a minute later nothing is reserved any more."""
    callers = Callers()
    async with running_fake() as fake:
        for number in range(1, CYCLES + 1):
            await cycle(tmp_path, fake, callers)
            assert callers.lost == number * CALLERS
        check_attempts(shared, fake.bill, unknown_at_most=CYCLES * CALLERS)
        check_budgets(shared)
        # The usage book gathers lines for 20 ms: what a killed process may lose of it.
        check_usage(shared, callers.answered, lost_at_most=len(callers.answered) // 2)
        a_minute_later(shared)
        assert not [row for row in rows(shared, ATTEMPTS) if row["state"] == "reserved"]
        check_attempts(shared, fake.bill, unknown_at_most=CYCLES * CALLERS)
        check_budgets(shared)


def a_minute_later(engine: Engine) -> None:
    """Another gateway starts a minute after the last one said that it lives."""
    latest = max(row["created_ms"] for row in rows(engine, ATTEMPTS))
    Ledger(engine, FakeClock(now=latest / 1000 + 60), "later").close()
