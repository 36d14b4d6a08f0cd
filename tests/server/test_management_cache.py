from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy import text

from embedway.cached import Cached, Label
from embedway.cli import main
from embedway.server.app import App
from embedway.server.management_cache_schemas import CacheStats, Purged, Warmed
from embedway.settings import CacheSettings, Settings
from embedway.store import migrations
from embedway.store.database import open_database
from embedway.store.keys import KeyStore, load_pepper
from embedway.vector_files import Entry, write_line
from embedway.vectors import from_numbers
from tests.asgi import MODEL, Response, bearer, call, embed, running
from tests.fakes import FakeClock, ScriptedSend
from tests.memory_store import MemoryStore
from tests.server.provider import SMALL, answer
from tests.server.provider import settings as with_account
from tests.server.staying import staying

pytestmark = pytest.mark.asyncio(loop_scope="session")

CACHE = "/v1/management/cache"
LARGE = "openai/text-embedding-3-large"
ROUTES = (
    ("GET", CACHE),
    ("POST", f"{CACHE}/purge"),
    ("GET", f"{CACHE}/export"),
    ("POST", f"{CACHE}/warm"),
)
LABELS = (
    Label(SMALL, f"{SMALL}@2", "default"),
    Label(SMALL, f"{SMALL}@2", "team-a"),
    Label(LARGE, f"{LARGE}@2", "default"),
)
JSONL = {"content-type": "application/jsonl"}


def make_entry(number: int, width: int = 2, created_s: int = 1_799_999_000) -> Entry:
    """A vector that no other number has."""
    vector = from_numbers(np.random.default_rng(number).standard_normal(width))
    cached = Cached(vector=vector, tokens=number, origin=bytes(8), created_s=created_s)
    label = LABELS[number % 3]
    return number.to_bytes(16, "big"), replace(label, space=f"{label.model}@{width}"), cached


ENTRIES = tuple(make_entry(number) for number in range(30))
LINES = b"".join(map(write_line, ENTRIES))


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    """Thirty vectors under three labels."""
    store = MemoryStore(clock, ttl_s=86_400.0)
    store.kept = {key: (label, cached) for key, label, cached in ENTRIES}
    return store


@pytest_asyncio.fixture(loop_scope="session")
async def managed(
    tmp_path: Path, clock: FakeClock, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[App]:
    """An open server whose store is *store*, and whose memory is empty."""
    settings = Settings(home=str(tmp_path), cache=CacheSettings(ttl_s=86_400.0))
    monkeypatch.setattr("embedway.runtime.open_vector_store", lambda *_: store)
    async with running(settings, clock=clock) as app:
        yield app


async def ask(app: App, method: str, path: str, headers: Any = (), body: Any = b"") -> Response:
    """The answer to a caller who waits for it."""
    return await call(staying(app), method, path, headers, body)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_admins_only(own: App, clock: FakeClock, method: str, path: str) -> None:
    """Only an admin's key opens these routes, no other key, no revoked one, and none at all; and
    whoever is refused is refused before his body is read."""
    keys = {kind: own.runtime.keys.create(kind, type=kind)[1] for kind in ("prod", "dev", "admin")}
    gone = own.runtime.keys.create("gone", type="admin")[1]
    own.runtime.keys.revoke("gone")
    for headers, status, code in (
        ({}, 401, "missing_api_key"),
        (bearer("gw_admin_a_b"), 401, "invalid_api_key"),
        (bearer(gone), 401, "revoked_api_key"),
        (bearer(keys["prod"]), 403, "insufficient_permissions"),
        (bearer(keys["dev"]), 403, "insufficient_permissions"),
    ):
        response = await call(own, method, path, headers, pieces=[b"x" * 2**20] * 3)
        assert (response.status, response.error["code"]) == (status, code)
        assert response.pieces_read == 0
    allowed = await ask(own, method, path, bearer(keys["admin"]))
    assert allowed.status not in (401, 403)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_foreign_pages(own: App, method: str, path: str) -> None:
    """On an open server a web page of another origin, or under another name, manages nothing."""
    for headers in ({"host": "evil.com"}, {"origin": "http://evil.com"}, {"origin": "null"}):
        assert (await call(own, method, path, headers)).status == 403


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_methods(own: App, method: str, path: str) -> None:
    """Each route takes one method."""
    other = "POST" if method == "GET" else "GET"
    for wrong in (other, "PUT", "DELETE", "PATCH"):
        response = await call(own, wrong, path)
        assert (response.status, response.error["code"]) == (405, "method_not_allowed")
        assert method in response.headers["allow"]


async def test_stats(managed: App) -> None:
    """The statistics tell by label what memory and store hold."""
    await embed(managed, input=["one", "two"])
    response = await ask(managed, "GET", CACHE)
    stats = msgspec.json.decode(response.body, type=CacheStats)
    assert stats.memory is not None
    assert stats.store is not None
    assert stats.memory.vectors == 2
    assert [group.model for group in stats.memory.groups] == [MODEL]
    assert 2 * 1024 < stats.memory.bytes < stats.memory.max_bytes
    assert (stats.store.kind, stats.store.vectors) == ("file", 30)
    labels = [(g.model, g.space, g.project, g.vectors) for g in stats.store.groups]
    assert labels == sorted((label.model, label.space, label.project, 10) for label in LABELS)
    assert stats.store.bytes == sum(group.bytes for group in stats.store.groups) > 240


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"model": SMALL}, 10),
        ({"model": "text-embedding-3-small"}, 10),
        ({"model": "text-embedding-3-small", "space": None, "all": False}, 10),
        ({"model": "nobody/knows"}, 30),
        ({"space": f"{LARGE}@2"}, 20),
        ({"project": "team-a"}, 20),
        ({"model": LARGE, "project": "team-a"}, 30),
        ({"all": True}, 0),
    ],
)
async def test_purge(managed: App, store: MemoryStore, body: dict[str, Any], left: int) -> None:
    """What is meant is gone and counted, the rest stays; a model goes by any of its names."""
    response = await ask(managed, "POST", f"{CACHE}/purge", (), body)
    assert msgspec.json.decode(response.body, type=Purged) == Purged(30 - left)
    assert len(store.kept) == left


async def test_purge_reaches_the_memory(managed: App, store: MemoryStore) -> None:
    """What is purged is forgotten in memory at once, and a purge of others leaves it there."""
    await embed(managed)
    assert managed.runtime.recent is not None
    await ask(managed, "POST", f"{CACHE}/purge", (), {"model": SMALL})
    assert len(managed.runtime.recent) == 1
    response = await ask(managed, "POST", f"{CACHE}/purge", (), {"model": "wordllama-256"})
    assert response.json() == {"deleted": 1}
    assert len(managed.runtime.recent) == 0
    assert len(store.kept) == 10


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "all"),
        ({"all": False}, "all"),
        ({"all": None}, "all"),
        ({"all": True, "model": SMALL}, "all"),
        ({"all": "yes"}, "all"),
        ({"all": 1}, "all"),
        ({"model": ""}, "model"),
        ({"model": 1}, "model"),
        ({"model": "x" * 257}, "model"),
        ({"project": ["a"]}, "project"),
        ({"modle": SMALL}, "modle"),
        (b'{"model": "a", "model": "b"}', "model"),
        (b"", None),
        (b"[]", None),
        (b"{", None),
        (b"\xff", None),
    ],
)
async def test_wrong_purges(managed: App, store: MemoryStore, body: Any, param: str | None) -> None:
    """A purge that does not say clearly what is refused, names the field, and deletes nothing."""
    response = await ask(managed, "POST", f"{CACHE}/purge", (), body)
    assert (response.status, response.error["param"]) == (400, param)
    assert (len(store.kept), store.purges) == (30, [])


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("purge", "text/plain"), ("purge", "application/x-www-form-urlencoded"), ("warm", "text/csv")],
)
async def test_other_bodies(managed: App, path: str, media_type: str) -> None:
    """A body that says it is something else, or is compressed, is not taken."""
    for headers in ({"content-type": media_type}, {"content-encoding": "gzip", **JSONL}):
        response = await ask(managed, "POST", f"{CACHE}/{path}", headers, b'{"all": true}')
        assert (response.status, response.error["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 30),
        (f"?model={SMALL}", 20),
        ("?model=text-embedding-3-small&project=team-a", 10),
        (f"?space={LARGE}@2", 10),
        ("?project=nobody", 0),
    ],
)
async def test_export(managed: App, query: str, count: int) -> None:
    """What is meant is sent, a line each, as it is kept."""
    response = await ask(managed, "GET", f"{CACHE}/export{query}")
    assert (response.status, response.headers["content-type"]) == (200, "application/jsonl")
    lines = response.body.splitlines(keepends=True)
    assert len(lines) == count
    assert set(lines) <= set(LINES.splitlines(keepends=True))


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?modle=a", "modle"),
        ("?model=", "model"),
        ("?model=a&model=b", "model"),
        (f"?project={'x' * 257}", "project"),
    ],
)
async def test_wrong_queries(managed: App, query: str, param: str) -> None:
    """A query that could mean less than it says is refused by its name."""
    response = await ask(managed, "GET", f"{CACHE}/export{query}")
    assert (response.status, response.error["param"]) == (400, param)


async def test_a_long_export(managed: App, store: MemoryStore) -> None:
    """An export longer than any buffer arrives whole and in order."""
    many = [make_entry(number, width=300) for number in range(500)]
    store.kept = {key: (label, cached) for key, label, cached in many}
    response = await ask(managed, "GET", f"{CACHE}/export")
    assert response.body == b"".join(map(write_line, many))


async def test_round_trip(managed: App, store: MemoryStore) -> None:
    """What was downloaded and purged is, uploaded again, what it was."""
    before = dict(store.kept)
    lines = (await ask(managed, "GET", f"{CACHE}/export")).body
    await ask(managed, "POST", f"{CACHE}/purge", (), {"all": True})
    response = await ask(managed, "POST", f"{CACHE}/warm", JSONL, lines)
    assert msgspec.json.decode(response.body, type=Warmed) == Warmed(30, 0)
    assert store.kept == before


async def test_one_row(managed: App, store: MemoryStore) -> None:
    """One row alone may be sent as plain JSON, however it is laid out."""
    store.kept = {}
    row = orjson.dumps(orjson.loads(write_line(ENTRIES[3])), option=orjson.OPT_INDENT_2)
    response = await ask(managed, "POST", f"{CACHE}/warm", (), row)
    assert response.json() == {"stored": 1, "expired": 0}
    assert list(store.kept) == [ENTRIES[3][0]]


async def test_a_wrong_line(managed: App, store: MemoryStore) -> None:
    """A line that is not as it was exported is named, and none of the others is stored."""
    store.kept = {}
    lines = LINES.splitlines()
    lines[4] = lines[4].replace(b'"tokens":4', b'"tokens":5')
    response = await ask(managed, "POST", f"{CACHE}/warm", JSONL, b"\n".join(lines))
    assert (response.status, response.error["param"]) == (400, "line 5")
    assert response.error["message"].startswith("Line 5 is not a vector as it was exported")
    assert store.kept == {}


@pytest.mark.parametrize("body", [b"", b"\n \n", b"{}", b"nonsense", b"\xff\xfe"])
async def test_no_lines(managed: App, body: bytes) -> None:
    """A body without an export in it is refused."""
    assert (await ask(managed, "POST", f"{CACHE}/warm", JSONL, body)).status == 400


async def test_too_old(managed: App, store: MemoryStore, clock: FakeClock) -> None:
    """A vector grows no younger by a detour: what is too old is counted and not stored."""
    old = make_entry(1, created_s=int(clock.now()) - 86_400)
    young = make_entry(2, created_s=int(clock.now()) - 86_390)
    store.kept = {}
    body = write_line(old) + write_line(young)
    response = await ask(managed, "POST", f"{CACHE}/warm", JSONL, body)
    assert response.json() == {"stored": 1, "expired": 1}
    assert list(store.kept) == [young[0]]


async def test_a_store_that_takes_nothing(managed: App, store: MemoryStore) -> None:
    """Vectors that are not in the store afterwards are an error to try again, not a success."""
    store.kept, store.drops = {}, True
    response = await ask(managed, "POST", f"{CACHE}/warm", JSONL, LINES)
    assert (response.status, response.error["code"]) == (503, "overloaded")
    assert "did not keep 30 of 30 vectors" in response.error["message"]


@pytest.mark.parametrize("path", ["purge", "warm"])
async def test_a_body_that_is_too_long(tmp_path: Path, path: str) -> None:
    """No more of a body is read than the settings allow, whether or not it tells its length."""
    settings = with_account(tmp_path, max_body_bytes=2048)
    async with running(settings) as app:
        kind = JSONL if path == "warm" else {}
        long = {**kind, "content-length": "2049"}
        told = await call(app, "POST", f"{CACHE}/{path}", long, b"{}")
        assert (told.status, told.error["code"]) == (413, "request_too_large")
        pieces = [b" " * 1000] * 5
        read = await call(app, "POST", f"{CACHE}/{path}", kind, pieces=pieces)
        assert read.status == 413


async def test_a_store_that_cannot_be_used(
    managed: App, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that fails is a 503 with a time to wait, and told to the operator."""
    store.failure = "vectors.db cannot be used: locked"
    for method, path, body in (
        ("GET", "", b""),
        ("POST", "/purge", b'{"all": true}'),
        ("GET", "/export", b""),
    ):
        response = await ask(managed, method, f"{CACHE}{path}", (), body)
        assert (response.status, response.error["code"]) == (503, "overloaded")
        assert response.headers["retry-after"] == "5"
        assert "locked" not in response.error["message"]
    told = [r.levelno for r in caplog.records if r.name == "embedway.management"]
    assert told == [logging.ERROR] * 3


async def test_an_export_that_breaks_off(
    managed: App, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that fails half-way leaves the answer without an end, so that nobody takes what came
    for the whole."""
    many = [make_entry(number, width=300) for number in range(500)]
    store.kept = {key: (label, cached) for key, label, cached in many}
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 3:
            store.failure = "vectors.db cannot be used: gone"

    await managed(scope_of("GET", f"{CACHE}/export"), receive, send)
    assert sent[0]["status"] == 200
    assert len(sent) >= 3
    assert all(message["more_body"] for message in sent[1:])
    assert "an export was cut off: vectors.db cannot be used: gone" in caplog.text


async def test_a_caller_who_hangs_up(managed: App, store: MemoryStore) -> None:
    """Nothing more is read from the store once nobody listens."""
    many = [make_entry(number, width=300) for number in range(500)]
    store.kept = {key: (label, cached) for key, label, cached in many}
    gone, sent = asyncio.Event(), []

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 3:
            gone.set()
            await asyncio.Event().wait()

    await managed(scope_of("GET", f"{CACHE}/export"), receive, send)
    assert len(sent) == 3


async def test_a_caller_who_hangs_up_while_sending(managed: App, store: MemoryStore) -> None:
    """A body that ends half-way stores nothing."""
    store.kept = {}
    messages = [
        {"type": "http.request", "body": LINES[:5000], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        assert message.get("status", 400) == 400

    await managed(scope_of("POST", f"{CACHE}/warm"), receive, send)
    assert store.kept == {}


def scope_of(method: str, path: str) -> dict[str, Any]:
    """A request of a loopback caller."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost:1536")],
        "client": ("127.0.0.1", 50_000),
    }


@pytest.mark.parametrize(
    ("cache", "memory"),
    [(CacheSettings(enabled=False), False), (CacheSettings(disk_bytes=0), True)],
)
async def test_no_store(tmp_path: Path, cache: CacheSettings, memory: bool) -> None:
    """Where the settings want no store, statistics and purges still work, and the rest says why it
    cannot."""
    async with running(Settings(home=str(tmp_path), cache=cache)) as app:
        stats = (await ask(app, "GET", CACHE)).json()
        assert (stats["memory"] is not None, stats["store"]) == (memory, None)
        assert (await ask(app, "POST", f"{CACHE}/purge", (), {"all": True})).json() == {
            "deleted": 0
        }
        for method, path in (("GET", "export"), ("POST", "warm")):
            response = await ask(app, method, f"{CACHE}/{path}", (), b"")
            assert (response.status, response.error["code"]) == (404, "not_found")
            assert "no store is configured" in response.error["message"]


async def test_with_the_real_store(tmp_path: Path) -> None:
    """What the gateway embedded for a key's project is listed, exported, purged and imported under
    that project, and is a hit again afterwards."""
    send = ScriptedSend(answer)
    async with running(with_account(tmp_path), send=send) as app:
        admin = bearer(app.runtime.keys.create("boss", type="admin")[1])
        mine = bearer(app.runtime.keys.create("mine", project="team-a")[1])
        await embed(app, mine, model=SMALL, input=["one", "two"])
        exported = (await ask(app, "GET", f"{CACHE}/export?project=team-a", admin)).body
        lines = [orjson.loads(line) for line in exported.splitlines()]
        assert [(line["model"], line["project"]) for line in lines] == [(SMALL, "team-a")] * 2
        stats = (await ask(app, "GET", CACHE, admin)).json()
        assert [group["project"] for group in stats["store"]["groups"]] == ["team-a"]
        purge = {"project": "team-a"}
        purged = await ask(app, "POST", f"{CACHE}/purge", admin, purge)
        assert purged.json() == {"deleted": 2}
        missed = await embed(app, mine, model=SMALL, input=["one"])
        await ask(app, "POST", f"{CACHE}/purge", admin, purge)
        await ask(app, "POST", f"{CACHE}/warm", {**admin, **JSONL}, exported)
        hit = await embed(app, mine, model=SMALL, input=["one", "two"])
        assert ("hit" in missed.headers["cache-status"], len(send.requests)) == (False, 2)
        assert "hit" in hit.headers["cache-status"]
        other = await embed(app, admin, model=SMALL, input=["one"])
        assert "hit" not in other.headers["cache-status"]


async def test_a_key_of_the_first_version(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that was made before keys had projects opens as before, and shares the vectors of the
    default project."""
    token = f"gw_prod_{'0' * 12}_{'1' * 64}"
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:1])
        engine = open_database(tmp_path)
        digest = KeyStore(engine, load_pepper(tmp_path), clock).hash(token.encode())
        with engine.begin() as connection:
            statement = "INSERT INTO keys VALUES (:id, 'old', 'prod', :hash, NULL, 1, NULL, NULL)"
            connection.execute(text(statement), {"id": "0" * 12, "hash": digest})
        engine.dispose()
    send = ScriptedSend(answer)
    async with running(with_account(tmp_path), send=send) as app:
        new = bearer(app.runtime.keys.create("new")[1])
        first = await embed(app, bearer(token), model=SMALL)
        second = await embed(app, new, model=SMALL)
    assert (first.status, second.status) == (200, 200)
    assert "hit" in second.headers["cache-status"]
    assert len(send.requests) == 1


async def test_a_purge_of_the_command_line(
    own: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running gateway forgets in its memory what the command line purges in the store."""
    for name in ("EMBEDWAY_HOME", "HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    recent = own.runtime.recent
    assert recent is not None
    await embed(own)
    assert len(recent) == 1
    async with asyncio.timeout(20):
        while len(recent):  # again, in case the gateway did not listen yet at the first time
            words = ["cache", "purge", "--model", "wordllama-256"]
            assert await asyncio.to_thread(main, words) == 0
