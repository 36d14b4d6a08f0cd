"""A gateway that answers one request and dies at a named point of the ledger's work.

python -m tests.books.crashing HOME BASE_URL reserve|begin|end before|after
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from sqlalchemy import event

from embedway.runtime import open_runtime
from embedway.secret import Secret
from embedway.settings import AccountSettings, CacheSettings, LocalSettings, Settings
from embedway.store import ledger
from embedway.store.ledger_rows import LedgerRows
from embedway.types import Call, EmbedParams, EmbedRequest, Grant
from tests.fake_provider.exchange import KEY

MODEL = "openai/text-embedding-3-small"
DIED = 9
_CALLS = {"reserve": "reserve", "begin": "begin", "end": "end"}


def die_at(engine: Any, what: str, when: str) -> None:
    """Arrange the end of the process: before the commit that holds *what*, or right after it."""
    written = []
    name = _CALLS[what]
    inner = getattr(LedgerRows, name)

    def noted(self: LedgerRows, connection: Any, given: Any) -> Any:
        if not isinstance(given, list) or given:
            written.append(what)
        return inner(self, connection, given)

    setattr(LedgerRows, name, noted)

    def before(connection: Any) -> None:
        if written and when == "before":
            os._exit(DIED)

    tell = ledger.tell

    def after(answers: Any) -> None:
        if written and when == "after":
            os._exit(DIED)
        tell(answers)

    event.listen(engine, "commit", before)
    ledger.tell = after


async def ask(home: str, base_url: str, what: str, when: str) -> None:
    """One paid request of 77 tokens."""
    settings = Settings(
        home=home,
        local=LocalSettings(enabled=False),
        cache=CacheSettings(enabled=False),
        providers={"openai": AccountSettings(base_url=base_url, api_key=Secret(KEY), private=True)},
    )
    async with open_runtime(settings) as runtime:
        die_at(runtime.database, what, when)
        call = Call(
            id=runtime.ids.new(),
            grant=Grant.open(),
            deadline=runtime.clock.monotonic() + 30,
        )
        params = EmbedParams(model=MODEL)
        await runtime.gateway(EmbedRequest(params=params, inputs=((1,) * 77,), call=call))


if __name__ == "__main__":
    asyncio.run(ask(*sys.argv[1:]))
