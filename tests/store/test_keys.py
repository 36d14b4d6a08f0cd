"""Keys: the text is shown once, only a keyed hash is kept."""

import hashlib
import hmac
import os
import re
import stat
import threading

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from embedway.errors import ExpiredKey, InvalidKey, InvalidRequest, NotFound, RevokedKey
from embedway.secret import Secret
from embedway.server.key_ring import KeyRing
from embedway.store.database import StoreError
from embedway.store.keys import Key, KeyStore, is_project, load_pepper
from tests.fakes import FakeClock
from tests.store.conftest import Place

PEPPER = Secret("p" * 64)


@pytest.fixture
def clock():
    """A clock to be moved by hand."""
    return FakeClock(now=1_800_000_000.0)


@pytest.fixture
def store(engine, clock):
    """An empty store of keys."""
    return KeyStore(engine, PEPPER, clock)


@pytest.mark.parametrize("type", ["prod", "dev", "admin"])
def test_text(store, type):
    """A key says its type and id, and then 256 random bits."""
    key, secret = store.create("ci", type=type)

    assert re.fullmatch(rf"gw_{type}_{key.id}_[0-9a-f]{{64}}", secret.reveal())
    assert key.prefix == f"gw_{type}_{key.id}_…"
    assert (key.name, key.type, key.created_ms) == ("ci", type, 1_800_000_000_000)


def test_randomness_is_passed_in(engine, clock):
    """The random parts come from where the store was told to take them."""
    asked = []

    def random_text(count):
        asked.append(count)
        return f"{len(asked):0{2 * count}x}"

    key, secret = KeyStore(engine, PEPPER, clock, random_text).create("ci")

    assert asked == [6, 32]
    assert secret.reveal() == f"gw_prod_{1:012x}_{2:064x}"
    assert key.id == f"{1:012x}"


def test_keys_differ(store):
    """No two keys have an id or a text in common."""
    made = [store.create("same name") for _ in range(50)]

    assert len({key.id for key, _ in made}) == 50
    assert len({secret.reveal() for _, secret in made}) == 50
    assert len({key.hash for key, _ in made}) == 50


def test_only_the_hash_is_kept(clock, tmp_path):
    """Neither a key's text nor its random part nor the pepper stands in the database's files."""
    with Place(tmp_path, None).opened() as engine:
        store = KeyStore(engine, PEPPER, clock)
        texts = [store.create("ci")[1].reveal() for _ in range(20)]
        files = [path for path in tmp_path.iterdir() if path.name.startswith("embedway.db")]

        assert files
        for path in files:
            data = path.read_bytes()
            assert PEPPER.reveal().encode() not in data
            for key_text in texts:
                random_part = key_text.rpartition("_")[2]
                assert random_part.encode() not in data
                assert bytes.fromhex(random_part) not in data


def test_hash(store):
    """The hash is HMAC-SHA-256 of the whole text under the pepper."""
    key, secret = store.create("ci")

    expected = hmac.new(b"p" * 64, secret.reveal().encode(), hashlib.sha256).digest()
    assert key.hash == store.hash(secret.reveal().encode()) == expected


def test_all(store, clock):
    """Every key comes back as it was made, oldest first."""
    made = []
    for name, changes in (
        ("plain", {}),
        ("admin", {"type": "admin"}),
        ("some", {"models": ("openai/text-embedding-3-small", "fast")}),
        ("none", {"models": ()}),
        ("short-lived", {"expires_ms": 1_900_000_000_000}),
        ("of a team", {"project": "team-a"}),
        ("strict", {"allows_fallbacks": False}),
        ("pinned", {"space": "openai/text-embedding-3-small@1536"}),
        ("elsewhere", {"providers": ("azure-eu", "local")}),
        ("nowhere", {"providers": ()}),
        ("inside", {"ips": ("10.0.0.0/8", "2001:db8::/32")}),
        ("slow", {"requests_per_minute": 1, "tokens_per_minute": 2**40, "concurrency": 3}),
        ("名前 '; DROP TABLE keys; --", {}),
    ):
        made.append(store.create(name, **changes)[0])
        clock.advance(1)

    assert store.all() == tuple(made)


@pytest.mark.parametrize("name", ["a", "Team_1.x-y", "x" * 64])
def test_names_of_projects(name):
    """A project's name is letters, digits, "_", "." and "-", at most 64."""
    assert is_project(name)


@pytest.mark.parametrize("name", ["", "*", "key:1", "a b", "é", "a\n", "x" * 65])
def test_no_names_of_projects(name):
    """Nothing else is one, least of all what stands for another scope of the cache."""
    assert not is_project(name)


def test_revoke(store, clock):
    """Revoking by id revokes one key, by name all of that name, and tells which; what was revoked
    before stays as it was."""
    one, two, other = (store.create(name)[0] for name in ("ci", "ci", "other"))
    clock.advance(10)

    assert [key.id for key in store.revoke(one.id)] == [one.id]
    clock.advance(10)
    assert [key.id for key in store.revoke("ci")] == [two.id]
    assert store.revoke("ci") == ()
    assert store.revoke("nobody") == ()

    revoked = {key.id: key.revoked_ms for key in store.all()}
    assert revoked == {one.id: 1_800_000_010_000, two.id: 1_800_000_020_000, other.id: None}


def test_find(store, clock):
    """A key is found by its id, and all keys of a name by that name, oldest first."""
    one, _ = store.create("ci")
    clock.advance(1)
    two, other = (store.create(name)[0] for name in ("ci", "other"))

    assert store.find(other.id) == store.find("other") == (other,)
    assert store.find("ci") == (one, two)
    assert store.find("nobody") == store.find("") == ()


def test_networks_in_their_usual_form(store):
    """Networks are kept in one form, and what is none makes no key."""
    key, _ = store.create("ci", ips=("10.1.2.3", "2001:DB8:0::/32", "::ffff:192.0.2.0/120"))
    with pytest.raises(ValueError, match="neither an IP address nor a network"):
        store.create("other", ips=("10.0.0.0/8", "everywhere"))

    assert key.ips == ("10.1.2.3/32", "2001:db8::/32", "192.0.2.0/24")
    assert store.all() == (key,)


@pytest.mark.parametrize("field", ["requests_per_minute", "tokens_per_minute", "concurrency"])
@pytest.mark.parametrize("wrong", [0, -1])
def test_limits_that_let_nothing_through(store, field, wrong):
    """A limit below one is refused by the database itself."""
    with pytest.raises(StoreError, match="the keys cannot be written"):
        store.create("ci", **{field: wrong})

    assert store.all() == ()


def test_a_rotated_key_is_the_same_key(store, clock):
    """Rotation changes a key's text and nothing else of it: not its id, its terms, its time."""
    terms = {"type": "dev", "models": ("small",), "expires_ms": 1_900_000_000_000, "concurrency": 2}
    old, before = store.create("ci", **terms)
    store.create("other")
    clock.advance(10)
    new, after = store.rotate(old.id, overlap_s=60)

    assert after.reveal() != before.reveal()
    assert new.hash == store.hash(after.reveal().encode())
    assert new.previous_hash == old.hash == store.hash(before.reveal().encode())
    assert new.previous_until_ms == 1_800_000_070_000
    assert after.reveal().startswith(f"gw_dev_{old.id}_")
    rotated = {"hash": old.hash, "previous_hash": None, "previous_until_ms": None}
    assert replace(new, **rotated) == old
    assert store.find(old.id) == (new,)


async def test_overlap(store, clock):
    """A rotated key is known by both texts until the overlap is over, then by the new one alone,
    and whoever still sends the old one hears why."""
    key, old = store.create("ci")
    ring = KeyRing(store, clock)
    _, new = store.rotate(key.id, overlap_s=60)
    for seconds, is_known in ((0, True), (59.999, True), (0.001, False), (10**6, False)):
        clock.advance(seconds)
        await ring.current()
        assert ring.check(new.reveal().encode()).id == key.id
        if is_known:
            assert ring.check(old.reveal().encode()).id == key.id
        else:
            with pytest.raises(ExpiredKey, match="was rotated"):
                ring.check(old.reveal().encode())


async def test_rotation_without_overlap(store, clock):
    """Without an overlap the old text is good for nothing from the same moment on."""
    key, old = store.create("ci")
    store.rotate(key.id, overlap_s=0)
    ring = KeyRing(store, clock)
    await ring.current()

    with pytest.raises(ExpiredKey, match="was rotated"):
        ring.check(old.reveal().encode())


async def test_only_the_last_text_overlaps(store, clock):
    """However long the overlap, of all earlier texts only the last one works beside the new."""
    key, first = store.create("ci")
    _, second = store.rotate(key.id, overlap_s=10**6)
    _, third = store.rotate(key.id, overlap_s=10**6)
    ring = KeyRing(store, clock)
    await ring.current()

    assert {ring.check(text.reveal().encode()).id for text in (second, third)} == {key.id}
    with pytest.raises(InvalidKey):
        ring.check(first.reveal().encode())


async def test_the_end_of_a_rotated_key(store, clock):
    """A rotated key that is revoked, or has expired, is that by both of its texts."""
    revoked, *texts = rotated(store, "revoked")
    _, *others = rotated(store, "expired", expires_ms=1_800_000_001_000)
    store.revoke(revoked.id)
    clock.advance(1)
    ring = KeyRing(store, clock)
    await ring.current()

    for text_ in texts:
        with pytest.raises(RevokedKey):
            ring.check(text_.reveal().encode())
    for text_ in others:
        with pytest.raises(ExpiredKey, match="has expired"):
            ring.check(text_.reveal().encode())


def rotated(store, name, **terms):
    """A key with its first and its second text, both good."""
    key, first = store.create(name, **terms)
    return key, first, store.rotate(key.id, overlap_s=10**6)[1]


def test_what_cannot_be_rotated(store, clock):
    """Only an active key is rotated, and only by its id; nothing else is changed by the try."""
    revoked, _ = store.create("revoked")
    expired, _ = store.create("expired", expires_ms=1_800_000_001_000)
    store.revoke("revoked")
    clock.advance(1)
    before = store.all()

    for id, error, told in (
        (revoked.id, InvalidRequest, "is revoked; make a new one"),
        (expired.id, InvalidRequest, "is expired; make a new one"),
        ("expired", NotFound, "no key of that id"),
        ("", NotFound, "no key of that id"),
    ):
        with pytest.raises(error, match=told):
            store.rotate(id, overlap_s=60)
    assert store.all() == before


async def test_two_rotations_at_once(store, clock):
    """Of several rotations at once one text is the key's and one that before it, and both of them
    were given out."""
    key, _ = store.create("ci")
    given, barrier = [], threading.Barrier(4)

    def rotate():
        barrier.wait()
        given.append(store.rotate(key.id, overlap_s=60)[1].reveal().encode())

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (last,) = store.find(key.id)

    hashes = {store.hash(text_) for text_ in given}
    assert len(hashes) == 4
    assert {last.hash, last.previous_hash} <= hashes
    assert last.hash != last.previous_hash


def test_mark_used(store, clock):
    """A key's last use is the latest that was told, and the other keys have none."""
    key, _ = store.create("ci")
    clock.advance(1)
    other, _ = store.create("other")
    for told in ({key.id: 5000}, {key.id: 4000, "nobody": 6000}):
        store.mark_used(told)
        assert [found.last_used_ms for found in store.all()] == [5000, None]
    store.mark_used({key.id: 7000, other.id: 8000})

    assert [found.last_used_ms for found in store.all()] == [7000, 8000]


@pytest.mark.parametrize(
    ("revoked_ms", "expires_ms", "now_ms", "state"),
    [
        (None, None, 10**15, "active"),
        (None, 1000, 999, "active"),
        (None, 1000, 1000, "expired"),
        (None, 1000, 1001, "expired"),
        (5, None, 1, "revoked"),
        (5, 1000, 2000, "revoked"),
    ],
)
def test_state(revoked_ms, expires_ms, now_ms, state):
    """A key is revoked for good, expired from its moment on, and active otherwise."""
    key = Key(
        id="i",
        name="n",
        type="prod",
        hash=b"",
        created_ms=0,
        revoked_ms=revoked_ms,
        expires_ms=expires_ms,
    )

    assert key.state(now_ms) == state


async def test_check(store, clock):
    """A key is known by its whole text only; a revoked or expired one is told as that."""
    _, good = store.create("good")
    _, revoked = store.create("revoked")
    _, expired = store.create("expired", expires_ms=1_800_000_000_500)
    store.revoke("revoked")
    ring = KeyRing(store, clock)
    await ring.current()
    clock.advance(0.6)

    assert ring.check(good.reveal().encode()).name == "good"
    with pytest.raises(RevokedKey):
        ring.check(revoked.reveal().encode())
    with pytest.raises(ExpiredKey):
        ring.check(expired.reveal().encode())
    text_ = good.reveal()
    changed = text_[:-1] + ("0" if text_[-1] != "0" else "1")
    for wrong in (text_[:-1], text_ + "0", text_.upper(), changed, "", "gw", "gw_prod__", "x" * 99):
        with pytest.raises(InvalidKey):
            ring.check(wrong.encode())


async def test_comparison_takes_the_same_time(store, clock, monkeypatch):
    """Known and unknown keys go through the same two constant-time comparisons: with the key's
    text and with the one before it."""
    key, good = store.create("good")
    ring = KeyRing(store, clock)
    await ring.current()
    compared, compare_digest = [], hmac.compare_digest

    def compare(one, other):
        compared.append((len(one), len(other)))
        return compare_digest(one, other)

    monkeypatch.setattr("embedway.server.key_ring.hmac.compare_digest", compare)
    ring.check(good.reveal().encode())
    for wrong in (b"gw_prod_000000000000_" + b"0" * 64, b"", good.reveal().encode()[:-1]):
        with pytest.raises(InvalidKey):
            ring.check(wrong)

    assert compared == [(32, 32)] * 8
    assert key.hash == store.hash(good.reveal().encode())


def test_unreadable_store(engine, store):
    """Where the keys cannot be read, the error is a StoreError without data."""
    store.create("ci")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE keys RENAME TO gone"))

    with pytest.raises(
        StoreError, match=r"the keys cannot be read: (Operational|Programming)Error"
    ):
        store.all()


def test_pepper(tmp_path):
    """The pepper is made once, from the randomness passed in, and readable by its owner only."""
    counts = []

    def random_bytes(count):
        counts.append(count)
        return b"\xab" * count

    pepper = load_pepper(tmp_path, random_bytes)

    assert pepper.reveal() == "ab" * 32
    assert 32 in counts
    assert load_pepper(tmp_path, lambda count: b"\xcd" * count) == pepper
    assert stat.S_IMODE((tmp_path / "pepper").stat().st_mode) == 0o600 or os.name != "posix"
    assert [path.name for path in tmp_path.iterdir()] == ["pepper"]


def test_pepper_under_a_race(tmp_path):
    """Of several that start at once one makes the pepper, and all use that one."""
    for attempt in range(20):
        home, barrier, found = tmp_path / str(attempt), threading.Barrier(4), []
        home.mkdir()

        def start(home=home, barrier=barrier, found=found):
            barrier.wait()
            found.append(load_pepper(home).reveal())

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert set(found) == {(home / "pepper").read_text()}
        assert len(found[0]) == 64


@pytest.mark.parametrize("content", [b"", b"ab" * 31, b"AB" * 32, b"ab" * 33, b"\xff" * 64])
def test_damaged_pepper(tmp_path, content):
    """A damaged pepper stops the start, since with another one no key would be known."""
    (tmp_path / "pepper").write_bytes(content)

    with pytest.raises(StoreError, match="pepper is damaged"):
        load_pepper(tmp_path)


def test_pepper_put_back_by_hand(tmp_path):
    """A line's end that an editor left behind does no harm."""
    (tmp_path / "pepper").write_text("ab" * 32 + "\n")

    assert load_pepper(tmp_path).reveal() == "ab" * 32


def refuse_writing(engine):
    """From now on the table takes no key and no change."""
    action = "BEGIN SELECT RAISE(ABORT, 'no'); END"
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(
                "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql"
                " AS $$ BEGIN RAISE EXCEPTION 'no'; END $$"
            )
            action = "FOR EACH ROW EXECUTE FUNCTION no()"
        for event in ("INSERT", "UPDATE"):
            connection.exec_driver_sql(f"CREATE TRIGGER no_{event} BEFORE {event} ON keys {action}")


def test_unwritable_store(engine, store):
    """Where a key cannot be written, the error is a StoreError without data."""
    key, _ = store.create("ci")
    refuse_writing(engine)

    with pytest.raises(StoreError, match="the keys cannot be written"):
        store.create("other")
    with pytest.raises(StoreError, match="the keys cannot be written"):
        store.revoke("ci")
    with pytest.raises(StoreError, match="the keys cannot be written"):
        store.rotate(key.id, overlap_s=60)
    with pytest.raises(StoreError, match="the keys cannot be written"):
        store.mark_used({key.id: 5000})
    assert store.all() == (key,)
