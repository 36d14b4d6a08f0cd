"""Reads of the disk cache that travel together, with a thread that reads when the test says so."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from embedway.store import vector_reader
from embedway.store.vector_file import VectorFile
from embedway.store.vector_reader import VectorReader
from embedway.store.vector_trouble import Complaints
from tests.store.sqlite_cache import LABEL, Cache


class Later(Executor):
    """One thread that does what it was given when it is told to."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []
        self.thread = ThreadPoolExecutor(1)

    def submit(self, work: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
        """Keep it until `run`."""
        self.jobs.append(lambda: work(*arguments))
        return Future()

    async def run(self) -> None:
        """All that has been given."""
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            await asyncio.get_running_loop().run_in_executor(self.thread, job)


class Reads:
    """A reader of a file with some vectors, and how often the file was asked."""

    def __init__(self, cache: Cache) -> None:
        self.thread = Later()
        self.asked = 0
        self.file = VectorFile(
            cache.path,
            max_bytes=2**24,
            busy_timeout_s=1.0,
            clock=cache.clock,
            lock=threading.Lock(),
            complain=Complaints(cache.path, cache.clock, cache.counts),
        )
        self.run = self.file.run
        self.file.run = self._run  # type: ignore[method-assign]
        self.reader = VectorReader(
            self.file,
            self.thread,
            ttl_s=0.0,
            clock=cache.clock,
            complain=Complaints(cache.path, cache.clock, cache.counts),
            use=lambda ids: None,
            delete=lambda rows: None,
        )

    def _run(self, work: Any) -> Any:
        self.asked += 1
        return self.run(work)


@pytest.fixture
async def entries(tmp_path):
    """A cache, and a hundred vectors that its file holds."""
    cache = Cache(tmp_path)
    store = cache.open()
    made = [cache.make(number) for number in range(100)]
    store.put_many(LABEL, made)
    await store.close()
    return cache, made


@pytest.fixture
def reads(entries):
    """Of that file."""
    reads = Reads(entries[0])
    yield reads
    reads.thread.thread.submit(reads.file.close).result()
    reads.thread.thread.shutdown()


async def test_who_asks_meanwhile_shares_one_read(entries, reads):
    """However many ask before the thread looks, it is woken once and the file is asked once, and
    each hears of his own keys alone."""
    cache, made = entries
    unknown = [cache.make(f"unknown {number}")[0] for number in range(100)]
    asking = [
        asyncio.ensure_future(reads.reader.find([key, unknown[number], made[0][0]]))
        for number, (key, _) in enumerate(made)
    ]
    await asyncio.sleep(0)
    assert len(reads.thread.jobs) == 1
    await reads.thread.run()
    for (key, cached), found in zip(made, await asyncio.gather(*asking), strict=True):
        assert found == {key: cached, made[0][0]: made[0][1]}
    assert reads.asked == 1


async def test_who_asks_afterwards_wakes_it_again(entries, reads):
    """Whoever comes after the thread has looked is not forgotten."""
    for key, cached in entries[1][:3]:
        asking = asyncio.ensure_future(reads.reader.find([key]))
        await asyncio.sleep(0)
        await reads.thread.run()
        assert await asking == {key: cached}
    assert reads.asked == 3


async def test_long_questions_do_not_keep_others(entries, reads, monkeypatch):
    """Few keys are looked for together: who asked first hears before the others are read for."""
    monkeypatch.setattr(vector_reader, "_KEYS_AT_ONCE", 40)
    made = entries[1]
    parts = [made[:30], made[30:40], made[40:90], made[90:]]
    asking = [asyncio.ensure_future(reads.reader.find([key for key, _ in part])) for part in parts]
    await asyncio.sleep(0)
    await reads.thread.run()
    assert await asyncio.gather(*asking) == [dict(part) for part in parts]
    assert reads.asked == 3


async def test_who_has_left_is_not_told(entries, reads):
    """A caller who leaves takes nobody's answer with him."""
    (first, _), (second, cached) = entries[1][:2]
    leaving = asyncio.ensure_future(reads.reader.find([first]))
    staying = asyncio.ensure_future(reads.reader.find([second]))
    await asyncio.sleep(0)
    leaving.cancel()
    await reads.thread.run()
    assert await staying == {second: cached}
    assert leaving.cancelled()


async def test_a_failure_is_a_miss_for_all(entries, reads):
    """A file that cannot be read knows nothing, and that is counted once."""

    def fail(work: Any) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    reads.run = fail
    asking = [asyncio.ensure_future(reads.reader.find([key])) for key, _ in entries[1][:3]]
    await asyncio.sleep(0)
    await reads.thread.run()
    assert await asyncio.gather(*asking) == [{}, {}, {}]
    assert entries[0].counts["read_error"] == 1


async def test_a_bug_reaches_all(entries, reads):
    """What nobody thought of is raised to everyone who waits; nobody hangs."""

    def fail(work: Any) -> Any:
        raise KeyError("a bug")

    reads.run = fail
    asking = [asyncio.ensure_future(reads.reader.find([key])) for key, _ in entries[1][:3]]
    await asyncio.sleep(0)
    asking[0].cancel()
    await reads.thread.run()
    ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError, KeyError, KeyError]
