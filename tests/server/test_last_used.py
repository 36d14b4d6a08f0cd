from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from embedway.server.app import App
from embedway.server.last_used import LastUsed
from embedway.settings import Settings
from embedway.store.database import StoreError
from embedway.store.keys import Key
from tests.asgi import bearer, embed, running
from tests.fakes import FakeClock, until

NOW_MS = 1_800_000_000_000


class MemoryStore:
    """Remembers what it was told; fails as long as *error* is set."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, int]] = []
        self.error: Exception | None = None

    def mark_used(self, used_ms: Mapping[str, int]) -> None:
        """Remember it."""
        self.told.append(used_ms)
        if self.error is not None:
            raise self.error


@pytest.fixture
def store() -> MemoryStore:
    """A store that works."""
    return MemoryStore()


def make_key(id: str, **changes: int) -> Key:
    """A key of that id."""
    return Key(id=id, name="n", type="prod", hash=b"", created_ms=0, **changes)


async def test_once_a_minute(store: MemoryStore) -> None:
    """Each key's use is written at once, and then at most once a minute."""
    clock = FakeClock()
    last_used = LastUsed(store, clock)  # type: ignore[arg-type] # all that it asks of one
    for seconds in (0, 0.1, 59.8, 0.2, 1):
        clock.advance(seconds)
        for id in ("a", "b"):
            last_used.note(make_key(id))
        await last_used.close()

    assert store.told == [
        {"a": NOW_MS, "b": NOW_MS},
        {"a": NOW_MS + 60_100, "b": NOW_MS + 60_100},
    ]


async def test_what_another_process_wrote(store: MemoryStore) -> None:
    """A use that another process has just written is not written again."""
    clock = FakeClock()
    last_used = LastUsed(store, clock)  # type: ignore[arg-type] # all that it asks of one
    last_used.note(make_key("a", last_used_ms=NOW_MS - 59_999))
    await last_used.close()
    assert store.told == []

    last_used.note(make_key("a", last_used_ms=NOW_MS - 60_000))
    await last_used.close()
    assert store.told == [{"a": NOW_MS}]


async def test_a_store_in_trouble(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    """A use that cannot be written is told in the log, fails nobody, and is written at the next use
    a minute later."""
    clock = FakeClock()
    last_used = LastUsed(store, clock)  # type: ignore[arg-type] # all that it asks of one
    store.error = StoreError("the keys cannot be written: no")
    with caplog.at_level(logging.WARNING):
        last_used.note(make_key("a"))
        await last_used.close()
    assert "the keys cannot be written: no" in caplog.text

    store.error = None
    clock.advance(60)
    last_used.note(make_key("a"))
    await last_used.close()
    assert store.told == [{"a": NOW_MS}, {"a": NOW_MS + 60_000}]


@pytest.mark.asyncio(loop_scope="session")
async def test_a_request_is_a_use(own: App) -> None:
    """A request notes its key as used, and one that is refused notes nothing."""
    used, _ = own.runtime.keys.create("used")
    _, text = own.runtime.keys.rotate(used.id, overlap_s=0)
    away, elsewhere = own.runtime.keys.create("away", ips=("192.0.2.0/24",))

    assert (await embed(own, bearer(text))).status == 200
    assert (await embed(own, bearer(elsewhere))).status == 403
    await until(lambda: own.runtime.keys.find(used.id)[0].last_used_ms)
    assert own.runtime.keys.find(used.id)[0].last_used_ms == NOW_MS
    assert own.runtime.keys.find(away.id)[0].last_used_ms is None


@pytest.mark.asyncio(loop_scope="session")
async def test_the_end_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server has not stopped before the last use of its keys is written."""
    is_closing, may_write, close = asyncio.Event(), threading.Event(), LastUsed.close
    written: list[Mapping[str, int]] = []

    def mark_used(used_ms: Mapping[str, int]) -> None:
        may_write.wait(30)
        written.append(used_ms)

    async def note_and_close(self: LastUsed) -> None:
        is_closing.set()
        await close(self)

    monkeypatch.setattr(LastUsed, "close", note_and_close)
    async with running(Settings(home=str(tmp_path))) as app:
        _, text = app.runtime.keys.create("k")
        monkeypatch.setattr(app.runtime.keys, "mark_used", mark_used)
        assert (await embed(app, bearer(text))).status == 200
        stopping = asyncio.create_task(app.stop())
        begun = asyncio.create_task(is_closing.wait())
        try:
            await asyncio.wait({stopping, begun}, return_when=asyncio.FIRST_COMPLETED)
            assert not stopping.done()
        finally:
            may_write.set()
            begun.cancel()
        await stopping
        assert len(written) == 1
