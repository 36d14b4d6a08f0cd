"""Without faults the books and the provider's bill say the same, to the picodollar."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from embedway.secret import Secret
from embedway.settings import AccountSettings, Settings
from embedway.store.database import ATTEMPTS, USAGE
from tests.asgi import embed, running
from tests.books.checker import rows
from tests.fake_provider.exchange import KEY
from tests.fake_provider.server import FakeProvider

SMALL = "openai/text-embedding-3-small"
PRICE = 20_000
"""Picodollars a token."""


@pytest.mark.parametrize("seed", range(3))
async def test_bill_attempts_and_usage_agree(tmp_path: Path, seed: int) -> None:
    """However callers mix known, doubled and new texts, side by side and in batches: what was
    settled is what the provider counted, and callers together paid exactly that."""
    chance, fake = random.Random(seed), FakeProvider()
    account = AccountSettings(
        base_url=fake.url("openai"), api_key=Secret(KEY), private=True, concurrency=2, max_inputs=16
    )
    given = Settings(home=str(tmp_path), providers={"openai": account})
    texts = [f"text number {i} " + "word " * (i % 17) for i in range(120)]
    async with running(given, send=fake.send) as app:
        asked = [chance.choices(texts, k=chance.randint(1, 40)) for _ in range(60)]
        answers = await asyncio.gather(*(embed(app, model=SMALL, input=one) for one in asked))
        assert {answer.status for answer in answers} == {200}
        app.runtime.book.flush()
        attempts, usage = rows(app.runtime.database, ATTEMPTS), rows(app.runtime.database, USAGE)
    assert {row["state"] for row in attempts} == {"settled"}
    assert len(attempts) == len(fake.bill)
    tokens, cost = (sum(row[name] for row in attempts) for name in ("tokens", "cost"))
    assert tokens == fake.bill.tokens
    assert cost == tokens * PRICE
    assert len(usage) == len(asked)
    assert sum(row["cost"] for row in usage) == cost
    told = sum(round(answer.json()["gateflow"]["cost"]["total"] * 10**12) for answer in answers)
    assert told == cost
