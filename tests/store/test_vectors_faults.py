"""What can happen to the file of the disk cache: it costs misses and lost writes, nothing else."""

import asyncio
import logging
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from embedway.cached import Selection
from embedway.store import vector_file, vectors
from embedway.store.database import StoreError
from tests.fakes import until
from tests.store.sqlite_cache import LABEL, Cache

ROOT = Path(__file__).parent.parent.parent
EVERYTHING = Selection()


@pytest.fixture
async def cache(tmp_path):
    """A file of its own."""
    cache = Cache(tmp_path)
    yield cache
    for store in cache.opened:
        await store.close()


async def put(store, *entries):
    """Put and wait."""
    store.put_many(LABEL, entries)
    await store.flush()


async def get(store, *entries):
    """What is known of these."""
    return await store.get_many(LABEL, [key for key, _ in entries])


async def assert_works(cache, store, name):
    """What is put now is found by everybody who looks anew."""
    cache.clock.advance(2)
    entry = cache.make((name, cache.clock.now()))
    await put(store, entry)
    assert await get(store, entry) == dict([entry])
    assert await get(cache.open(), entry) == dict([entry])


def aside(cache):
    """The file that was set aside."""
    return cache.path.with_name("vectors.db.damaged")


DOOMED = """
import asyncio, itertools, sys
from pathlib import Path
from embedway.cached import Selection
from tests.store.sqlite_cache import LABEL, Cache
async def main():
    cache = Cache(Path(sys.argv[1]))
    store = cache.open(max_bytes=int(sys.argv[2]))
    for n in itertools.count(int(sys.argv[3])):
        store.put_many(LABEL, [cache.make((n, m), 700) for m in range(40)])
        await store.flush()
        print(n, flush=True)
asyncio.run(main())
"""


def write_and_kill(cache, max_bytes, first, runs):
    """Let a process write *runs* runs, kill it while it writes, and return the last one told."""
    command = [sys.executable, "-c", DOOMED, str(cache.path.parent.parent), str(max_bytes)]
    with subprocess.Popen(
        [*command, str(first)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(runs):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = process.stdout.read().splitlines()
    assert process.returncode == -signal.SIGKILL
    return first + runs - 1 + len(told)


@pytest.mark.parametrize("max_bytes", [2**27, 2**20])
async def test_killed_while_writing(cache, max_bytes):
    """A process that is killed while it writes, or makes room, leaves whole entries only; what it
    knew to be written is there if there was room."""
    first = 0
    for cycle in range(4):
        last = await asyncio.to_thread(write_and_kill, cache, max_bytes, first, 1 + 7 * cycle)
        check = sqlite3.connect(cache.path)
        assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        check.close()
        store = cache.open(max_bytes=max_bytes)
        found = {key: cached async for key, _, cached in store.entries(EVERYTHING)}
        assert found
        assert all(cached == cache.value(key, 700) for key, cached in found.items())
        if max_bytes == 2**27:
            written = {cache.make((n, m), 700)[0] for n in range(last + 1) for m in range(40)}
            assert written <= found.keys()
        else:
            assert sum(cache.sizes()) <= 2 * max_bytes + 8 * 2**20
        await store.close()
        first = last + 1
    assert not cache.counts["damaged"] + cache.counts["read_error"]
    assert not aside(cache).exists()


def grow(connection, pages):
    """Fill the file with so many pages more of somebody else's."""
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS ballast (value BLOB)")
        connection.execute("INSERT INTO ballast VALUES (zeroblob(?))", (pages * 4096,))


async def test_full(cache):
    """Where there is no room at all, writes are lost and counted, and go on when room returns."""
    store = cache.open(max_bytes=2**20)
    await put(store, cache.make(1))
    other = sqlite3.connect(cache.path)
    grow(other, 300)
    many = [cache.make(("many", n), 700) for n in range(20)]
    await put(store, *many)
    assert await get(store, *many) == {}
    assert cache.counts["write_error"] == 1
    with other:
        other.execute("DROP TABLE ballast")
    other.close()

    await put(store, *many)
    assert await get(store, *many) == dict(many)
    assert not aside(cache).exists()


async def test_full_makes_room(cache, monkeypatch):
    """On a disk with less room than the bound allows, the new takes the place of the oldest."""
    monkeypatch.setattr(vector_file, "_HARD_STOP", 0.5)
    store = cache.open(max_bytes=2**21)
    for n in range(100):
        cache.clock.advance(100)
        new = [cache.make((n, m), 700) for m in range(20)]
        await put(store, *new)
        assert await get(store, *new) == dict(new)

    (group,) = await store.groups()
    assert 100 * 20 - group.vectors == cache.counts["evicted"] > 0
    assert group.bytes > 2**19
    assert not cache.counts["write_error"]


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from tests.store.sqlite_cache import LABEL, Cache
async def main():
    cache = Cache(Path(sys.argv[1]))
    store = cache.open()
    one, two = cache.make(1), cache.make(2)
    store.put_many(LABEL, [one])
    await store.flush()
    # No file of this process may grow: not the database, nor its log.
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(cache.sizes()), resource.RLIM_INFINITY))
    for n in range(20):
        store.put_many(LABEL, [cache.make((n, m), 700) for m in range(20)])
        await store.flush()
    assert cache.counts["write_error"] > 0
    assert await store.get_many(LABEL, [one[0]]) == dict([one])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    store.put_many(LABEL, [two])
    await store.flush()
    assert await store.get_many(LABEL, [one[0], two[0]]) == dict([one, two])
    await store.close()
    assert not cache.path.with_name("vectors.db.damaged").exists()
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
async def test_write_errors_of_the_disk(cache):
    """While the disk refuses to write, reads go on; when it writes again, so does the store."""
    command = [sys.executable, "-c", LIMITED, str(cache.path.parent.parent)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)

    assert await process.wait() == 0


def overwrite(path, start, data):
    """Write into a file, past SQLite."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def spoil(path, how):
    """Make it unusable."""
    if how == "garbage":
        overwrite(path, 0, random.Random(1).randbytes(path.stat().st_size))
    elif how == "text":
        path.write_text("this is no database\n" * 500)
    elif how == "cut":
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2 + 100)
    else:
        path.write_bytes(b"")


async def filled(cache, count=200):
    """A file of so many vectors with an empty log."""
    store = cache.open()
    entries = [cache.make(n, 300) for n in range(count)]
    await put(store, *entries)
    await store.close()
    return entries


@pytest.mark.parametrize("how", ["garbage", "text", "cut", "empty"])
async def test_spoilt_while_closed(cache, how):
    """A spoilt file is set aside or emptied, and begun anew, whoever meets it first."""
    entries = await filled(cache)
    spoil(cache.path, how)
    store = cache.open()
    found = await get(store, *entries)
    assert found.items() <= dict(entries).items()
    await put(store, *entries)
    assert await get(store, *entries) == dict(entries)

    assert aside(cache).exists() == (how != "empty")
    assert (cache.counts["read_error"] > 0) == (how != "empty")


@pytest.mark.parametrize("how", ["garbage", "text", "cut", "empty"])
async def test_spoilt_while_running(cache, how):
    """A file that is spoilt under a running store costs what was in it, and is begun anew."""
    entries = await filled(cache)
    store, other = cache.open(busy_timeout_s=0.05), cache.open(busy_timeout_s=0.05)
    for each in (store, other):
        assert len(await get(each, *entries[:3])) == 3
    spoil(cache.path, how)
    for each in (store, other):
        await put(each, *entries)
        cache.clock.advance(2)
        assert (await get(each, *entries)).items() <= dict(entries).items()
    for each in (store, other):
        await assert_works(cache, each, "after")


async def test_writing_first(cache):
    """A write that finds the file spoilt is not lost: it goes to the new file."""
    await filled(cache)
    spoil(cache.path, "garbage")
    store, entry = cache.open(), cache.make("new")
    await put(store, entry)

    assert await get(store, entry) == dict([entry])
    assert not cache.counts["write_error"]


@pytest.mark.parametrize("is_running", [False, True])
@pytest.mark.parametrize("seed", range(12))
async def test_flipped_bytes(cache, seed, is_running):
    """Whichever bytes of the file change, no wrong vector is found and nothing is raised."""
    entries = await filled(cache)
    dice = random.Random(seed)
    store = cache.open()
    if is_running:
        assert await get(store, entries[0])
    size = cache.path.stat().st_size
    for _ in range(2**seed // 16 + 1):
        overwrite(cache.path, dice.randrange(size), dice.randbytes(1))
    for _ in range(3):
        assert (await get(store, *entries)).items() <= dict(entries).items()
        await put(store, *entries[:50])
        cache.clock.advance(2)
    listed = {key: cached async for key, _, cached in store.entries(EVERYTHING)}
    assert listed.items() <= dict(entries).items()
    await store.purged_since(0)


@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA user_version = 7",
        "DROP TABLE vectors",
        "DROP TABLE labels",
        "ALTER TABLE vectors RENAME COLUMN used_s TO other",
        "PRAGMA user_version = 0",
    ],
)
async def test_another_schema(cache, change):
    """A file of another version, or of somebody else, is set aside and begun anew."""
    (entry,) = await filled(cache, 1)
    other = sqlite3.connect(cache.path)
    with other:
        other.execute(change)
    other.close()
    store = cache.open()
    await put(store, entry)
    cache.clock.advance(2)

    assert await get(store, entry) == dict([entry])
    assert aside(cache).exists()


async def test_set_aside_again(cache):
    """A second damaged file takes the place of the first."""
    for how in ("garbage", "text"):
        entries = await filled(cache, 5)
        spoil(cache.path, how)
        store = cache.open()
        assert await get(store, *entries) == {}
        await store.close()

    assert aside(cache).read_text().startswith("this is no database")
    assert {path.name.removeprefix("vectors.db") for path in cache.path.parent.iterdir()} <= {
        "", "-wal", "-shm", ".damaged"
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    ["value = 'text'", "value = 7", "value = zeroblob(56)", "value = x''", "used_s = 'never'"],
)
async def test_odd_values(cache, caplog, change):
    """A value of another type is damage; an odd time of use is none."""
    entries = await filled(cache, 2)
    other = sqlite3.connect(cache.path)
    with other:
        other.execute(f"UPDATE vectors SET {change} WHERE key = ?", (entries[0][0],))
    other.close()
    store = cache.open()
    is_damage = change.startswith("value")

    for _ in range(2):
        assert await get(store, *entries) == dict(entries[is_damage:])
        await store.flush()
    assert cache.counts["damaged"] == is_damage
    assert ("holds damaged vectors" in caplog.text) == is_damage
    assert [group.vectors for group in await store.groups()] == [2 - is_damage]


async def test_an_overwritten_value_is_not_damaged(cache):
    """A damaged value is deleted only if nobody has put a whole one in its place."""
    (entry,) = await filled(cache, 1)
    other = sqlite3.connect(cache.path, isolation_level=None)
    other.execute("UPDATE vectors SET value = x'00'")
    store = cache.open()
    assert await get(cache.open(), cache.make("none")) == {}
    other.execute("BEGIN IMMEDIATE")  # the writer has to wait
    store.put_many(LABEL, [entry])
    assert await get(store, entry) == {}
    other.execute("COMMIT")
    other.close()
    await store.flush()

    assert await get(store, entry) == dict([entry])


@pytest.mark.parametrize("with_log", [False, True])
async def test_deleted_while_running(cache, with_log):
    """A file that is deleted under running stores is made anew, and shared again."""
    store, other = cache.open(), cache.open()
    for each in (store, other):
        await put(each, cache.make(1))
        assert await get(each, cache.make(1))
    for path in cache.path.parent.iterdir():
        if with_log or path == cache.path:
            path.unlink()
    for each in (store, other):
        await assert_works(cache, each, id(each))
    await put(store, cache.make(2))
    assert await get(other, cache.make(2)) == dict([cache.make(2)])
    assert not cache.counts["write_error"] + cache.counts["read_error"]
    assert cache.path.stat().st_mode & 0o777 == 0o600


async def test_no_folder(cache, caplog):
    """Where no file can be, all is a miss, told once a second; it is used as soon as it can be."""
    cache.path.parent.write_text("a file where the folder should be")
    store = cache.open()
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            await put(store, cache.make(1))
            assert await get(store, cache.make(1)) == {}
            assert await store.purged_since(5) == (5, [])
        assert len(caplog.records) == 2
        cache.clock.advance(1)
        assert await get(store, cache.make(1)) == {}
        assert len(caplog.records) == 3
    assert cache.counts["write_error"] == 30
    assert cache.counts["read_error"] == 61
    for question in (store.groups(), store.purge(EVERYTHING), anext(store.entries(EVERYTHING))):
        with pytest.raises(StoreError, match="cannot be used"):
            await question

    cache.path.parent.unlink()
    await assert_works(cache, store, "after")


async def test_locked_for_long(cache):
    """Who waits for a lock longer than is patient loses that write only, and the file stays."""
    store = cache.open(busy_timeout_s=0.02)
    await put(store, cache.make(1))
    holder = sqlite3.connect(cache.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    await put(store, cache.make(2))
    assert await get(store, cache.make(1), cache.make(2)) == dict([cache.make(1)])
    assert cache.counts["write_error"] == 1
    with pytest.raises(StoreError, match="SQLITE_BUSY"):
        await store.purge(EVERYTHING)
    holder.execute("COMMIT")
    holder.close()

    await put(store, cache.make(2))
    assert await get(store, cache.make(1), cache.make(2)) == dict(map(cache.make, (1, 2)))
    assert not aside(cache).exists()


async def test_locked_while_opening(cache):
    """A file that is locked at the first use is tried again at the next, and never set aside."""
    cache.path.parent.mkdir()
    holder = sqlite3.connect(cache.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    store = cache.open(busy_timeout_s=0.02)
    for _ in range(3):
        await put(store, cache.make(1))
        assert await get(store, cache.make(1)) == {}
    assert cache.counts["write_error"] == cache.counts["read_error"] == 3
    holder.execute("COMMIT")
    holder.close()

    await assert_works(cache, store, "after")
    assert not aside(cache).exists()


async def test_closing_does_not_wait_for_ever(cache, monkeypatch, caplog):
    """Closing gives up when somebody holds the lock for too long; what waited is lost, counted."""
    others = set(threading.enumerate())
    monkeypatch.setattr(vectors, "_CLOSE_S", 0.05)
    store = cache.open(busy_timeout_s=30.0, max_bytes=2**18)
    await put(store, cache.make(1))
    holder = sqlite3.connect(cache.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store.put_many(LABEL, [cache.make(n, 700) for n in range(40)])
    await asyncio.wait_for(store.close(), 20)
    assert "was not closed in time" in caplog.text
    assert await get(store, cache.make(1)) == {}
    holder.execute("COMMIT")
    holder.close()

    async with asyncio.timeout(20):
        await until(lambda: cache.counts["dropped"])
        await until(
            lambda: (
                not any(
                    thread.name.startswith("embedway-vectors")
                    for thread in set(threading.enumerate()) - others
                )
            )
        )


async def test_what_cannot_be_packed(cache):
    """An entry that nobody can store costs its own run of writes, not those that follow."""
    store = cache.open()
    key, cached = cache.make(1)
    await put(store, (key, replace(cached, tokens=2**32)))
    assert cache.counts["write_error"] == 1
    await put(store, (key, cached))

    assert await get(store, (key, cached)) == {key: cached}


async def test_logs_hold_no_data(cache, caplog):
    """What is told of damage names the file and the kind, and nothing of what it held."""
    entries = await filled(cache)
    spoil(cache.path, "text")
    store = cache.open()
    with caplog.at_level(logging.DEBUG):
        await get(store, *entries)
    assert [record.getMessage() for record in caplog.records] == [
        f"{cache.path} could not be read: SQLITE_NOTADB and was begun anew"
    ]
