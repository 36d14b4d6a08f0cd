"""The disk cache: the laws of every store, its bound, and its manners towards other processes."""

import asyncio
import shutil
import sqlite3
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from msgspec.structs import replace

from embedway.cached import Label, Selection
from embedway.store import vectors
from embedway.store.database import StoreError
from embedway.store.vector_queue import VectorQueue
from embedway.store.vectors import SqliteVectors
from tests.store.sqlite_cache import LABEL, Cache
from tests.store.store_laws import StoreLaws, make_key

OTHER = Label("openai/large", "openai/large@8", "p1")
ROOT = Path(__file__).parent.parent.parent


class SqliteLaws(StoreLaws):
    """The laws over a file in a folder of each run's own."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp())
        super().__init__()

    def open_store(self, clock, count):
        """One more on the same file."""
        return SqliteVectors(
            self.folder / "vectors.db", max_bytes=2**24, ttl_s=self.ttl_s, clock=clock, count=count
        )

    async def damage(self, label, key, how):
        """Past the store, through SQLite."""
        connection = sqlite3.connect(self.folder / "vectors.db")
        with connection:
            row = connection.execute("SELECT value FROM vectors WHERE key = ?", (key,)).fetchone()
            connection.execute("UPDATE vectors SET value = ? WHERE key = ?", (how(row[0]), key))
        connection.close()

    def teardown(self):
        """As every store's; the folder goes."""
        try:
            super().teardown()
        finally:
            shutil.rmtree(self.folder)


TestLaws = SqliteLaws.TestCase
TestLaws.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@pytest.fixture
async def cache(tmp_path):
    """A file of its own."""
    cache = Cache(tmp_path)
    yield cache
    for store in cache.opened:
        await store.close()


async def test_nothing_happens_before_the_first_use(cache):
    """Making a store and closing it touches no disk."""
    await cache.open().close()

    assert not cache.path.parent.exists()


async def test_only_the_owner_may_read(cache):
    """The folder, the file and its log are its owner's alone, for a vector tells of its text."""
    store = cache.open()
    store.put_many(LABEL, [cache.make(1)])
    await store.flush()

    modes = {path.name: path.stat().st_mode & 0o777 for path in cache.path.parent.iterdir()}
    assert modes == {"vectors.db": 0o600, "vectors.db-wal": 0o600, "vectors.db-shm": 0o600}
    assert cache.path.parent.stat().st_mode & 0o777 == 0o700


async def test_many_at_once(cache):
    """2,048 known among as many unknown are found in one call."""
    store = cache.open()
    entries = dict(cache.make(n, 64) for n in range(2048))
    store.put_many(LABEL, list(entries.items()))
    await store.flush()
    unknown = [make_key(LABEL, f"unknown {n}") for n in range(2048)]

    mixed = [key for pair in zip(entries, unknown, strict=True) for key in pair]
    assert await store.get_many(LABEL, mixed) == entries
    assert await store.get_many(LABEL, []) == {}


async def test_listing_goes_on_while_others_write(cache):
    """A list of many pages holds what was there once each, whatever is put meanwhile."""
    store = cache.open()
    entries = [cache.make(n) for n in range(700)]
    store.put_many(LABEL, entries)
    await store.flush()

    listed = []
    async for key, label, _ in store.entries(Selection(project="p1")):
        assert label == LABEL
        listed.append(key)
        if len(listed) % 100 == 1:
            store.put_many(LABEL, [entries[len(listed)], cache.make(("new", len(listed)))])
            await store.flush()
    # One that is overwritten moves behind the end of the list.
    assert len(listed) == len(set(listed))
    assert {key for key, _ in entries} - set(listed) <= {entries[n][0] for n in range(1, 700, 100)}


async def test_the_file_is_bounded(cache):
    """However much is put, the file and its log stay near their bound, and most is used."""
    max_bytes = 2**21
    store = cache.open(max_bytes=max_bytes)
    for run in range(12):
        store.put_many(LABEL, [cache.make((run, n), 1536) for n in range(64)])
        await store.flush()
        live, log = cache.sizes()
        assert live <= max_bytes * 9 / 8
        assert log <= 16 * 2**20

    (group,) = await store.groups()
    assert max_bytes / 2 < group.bytes <= max_bytes
    assert cache.counts["evicted"] == 12 * 64 - group.vectors
    assert not cache.counts["write_error"]


async def test_what_was_used_last_stays(cache):
    """Eviction begins with what was neither put nor read for the longest time."""
    store = cache.open(max_bytes=2**20)
    favourites = [cache.make(("favourite", n), 256) for n in range(20)]
    store.put_many(LABEL, favourites)
    await store.flush()
    newest = []
    while cache.counts["evicted"] < 1000:
        cache.clock.advance(100)
        newest = [cache.make((cache.clock.now(), n), 256) for n in range(50)]
        store.put_many(LABEL, newest)
        await store.flush()
        assert len(await store.get_many(LABEL, [key for key, _ in favourites])) == 20
        await store.flush()

    assert await store.get_many(LABEL, [key for key, _ in newest]) == dict(newest)


async def test_a_read_is_not_a_write(cache):
    """Reading what was used a moment ago changes nothing in the file."""
    store = cache.open()
    store.put_many(LABEL, [cache.make(1)])
    await store.flush()
    before = cache.sizes()
    for _ in range(50):
        cache.clock.advance(1)
        assert await store.get_many(LABEL, [cache.make(1)[0]])
        await store.flush()

    assert cache.sizes() == before


async def test_a_smaller_bound(cache):
    """A bound that was lowered holds from the first write on."""
    store = cache.open()
    store.put_many(LABEL, [cache.make(n, 1536) for n in range(300)])
    await store.close()
    smaller = cache.open(max_bytes=2**20)
    smaller.put_many(LABEL, [cache.make("new", 1536)])
    await smaller.flush()

    (group,) = await smaller.groups()
    assert group.bytes <= 2**20
    assert await smaller.get_many(LABEL, [cache.make("new", 1536)[0]])


async def test_too_old_ones_leave_the_file(cache):
    """What is too old is deleted by a write soon after, also if it was read till the end."""
    store = cache.open(ttl_s=1000.0)
    known = [cache.make(1)[0]]
    store.put_many(LABEL, [cache.make(n) for n in range(600)])
    await store.flush()
    cache.clock.advance(990)
    assert len(await store.get_many(LABEL, known)) == 1
    await store.flush()
    cache.clock.advance(600)
    store.put_many(OTHER, [cache.make("new", label=OTHER)])
    await store.flush()

    assert [(group.label, group.vectors) for group in await store.groups()] == [(OTHER, 1)]


async def test_too_old_to_the_second(cache):
    """A vector is found until its time to live is over, and no longer."""
    store = cache.open(ttl_s=1000.0)
    entries = [cache.make(1)]
    store.put_many(LABEL, entries)
    await store.flush()
    cache.clock.advance(999)
    assert await store.get_many(LABEL, [entries[0][0]]) == dict(entries)
    assert len([entry async for entry in store.entries(Selection())]) == 1
    cache.clock.advance(1)

    assert await store.get_many(LABEL, [entries[0][0]]) == {}
    assert not [entry async for entry in store.entries(Selection())]


async def test_without_a_time_to_live(cache):
    """A time to live of 0 keeps a vector of any age."""
    store = cache.open()
    key, cached = cache.make(1)
    store.put_many(LABEL, [(key, replace(cached, created_s=0))])
    await store.flush()

    assert await store.get_many(LABEL, [key]) == {key: replace(cached, created_s=0)}


async def test_a_purge_leaves_no_trace(cache):
    """The bytes of what was purged, too old, overwritten or evicted are in none of the files after
    a purge; those of others are."""
    store = cache.open(ttl_s=1000.0, max_bytes=2**18)
    old = [cache.make(("old", n), 1536) for n in range(20)]
    store.put_many(LABEL, old)
    await store.flush()
    cache.clock.advance(1000)
    gone = [cache.make(("evicted", n), 1536) for n in range(60)]
    store.put_many(LABEL, gone)
    store.put_many(LABEL, [(gone[-1][0], old[0][1])])
    await store.flush()
    assert cache.counts["evicted"]
    purged = [cache.make(n, 1536) for n in range(20)]
    kept = cache.make("kept", 1536, OTHER)
    store.put_many(LABEL, purged)
    store.put_many(OTHER, [kept])
    cache.path.with_name("vectors.db.damaged").write_bytes(purged[0][1].vector)
    assert await store.purge(Selection(model=LABEL.model)) >= 20

    found = b"".join(path.read_bytes() for path in cache.path.parent.iterdir())
    assert kept[1].vector[-512:] in found
    assert not any(cached.vector[-512:] in found for _, cached in old + gone + purged)
    names = sqlite3.connect(cache.path)
    assert names.execute("SELECT model FROM labels").fetchall() == [(OTHER.model,)]
    names.close()


async def test_marks_survive_the_file(cache):
    """Who waits for purges hears of the next one also when the file was deleted meanwhile."""
    store, other = cache.open(), cache.open()
    await store.purge(Selection(model="a"))
    mark, _ = await other.purged_since(-1)
    await store.close()
    cache.path.unlink()
    cache.clock.advance(2)
    again = cache.open()
    await again.purge(Selection(model="b"))

    mark, heard = await other.purged_since(mark)
    assert heard == [Selection(model="b")]
    assert await other.purged_since(mark) == (mark, [])


async def test_old_purges_are_forgotten(cache):
    """The log of purges does not grow for ever."""
    store = cache.open()
    first, _ = await store.purged_since(-1)
    for _ in range(5):
        await store.purge(Selection())
        cache.clock.advance(86_401)

    assert first == 0
    assert len((await store.purged_since(first))[1]) == 1


async def test_too_much_at_once(cache):
    """What does not fit in the queue is dropped and counted; the rest is written."""
    store = cache.open(queue_bytes=10_000)
    entries = [cache.make(n, 256) for n in range(10)]  # 1,024 bytes each, and what it costs to wait
    store.put_many(LABEL, entries)
    dropped = cache.counts["dropped"]
    await store.flush()

    assert 0 < dropped < 10
    found = await store.get_many(LABEL, [key for key, _ in entries])
    assert found == dict(entries[: 10 - dropped])
    store.put_many(LABEL, entries[10 - dropped :])
    await store.flush()
    assert len(await store.get_many(LABEL, [key for key, _ in entries])) == 10


def test_the_queue_forgets_nothing(tmp_path):
    """The queue gives out what was put, in order, each once, and has its room back after that."""
    cache = Cache(tmp_path)
    entries = [cache.make(n, 256) for n in range(100)]
    size = 256 * 4 + 400
    queue = VectorQueue(max_bytes=100 * size, take_bytes=10 * size)
    for _ in range(3):
        assert queue.put(LABEL, entries) == 100
        assert queue.put(LABEL, entries) == 0
        taken = []
        while take := queue.take():
            assert len(take.entries) == 10
            taken += take.entries
        assert taken == [(LABEL, *entry) for entry in entries]
    assert VectorQueue(max_bytes=0, take_bytes=0).take() is None


async def test_the_event_loop_is_free(cache):
    """While another process holds the write lock, reads are answered and the loop turns; what was
    put is written afterwards."""
    store = cache.open()
    store.put_many(LABEL, [cache.make(1)])
    await store.flush()
    holder = sqlite3.connect(cache.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store.put_many(LABEL, [cache.make(2)])
    flushed = asyncio.create_task(store.flush())
    for _ in range(20):
        assert await store.get_many(LABEL, [cache.make(1)[0]])
    assert not flushed.done()
    holder.execute("COMMIT")
    holder.close()
    await flushed

    assert await store.get_many(LABEL, [cache.make(2)[0]])
    assert not cache.counts["write_error"]


async def test_no_work_on_the_event_loop(cache, monkeypatch):
    """All SQL runs in the two threads of the store."""
    callers = set()
    connect = sqlite3.connect

    def watched(*args, **fields):
        connection = connect(*args, **fields)
        connection.set_trace_callback(lambda _: callers.add(threading.current_thread().name))
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    store = cache.open()
    store.put_many(LABEL, [cache.make(1)])
    await store.flush()
    await store.get_many(LABEL, [cache.make(1)[0]])
    assert [entry async for entry in store.entries(Selection())]
    await store.groups()
    await store.purge(Selection())
    await store.purged_since(-1)

    assert callers == {"embedway-vectors-read_0", "embedway-vectors-write_0"}


async def test_closed(cache):
    """A closed store has written what waited, then knows nothing, takes nothing, and says so."""
    store = cache.open()
    store.put_many(LABEL, [cache.make(1)])
    await store.close()
    await store.close()
    store.put_many(LABEL, [cache.make(2)])
    await store.flush()

    assert await store.get_many(LABEL, [cache.make(1)[0]]) == {}
    assert await store.purged_since(7) == (7, [])
    assert cache.counts["dropped"] == 1
    for answer in (store.groups(), store.purge(Selection()), anext(store.entries(Selection()))):
        with pytest.raises(StoreError, match="is closed"):
            await answer
    again = cache.open()
    assert await again.get_many(LABEL, [cache.make(n)[0] for n in (1, 2)]) == dict([cache.make(1)])
    assert not [t for t in threading.enumerate() if t.name.startswith("embedway-vectors-write")]


WRITER = """
import asyncio, sys
from pathlib import Path
from tests.store.sqlite_cache import LABEL, Cache
async def main():
    cache = Cache(Path(sys.argv[1]))
    store = cache.open()
    for n in range(40):
        store.put_many(LABEL, [cache.make((sys.argv[2], n, m)) for m in range(10)])
        await store.flush()
    await store.close()
    assert not cache.counts["write_error"] + cache.counts["read_error"]
asyncio.run(main())
"""


async def test_processes_share(cache):
    """Three processes that begin a file together lose nothing, and a fourth finds it all."""
    command = [sys.executable, "-c", WRITER, str(cache.path.parent.parent)]
    writers = [await asyncio.create_subprocess_exec(*command, name, cwd=ROOT) for name in "abc"]
    assert [await writer.wait() for writer in writers] == [0, 0, 0]
    entries = [cache.make((name, n, m)) for name in "abc" for n in range(40) for m in range(10)]

    found = await cache.open().get_many(LABEL, [key for key, _ in entries])
    assert found == dict(entries)


async def test_one_store_sees_what_the_other_does(cache):
    """What one store writes, overwrites and purges, another on the same file sees at once."""
    one, other = cache.open(), cache.open()
    key, cached = cache.make(1)
    assert await other.get_many(LABEL, [key]) == {}
    for value in (cached, replace(cached, tokens=9)):
        one.put_many(LABEL, [(key, value)])
        await one.flush()
        assert await other.get_many(LABEL, [key]) == {key: value}
    await one.purge(Selection(space=LABEL.space))
    assert await other.get_many(LABEL, [key]) == {}


async def test_written_without_being_asked(cache):
    """What is put is written soon, also if nobody waits for it."""
    store, other = cache.open(), cache.open()
    store.put_many(LABEL, [cache.make(1)])
    found = []

    async def look():
        while not found:
            found.extend(await other.get_many(LABEL, [cache.make(1)[0]]))

    await asyncio.wait_for(look(), 30)


async def test_who_waits_for_a_write_is_not_kept(cache, monkeypatch):
    """Vectors may be gathered for as long as they like: whoever flushes, purges or closes waits
    for none of it."""
    monkeypatch.setattr(vectors, "_GATHER_S", 3600.0)
    store, other = cache.open(), cache.open()
    for number, end in enumerate((store.flush, lambda: store.purge(Selection()), store.close)):
        key, cached = cache.make(number)
        store.put_many(LABEL, [(key, cached)])
        await end()
        known = {} if number == 1 else {key: cached}
        assert await other.get_many(LABEL, [key]) == known
