"""The Redis cache against a real Redis: what it keeps, and that its troubles cost only misses."""

import asyncio
import hashlib
import logging
import random
import signal
import time
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, settings

from embedway.cached import Cached, Label, Selection, pack
from embedway.secret import Secret
from embedway.store.database import StoreError
from embedway.store.redis import RedisVectors
from embedway.store.redis_names import label_name, place_of, value_name
from embedway.wrong_settings import SettingsError
from tests.fakes import FakeClock, make_vector, until
from tests.store.redis_server import RedisServer, free_port, require_redis
from tests.store.store_laws import Counts, StoreLaws

LABEL = Label("openai/small", "openai/small@8", "p1")
OTHER = Label("openai/small", "openai/small@8", "p2")


@pytest.fixture
def server(tmp_path):
    """A fresh Redis."""
    require_redis()
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def counts():
    """What the stores of a test counted."""
    return Counts()


@pytest.fixture
def clock():
    """The clock of the stores of a test."""
    return FakeClock()


@pytest.fixture
async def store(server, counts, clock):
    """A store on it."""
    async with opened(server.url, counts, clock) as store:
        yield store


@pytest.fixture
async def hasty(server, counts, clock):
    """One that waits no longer than a second for Redis."""
    async with opened(server.url, counts, clock, timeout_s=1.0) as store:
        yield store


@asynccontextmanager
async def opened(url, counts, clock, **options):
    """A store that is closed at the end. It is patient, so that a slow machine changes nothing."""
    patient = {"ttl_s": 1000.0, "clock": clock, "count": counts, "timeout_s": 30.0}
    store = RedisVectors(url, **(patient | options))
    try:
        yield store
    finally:
        await store.close()


def make_key(text):
    """The key of a text."""
    return hashlib.blake2b(str(text).encode(), digest_size=16).digest()


def make_cached(text="a text", dimensions=8, created_s=1_800_000_000):
    """A vector that depends on the text."""
    vector = make_vector(str(text), dimensions=dimensions)
    return Cached(vector=vector, tokens=3, origin=b"o" * 8, created_s=created_s)


def make_entries(*texts, dimensions=8):
    """Keys with their vectors."""
    return [(make_key(text), make_cached(text, dimensions)) for text in texts]


def name_of(text, label=LABEL):
    """What the vector of a text is called in Redis."""
    return value_name(place_of(label), make_key(text))


async def put(store, *texts, label=LABEL):
    """Put the vectors of these texts, and wait until they are written or lost."""
    store.put_many(label, make_entries(*texts))
    await store.flush()


async def knows(store, *texts, label=LABEL):
    """Which of these texts the store has a vector for; it must be the right one."""
    found = await store.get_many(label, [make_key(text) for text in texts])
    known = {text: found[make_key(text)] for text in texts if make_key(text) in found}
    assert len(known) == len(found)
    assert known == {text: make_cached(text) for text in known}
    return set(known)


def test_laws(tmp_path):
    """It does what every store of vectors does."""
    require_redis()
    server = RedisServer(tmp_path)

    class RedisLaws(StoreLaws):
        """Two stores on one Redis, which is emptied for each run."""

        def __init__(self):
            server.client.flushall()
            super().__init__()

        def open_store(self, clock, count):
            return RedisVectors(
                server.url, ttl_s=self.ttl_s, clock=clock, count=count, timeout_s=30.0
            )

        async def damage(self, label, key, how):
            name = value_name(place_of(label), key)
            server.client.set(name, how(server.client.get(name)))

    run = RedisLaws.TestCase()
    run.settings = settings(
        max_examples=60,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    try:
        run.runTest()
    finally:
        server.stop()


async def test_many_at_once(store, counts):
    """As many texts as one request may hold are written and read, and nothing else is."""
    texts = range(2048)
    store.put_many(LABEL, make_entries(*texts, dimensions=256))
    await store.flush()
    found = await store.get_many(LABEL, [make_key(text) for text in range(4096)])

    assert found == dict(make_entries(*texts, dimensions=256))
    assert counts["dropped"] == counts["write_error"] == counts["read_error"] == 0


async def test_labels_do_not_share(store):
    """A vector is found under its own label only."""
    await put(store, "a")

    assert await knows(store, "a") == {"a"}
    assert await knows(store, "a", label=OTHER) == set()


@pytest.mark.parametrize("ttl_s", [0.0, 1000.0, 1e300, float("inf")])
async def test_expiry(server, counts, clock, ttl_s):
    """Redis itself lets go of what is too old, soon after the store does."""
    async with opened(server.url, counts, clock, ttl_s=ttl_s) as store:
        clock.advance(600.0)
        await put(store, "a")
        assert await knows(store, "a") == {"a"}
    left_s = server.client.pttl(name_of("a")) / 1000
    words_left_s = server.client.pttl(label_name(place_of(LABEL))) / 1000

    if ttl_s == 0.0:
        assert left_s == words_left_s == -0.001  # never
    elif ttl_s == 1000.0:
        assert 400 < left_s < 410
        assert 1000 < words_left_s < 1010
    else:
        assert left_s > 100 * 365 * 86_400


async def test_too_old_in_place_of_young(store, clock):
    """What is put too late replaces what was there: a miss."""
    await put(store, "a")
    store.put_many(LABEL, [(make_key("a"), make_cached("a", created_s=1))])
    await store.flush()

    assert await knows(store, "a") == set()


async def test_foreign_values(server, store, counts):
    """Whatever else stands under a vector's name is a miss; only what could be one is damage."""
    client = server.client
    client.rpush(name_of("list"), "x")
    client.hset(name_of("hash"), "x", "y")
    client.set(name_of("empty"), b"")
    client.set(name_of("text"), "not a vector")
    client.set(name_of("other"), pack(make_key("a"), make_cached("a")))
    asked = ["list", "hash", "empty", "text", "other"]

    assert await knows(store, *asked) == set()
    assert counts["damaged"] == 3
    await store.flush()
    assert await store.purge(Selection(model="none")) == 0
    assert await store.groups() == []
    assert await knows(store, *asked) == set()
    assert counts["damaged"] == 3
    await put(store, *asked)
    assert await knows(store, *asked) == set(asked)
    assert counts["read_error"] == counts["write_error"] == 0


async def test_foreign_words(server, store):
    """A label whose words are lost or wrong is not listed; its vectors are found and purged."""
    await put(store, "a")
    await put(store, "b", label=OTHER)
    words = label_name(place_of(LABEL))
    for wrong in (None, b"\xff", b"{}", server.client.get(label_name(place_of(OTHER)))):
        server.client.delete(words)
        if wrong is not None:
            server.client.set(words, wrong)
        assert [group.label for group in await store.groups()] == [OTHER]
        assert [label async for _, label, _ in store.entries(Selection())] == [OTHER]
    assert await knows(store, "a") == {"a"}

    assert await store.purge(Selection(project="p1")) == 1
    assert await knows(store, "a") == set()
    assert await knows(store, "b", label=OTHER) == {"b"}


async def test_foreign_names(server, store):
    """Other names in the same database are neither listed nor purged."""
    names = ["embedway:1:v:short", b"embedway:1:v:" + b"0" * 200, "theirs"]
    for name in names:
        server.client.set(name, "x")
    await put(store, "a")

    assert [group.vectors for group in await store.groups()] == [1]
    assert await store.purge(Selection()) == 1
    assert all(server.client.exists(name) for name in names)


@pytest.mark.parametrize("part", ["model", "space", "project"])
async def test_purge_by_part(store, part):
    """A word means a model, a space or a project, whichever the selection says."""
    labels = [Label("x", "y", "y"), Label("y", "x", "y"), Label("y", "y", "x")]
    for label in labels:
        await put(store, "a", label=label)
    meant = [label for label in labels if Selection(**{part: "x"}).holds(label)]
    assert len(meant) == 1

    assert [label async for _, label, _ in store.entries(Selection(**{part: "x"}))] == meant
    assert await store.purge(Selection(**{part: "x"})) == 1
    for label in labels:
        assert await knows(store, "a", label=label) == (set() if label in meant else {"a"})


async def test_purge_in_other_processes(server, store, counts, clock):
    """A purge is seen by another store: at once in Redis, by its mark for what it keeps itself."""
    async with opened(server.url, counts, clock) as other:
        mark, selections = await other.purged_since(-1)
        assert selections == []
        await put(store, *range(2000))
        await put(store, "kept", label=OTHER)
        assert await other.purge(Selection(project="p1")) == 2000
        assert await knows(store, *range(2000)) == set()
        assert await knows(store, "kept", label=OTHER) == {"kept"}
        mark, selections = await other.purged_since(mark)
        assert selections == [Selection(project="p1")]
        assert await other.purged_since(mark) == (mark, [])


async def test_purge_of_what_is_being_written(server, store, counts):
    """What was put before a purge is not written after it, even if its writing has begun."""
    store.put_many(LABEL, make_entries(*range(1000)))
    await until(lambda: server.client.dbsize() > 1)
    store.put_many(LABEL, make_entries(*range(1000, 2000)))
    store.put_many(OTHER, make_entries("kept"))
    await store.purge(Selection(project="p1"))
    await store.flush()

    assert await knows(store, *range(2000)) == set()
    assert await knows(store, "kept", label=OTHER) == {"kept"}


async def test_a_long_log_of_purges(server, store):
    """Whoever missed so many purges that the oldest are forgotten forgets everything."""
    await store.purge(Selection(model="first"))
    mark, _ = await store.purged_since(-1)
    pipeline = server.client.pipeline()
    for _ in range(1500):
        pipeline.xadd("embedway:1:purges", {"selection": '{"model":"m"}'})
    pipeline.execute()
    await store.purge(Selection(model="last"))

    assert server.client.xlen("embedway:1:purges") == 1000
    last, selections = await store.purged_since(mark)
    assert selections == [Selection()]
    assert last > mark
    assert await store.purged_since(last) == (last, [])


@pytest.mark.parametrize("fields", [{"selection": "{"}, {"other": "x"}, {"selection": b"\xff"}])
async def test_a_foreign_line_in_the_log(server, store, fields):
    """A line that nobody understands may have meant anything."""
    mark, _ = await store.purged_since(-1)
    server.client.xadd("embedway:1:purges", fields)

    assert (await store.purged_since(mark))[1] == [Selection()]


async def test_purges_before_the_first_answer(server, store, hasty):
    """Whoever could not ask at first hears of all purges later: rather too many than too few."""
    await store.purge(Selection(model="early"))
    server.freeze()
    mark, selections = await hasty.purged_since(-1)
    assert selections == []
    server.thaw()
    assert (await store.purged_since(mark))[1] == [Selection(model="early")]


async def test_flushall(server, store, counts):
    """An emptied Redis means misses, and purges are heard of as before."""
    await put(store, "a")
    await store.purge(Selection(model="before"))
    mark, _ = await store.purged_since(-1)
    server.client.flushall()

    assert await knows(store, "a") == set()
    assert await store.groups() == []
    await put(store, "a")
    assert await knows(store, "a") == {"a"}
    await store.purge(Selection(model="after"))
    assert (await store.purged_since(mark))[1] == [Selection(model="after")]
    assert counts["read_error"] == 0


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
async def test_restart(server, store, counts, clock, signal_number):
    """A Redis that is gone costs misses, and is used again when it is back."""
    await put(store, "a")
    server.stop(signal_number)
    assert await knows(store, "a") == set()
    await put(store, "lost")
    assert counts["read_error"] == counts["write_error"] == counts["dropped"] == 1
    with pytest.raises(StoreError):
        await store.groups()
    with pytest.raises(StoreError):
        await store.purge(Selection())
    with pytest.raises(StoreError):
        await anext(aiter(store.entries(Selection())))

    server.start()
    clock.advance(1.0)
    await put(store, "b")
    assert await knows(store, "a", "b", "lost") == {"b"}


async def test_a_restart_unnoticed(server, store, counts):
    """A connection that was closed while nobody used it is no failure."""
    await put(store, "a")
    assert await knows(store, "a") == {"a"}
    server.restart()
    await put(store, "b")

    assert await knows(store, "a", "b") == {"b"}
    assert counts["read_error"] == counts["write_error"] == 0


async def test_frozen(server, store, hasty, counts, clock):
    """A frozen Redis costs the first requests a short wait, the next ones nothing, and when the
    pause is over one of many; thawed, it is used again."""
    await put(store, "a")
    server.freeze()
    started = time.monotonic()
    many = [knows(hasty, "a") for _ in range(200)]
    assert await asyncio.gather(*many) == [set()] * 200
    assert 0.9 < time.monotonic() - started < 10  # not 200 / 16 times a second
    assert 1 <= counts["read_error"] <= 16

    failed = counts["read_error"]
    started = time.monotonic()
    for _ in range(100):
        assert await knows(hasty, "a") == set()
    assert time.monotonic() - started < 0.9
    assert counts["read_error"] == failed

    clock.advance(1.0)
    assert await asyncio.gather(*(knows(hasty, "a") for _ in range(200))) == [set()] * 200
    assert counts["read_error"] == failed + 1

    server.thaw()
    clock.advance(1.0)
    assert await knows(hasty, "a") == {"a"}
    assert await asyncio.gather(*(knows(hasty, "a") for _ in range(200))) == [{"a"}] * 200


async def test_writes_to_a_frozen_redis(server, hasty, counts, clock):
    """While writes fail they are lost and counted; none of them is kept for later."""
    server.freeze()
    await put(hasty, *range(300))
    assert counts["write_error"] == 1
    assert counts["dropped"] == 300
    hasty.put_many(LABEL, make_entries(*range(300)))
    assert counts["write_error"] == 1
    assert counts["dropped"] == 600
    assert hasty._writer.done()
    server.thaw()
    clock.advance(1.0)
    await put(hasty, "later")

    assert await knows(hasty, "later") == {"later"}


async def test_full(server, store, counts, clock, caplog):
    """A Redis without room for more refuses writes; what it holds is still read, and a purge makes
    room."""
    await put(store, "a")
    await put(store, *range(1000), label=OTHER)
    server.limit_memory(0, "noeviction")
    with caplog.at_level(logging.WARNING):
        await put(store, *range(5))
    assert counts["write_error"] == 1
    assert counts["dropped"] == 5
    assert "write_error: OutOfMemoryError" in caplog.text
    assert await knows(store, "a") == {"a"}
    assert counts["read_error"] == 0

    assert await store.purge(Selection(project="p2")) == 1000
    clock.advance(1.0)
    await put(store, "b")
    assert await knows(store, "a", "b") == {"a", "b"}


async def test_eviction(server, store, counts):
    """A Redis that throws out what it likes costs misses, and what is left can all be purged."""
    server.limit_memory(2**20, "allkeys-random")
    await put(store, *range(5000))
    known = await knows(store, *range(5000))
    assert 0 < len(known) < 5000
    await store.purge(Selection(project="p1"))

    assert await knows(store, *range(5000)) == set()
    assert counts["write_error"] == counts["read_error"] == 0


async def test_read_only(server, store, counts):
    """A replica refuses writes, and is read."""
    await put(store, "a")
    server.client.replicaof("127.0.0.1", free_port())
    server.client.config_set("replica-serve-stale-data", "yes")
    await put(store, "b")

    assert counts["write_error"] == 1
    assert await knows(store, "a", "b") == {"a"}


@pytest.mark.parametrize("user", ["", "someone:", ":wrong", "someone:wrong"])
async def test_wrong_password(server, counts, clock, caplog, user):
    """A wrong password costs misses; neither it nor the address is logged."""
    server.client.config_set("requirepass", "hunter2")
    url = Secret(f"redis://{user}@127.0.0.1:{server.port}/0")
    async with opened(url, counts, clock) as store:
        await put(store, "a")
        assert await knows(store, "a") == set()
        with pytest.raises(StoreError) as caught:
            await store.groups()

    assert "AuthenticationError" in caplog.text
    for secret in ("wrong", "someone", "127.0.0.1", str(server.port)):
        assert secret not in caplog.text + str(caught.value)


async def test_right_password(server, counts, clock):
    """User, password and database come from the URL."""
    server.client.config_set("requirepass", "p@ss/word")
    url = Secret(f"redis://default:p%40ss%2Fword@127.0.0.1:{server.port}/3")
    async with opened(url, counts, clock) as store:
        await put(store, "a")
        assert await knows(store, "a") == {"a"}

    assert server.client.execute_command("AUTH", "p@ss/word")
    assert server.client.dbsize() == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://:hunter2@localhost",
        "redis://:hunter2@localhost:port",
        "redis://:hunter#2@localhost",
        "redis://:hunter2@[::1",
        "redis://:hunter2@localhost?max_connections=many",
        "redis://:hunter2@localhost?hunter2=1",
    ],
)
def test_wrong_urls(url):
    """A URL that is none stops the start; the message names the setting and shows nothing of it."""
    with pytest.raises(SettingsError, match=r"^redis_url: ") as caught:
        RedisVectors(Secret(url), ttl_s=0.0, clock=FakeClock(), count=Counts())

    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_tries_once(clock, counts):
    """A failed question is not asked again: the store decides when Redis is tried."""
    connections = 0

    async def hang_up(reader, writer):
        nonlocal connections
        connections += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as rude:
        url = Secret(f"redis://127.0.0.1:{rude.sockets[0].getsockname()[1]}")
        async with opened(url, counts, clock) as store:
            assert await knows(store, "a") == set()

    assert counts["read_error"] == 1
    assert 1 <= connections <= 2  # the client looks for a closed connection before it asks


async def test_logs_once_a_second(clock, counts, caplog):
    """However often Redis fails, it is logged once a second at most."""
    url = Secret(f"redis://127.0.0.1:{free_port()}")
    async with opened(url, counts, clock, pause_s=0.1) as store:
        for _ in range(21):
            await knows(store, "a")
            clock.advance(0.1)

    assert counts["read_error"] > 15
    assert len(caplog.records) in (2, 3)


async def test_the_queue_is_bounded(server, counts, clock):
    """What waits to be written is bounded in bytes; what is too much is dropped and counted."""
    async with opened(server.url, counts, clock, queue_bytes=100_000) as store:
        store.put_many(LABEL, make_entries(*range(1000)))
        dropped = counts["dropped"]
        assert 700 < dropped < 800
        await store.flush()
        assert len(await knows(store, *range(1000))) == 1000 - dropped
        await put(store, *range(1000, 1200))
        assert counts["dropped"] == dropped


async def test_flush_waits_only_for_what_was_before(store):
    """Waiting ends although others go on putting."""
    goes_on = True

    async def go_on():
        number = 0
        while goes_on:
            store.put_many(LABEL, make_entries(number := number + 1))
            await asyncio.sleep(0)

    others = asyncio.create_task(go_on())
    await until(lambda: store._writer is not None)
    await put(store, "a")
    assert await knows(store, "a") == {"a"}
    goes_on = False
    await others


async def test_close(server, counts, clock):
    """Closing writes what waits; afterwards nothing is known, kept or asked."""
    async with opened(server.url, counts, clock) as store:
        store.put_many(LABEL, make_entries(*range(500)))
        await asyncio.gather(store.close(), store.close())
        assert server.client.dbsize() == 501
        assert await knows(store, 0) == set()
        store.put_many(LABEL, make_entries("late"))
        assert counts["dropped"] == 1
        with pytest.raises(StoreError):
            await store.groups()
        assert await store.purged_since(7) == (7, [])
        assert [c["id"] for c in server.client.client_list()] == [str(server.client.client_id())]


@pytest.mark.parametrize("close_s", [0.01, 5.0])
async def test_close_with_a_frozen_redis(server, counts, clock, monkeypatch, close_s):
    """Closing ends in time whatever Redis does, and loses what it could not write."""
    monkeypatch.setattr("embedway.store.redis._CLOSE_S", close_s)
    store = RedisVectors(server.url, ttl_s=0.0, clock=clock, count=counts)
    await put(store, "a")
    server.freeze()
    store.put_many(LABEL, make_entries(*range(5000)))
    reading = asyncio.create_task(knows(store, "a"))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await store.close()

    assert not store._reads._under_way
    assert store._writer.done()
    assert await reading == set()
    assert counts["dropped"] == 5000
    assert counts["write_error"] == 1


async def test_close_waits_for_readers(server, counts, clock):
    """Closing waits for the questions that are under way, so that none outlives it."""
    store = RedisVectors(server.url, ttl_s=0.0, clock=clock, count=counts)
    await put(store, "a")
    server.freeze()
    reading = asyncio.create_task(knows(store, "a"))
    await until(lambda: store._reads._under_way)
    await store.close()

    assert not store._reads._under_way
    assert await reading == set()


async def test_cancelled_at_any_moment(server, counts, clock):
    """However many requests are cancelled, and whenever, no other one gets their answers."""
    # With time enough, so that only a cancellation takes an answer away.
    async with opened(server.url, counts, clock) as store:
        texts = [str(number) for number in range(200)]
        await put(store, *texts)
        dice = random.Random(7)
        answered = cancelled = 0

        async def ask():
            nonlocal answered
            asked = dice.sample(texts, dice.choice((1, 1, 2, 5, 150)))
            assert await knows(store, *asked) == set(asked)  # all of them, and each the right one
            answered += 1

        tasks, under_way = [], []
        while cancelled < 3000:
            tasks.append(asyncio.create_task(ask()))
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            under_way = [task for task in (*under_way, tasks[-1]) if not task.done()]
            if under_way and dice.random() < 0.7:
                cancelled += dice.choice(under_way).cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            assert end is None or isinstance(end, asyncio.CancelledError)

        assert answered > 500
        # No question was broken off: the connections are those of the first ones.
        assert server.client.info("stats")["total_connections_received"] < 40
        assert counts["damaged"] == counts["read_error"] == counts["dropped"] == 0
        assert len(server.client.client_list()) < 20


async def test_timed_out_at_any_moment(server, counts, clock):
    """An answer that came too late is never given to the next question."""
    texts = [str(number) for number in range(200)]
    async with opened(server.url, counts, clock) as store:
        await put(store, *texts)
    dice = random.Random(7)
    right = 0
    for timeout_s in (0.0003, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.006, 30.0):
        async with opened(server.url, counts, clock, timeout_s=timeout_s) as store:
            for _ in range(60):
                clock.advance(1.0)
                asked = [dice.sample(texts, dice.choice((1, 40, 150))) for _ in range(3)]
                for found in await asyncio.gather(*(knows(store, *some) for some in asked)):
                    right += len(found)

    assert right > 0
    assert counts["read_error"] > 0
    assert counts["damaged"] == 0


async def test_a_mixed_up_connection(counts, clock):
    """Answers that belong to other questions, or make no sense, are misses."""
    whole = pack(make_key("other"), make_cached("other"))
    bulk = b"*1\r\n$%d\r\n%s\r\n" % (len(whole), whole)
    answers = [bulk, b"*0\r\n", b":7\r\n", b"+OK\r\n", b"$-1\r\n", b"*x\r\n", b"nonsense\r\n", b""]
    answers += [b"*1\r\n$3\r\nabc\r\n", b"*1\r\n:5\r\n", b"*1\r\n*1\r\n:5\r\n", b"-ERR no\r\n"]
    waiting = iter(answers)

    async def answer(reader, writer):
        while await reader.read(100_000):
            if not (said := next(waiting, b"")):
                break
            writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as foreign:
        port = foreign.sockets[0].getsockname()[1]
        url = Secret(f"redis://127.0.0.1:{port}")
        async with opened(url, counts, clock, timeout_s=0.5) as store:
            for _ in answers:
                clock.advance(1.0)
                assert await knows(store, "a") == set()
    assert counts["damaged"] >= 1
    assert counts["read_error"] >= 1
