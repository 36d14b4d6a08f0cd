"""A gateway whose PostgreSQL is away: nothing is paid for that cannot be written down, what is
known or made here goes on, and all is well again soon after, without a restart."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from embedway.store.database import ATTEMPTS, open_database
from tests.books.checker import rows
from tests.fake_provider.exchange import KEY
from tests.fake_provider.server import running_fake
from tests.server.serving import serving
from tests.store.postgres_server import PostgresServer, require_postgres

SMALL = "openai/text-embedding-3-small"
LOCAL = "local/wordllama-256"
CONFIG = f"""
database_url = "%s"
[providers.openai]
private = true
api_key = "{KEY}"
base_url = "%s"
"""
RECOVERY_S = 10
AWAY_S = {"stop": 1, "kill": 1, "freeze": 30}


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """One that the test may break."""
    require_postgres()
    server = PostgresServer()
    yield server
    server.remove()


async def ask(url: str, model: str, text: str) -> tuple[int, str | None]:
    """Status and error code of one request."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = orjson.dumps({"model": model, "input": text})
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    top, _, told = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    error = orjson.loads(told).get("error")
    return int(top.split()[1]), error and error["code"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["stop", "kill", "freeze"])
async def test_away_and_back(tmp_path: Path, postgres: PostgresServer, how: str) -> None:
    """While PostgreSQL is away a paid request gets 503 `ledger_unavailable` and costs nothing, a
    known text and the local model are answered; ten seconds after its return paid requests are."""
    with postgres.database() as database:
        async with running_fake() as fake:
            config = CONFIG % (database.reveal(), fake.url("openai"))
            with serving(tmp_path, config) as (url, _):
                assert await ask(url, SMALL, "known") == (200, None)
                asked = len(fake.bill)
                getattr(postgres, how)()
                gone = time.monotonic()
                for text in itertools.count():
                    started = time.monotonic()
                    assert await ask(url, SMALL, f"text {text}") == (503, "ledger_unavailable")
                    assert time.monotonic() - started < 8
                    if time.monotonic() - gone > AWAY_S[how]:
                        break
                assert len(fake.bill) == asked
                assert await ask(url, SMALL, "known") == (200, None)
                assert await ask(url, LOCAL, "here") == (200, None)
                postgres.thaw() if how == "freeze" else postgres.start()
                back = time.monotonic()
                while (await ask(url, SMALL, "again"))[0] != 200:
                    assert time.monotonic() - back < RECOVERY_S
        engine = open_database(tmp_path, database)
        states = [row["state"] for row in rows(engine, ATTEMPTS)]
        engine.dispose()
        assert states.count("settled") + states.count("reserved") == 2
