from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from embedway.errors import ExpiredKey, InvalidKey, PermissionDenied
from embedway.server.app import App
from embedway.server.auth import Guard
from embedway.server.key_ring import KeyRing
from embedway.server.messages import Incoming
from embedway.types import Grant
from tests.asgi import MODEL, bearer, call, embed
from tests.fakes import FakeClock, until
from tests.server.provider import SMALL

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOREIGN = "192.0.2.7"  # an address for documentation (RFC 5737)


def wrong_keys(text: str, kind: str) -> list[tuple[str, str]]:
    """Authorization headers with the code each must get; *text* is a sound key of *kind*."""
    other = {"prod": "dev", "dev": "admin", "admin": "prod"}[kind]
    _, _, id, secret = text.split("_")
    return [
        ("", "missing_api_key"),
        ("   ", "missing_api_key"),
        ("Bearer", "invalid_api_key"),
        ("Bearer ", "invalid_api_key"),
        (f"Basic {text}", "invalid_api_key"),
        (f"Token {text}", "invalid_api_key"),
        (text, "invalid_api_key"),
        (f"Bearer: {text}", "invalid_api_key"),
        (f"Bearer {text}x", "invalid_api_key"),
        (f"Bearer {text[:-1]}", "invalid_api_key"),
        (f"Bearer {text.upper()}", "invalid_api_key"),
        (f"Bearer {text} {text}", "invalid_api_key"),
        (f"Bearer {text},{text}", "invalid_api_key"),
        (f'Bearer "{text}"', "invalid_api_key"),
        (f"Bearer gw_{other}_{id}_{secret}", "invalid_api_key"),
        (f"Bearer gw_root_{id}_{secret}", "invalid_api_key"),
        (f"Bearer gw_{kind}_{id}_{'0' * 64}", "invalid_api_key"),
        (f"Bearer gw_{kind}_{id}_", "invalid_api_key"),
        (f"Bearer gw_{kind}_{'0' * 12}_{secret}", "invalid_api_key"),
        (f"Bearer gw_{kind}__{secret}", "invalid_api_key"),
        (f"Bearer {secret}", "invalid_api_key"),
        (f"Bearer gw_{kind}_{id}é_{secret}", "invalid_api_key"),
        ("Bearer ключ".encode().decode("latin-1"), "invalid_api_key"),
        ("Bearer \xff\xfe", "invalid_api_key"),
        ("Bearer " + "x" * 10_000, "invalid_api_key"),
        ("Bearer " + "_" * 10_000, "invalid_api_key"),
        ("Bearer ' OR 1=1 --", "invalid_api_key"),
        ("Bearer gw_prod_' OR 1=1 --_x", "invalid_api_key"),
        ("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "invalid_api_key"),
        ("Bearer null", "invalid_api_key"),
        ("Bearer sk-1234", "invalid_api_key"),
    ]


@pytest.mark.parametrize("kind", ["prod", "dev", "admin"])
async def test_only_the_key_itself_opens(own: App, kind: Any) -> None:
    """A key opens as it was given out and in no other form, and every refusal says 401 with
    its code, on the hot routes and on the others."""
    _, secret = own.runtime.keys.create("k", type=kind)
    for sent, code in wrong_keys(secret.reveal(), kind):
        for response in (
            await embed(own, {"authorization": sent}),
            await call(own, "GET", "/v1/credits", {"authorization": sent}),
        ):
            assert (response.status, response.error["code"]) == (401, code), sent
            assert response.error["type"] == "authentication_error"
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.headers["x-should-retry"] == "false"
            assert secret.reveal() not in response.body.decode()
    assert (await embed(own, bearer(secret))).status == 200
    lower = {"authorization": f"bearer   {secret.reveal()} "}
    assert (await embed(own, lower)).status == 200


async def test_no_header_is_a_missing_key(own: App) -> None:
    """Without the header the error says which header to send."""
    own.runtime.keys.create("k")
    error = (await embed(own)).error
    assert error["code"] == "missing_api_key"
    assert "Authorization: Bearer" in error["message"]


async def test_two_headers_are_one_too_many(own: App) -> None:
    """A request with two credentials is refused, even if both are sound."""
    _, key = own.runtime.keys.create("k")
    header = ("authorization", f"Bearer {key.reveal()}")
    assert (await embed(own, [header, header])).status == 400


async def test_refused_before_the_body_is_read(own: App) -> None:
    """Whoever has no key cannot make the server read his body."""
    own.runtime.keys.create("k")
    response = await call(own, "POST", "/v1/embeddings", pieces=[b"x" * 2**20] * 5)
    assert (response.status, response.pieces_read) == (401, 0)


async def test_an_expired_key_says_so(own: App, clock: FakeClock) -> None:
    """A key works until the millisecond at which it expires."""
    expires_ms = int(clock.now() * 1000) + 5000
    _, key = own.runtime.keys.create("k", expires_ms=expires_ms)
    assert (await embed(own, bearer(key))).status == 200
    clock.advance(4.9)
    assert (await embed(own, bearer(key))).status == 200
    clock.advance(0.2)
    assert (await embed(own, bearer(key))).error["code"] == "expired_api_key"


async def test_a_revoked_key_stops_within_a_second(own: App, clock: FakeClock) -> None:
    """A second after a key was revoked it opens nothing, and the error says why; other keys
    go on."""
    _, key = own.runtime.keys.create("gone")
    _, other = own.runtime.keys.create("stays")
    assert (await embed(own, bearer(key))).status == 200
    own.runtime.keys.revoke("gone")
    clock.advance(1.0)
    assert (await embed(own, bearer(key))).error["code"] == "revoked_api_key"
    assert (await embed(own, bearer(other))).status == 200


class SlowKeys:
    """A key store whose reading takes until it is let go on."""

    def __init__(self, keys: Any) -> None:
        self.keys, self.begun, self.may_end = keys, 0, threading.Event()

    def all(self) -> Any:
        """What is there when it begins."""
        found = self.keys.all()
        self.begun += 1
        assert self.may_end.wait(30)
        return found


async def test_nobody_waits_for_keys_that_are_known(own: App, clock: FakeClock) -> None:
    """Keys are read again before they are too old, once, and meanwhile those that are known count;
    who comes when they are too old waits, and who changed one waits for a reading that began after
    the change."""
    own.runtime.keys.create("first")
    slow = SlowKeys(own.runtime.keys)
    slow.may_end.set()
    ring = KeyRing(slow, clock)  # type: ignore[arg-type]
    assert len(await ring.current()) == 1
    slow.may_end.clear()
    clock.advance(0.4)
    assert (len(await ring.current()), slow.begun) == (1, 1)
    clock.advance(0.2)
    assert [len(await ring.current()) for _ in range(3)] == [1, 1, 1]
    await until(lambda: slow.begun == 2)

    own.runtime.keys.create("second")
    clock.advance(0.4)
    too_old = asyncio.create_task(ring.current())
    ring.renew()
    changed = asyncio.create_task(ring.current())
    await asyncio.sleep(0)
    assert not too_old.done()
    assert not changed.done()
    slow.may_end.set()
    assert len(await changed) == 2
    await too_old
    assert slow.begun == 3


async def test_a_rotated_key(own: App, clock: FakeClock) -> None:
    """A second after a rotation the new text opens, under the same id; the old one opens until its
    overlap is over, and then says why it does not."""
    key, old = own.runtime.keys.create("k")
    assert (await embed(own, bearer(old))).status == 200
    _, new = own.runtime.keys.rotate(key.id, overlap_s=60)
    clock.advance(1.0)
    ids = [(await embed(own, bearer(text))).json()["gateflow"]["request_id"] for text in (old, new)]
    for id in ids:
        found = await call(own, "GET", f"/v1/generation?id={id}", bearer(new))
        assert found.status == 200
    clock.advance(59.0)
    refused = await embed(own, bearer(old))
    assert refused.error["code"] == "expired_api_key"
    assert "was rotated" in refused.error["message"]
    assert (await embed(own, bearer(new))).status == 200


async def test_a_key_revoked_after_its_rotation(own: App, clock: FakeClock) -> None:
    """Revoking a key within its overlap closes both of its texts."""
    key, old = own.runtime.keys.create("k")
    _, new = own.runtime.keys.rotate(key.id, overlap_s=10**6)
    assert [(await embed(own, bearer(text))).status for text in (old, new)] == [200, 200]
    own.runtime.keys.revoke(key.id)
    clock.advance(1.0)
    for text in (old, new):
        assert (await embed(own, bearer(text))).error["code"] == "revoked_api_key"


async def test_a_key_for_some_providers(own: App) -> None:
    """A key that names providers is served by those alone; what only others serve is 403, also for
    vectors that are known."""
    _, free = own.runtime.keys.create("free")
    _, local = own.runtime.keys.create("local", providers=("local", "openai"))
    _, paid = own.runtime.keys.create("paid", providers=("openai",))
    assert (await embed(own, bearer(free))).status == 200  # known from here on
    assert (await embed(own, bearer(local))).status == 200
    for key, fields, param in (
        (paid, {}, "model"),
        (paid, {"provider": "local"}, "model"),
        (local, {"provider": "azure"}, "provider"),
        (local, {"provider": {"only": ["azure"]}}, "provider"),
        (local, {"providerOptions": {"gateway": {"only": ["azure"]}}}, "provider"),
    ):
        response = await embed(own, bearer(key), **fields)
        assert (response.status, response.error["code"]) == (403, "insufficient_permissions")
        assert response.error["param"] == param


JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmVk"


def head(token: str, peer: str = FOREIGN) -> Incoming:
    """A request with that token."""
    header = {b"authorization": f"Bearer {token}".encode()}
    return Incoming(method="GET", path="/", headers=header, peer=peer, credentials=1)


@pytest.fixture
def ring(own: App, clock: FakeClock) -> KeyRing:
    """Keys, one of which has the name `k`."""
    return KeyRing(own.runtime.keys, clock)


async def test_a_token_is_verified(own: App, ring: KeyRing) -> None:
    """What has the shape of a JSON Web Token goes to whoever verifies those, as it was sent, and
    its grant counts; everything else goes to the keys."""
    key, text = own.runtime.keys.create("k")
    seen: list[bytes] = []

    async def verify(token: bytes) -> Grant:
        seen.append(token)
        return Grant(key_id="oidc:1", name="job")

    guard = Guard(ring, is_loopback_only=True, verify=verify)
    assert (await guard.identify(head(JWT))).key_id == "oidc:1"
    assert (await guard.identify(head(text.reveal()))).key_id == key.id
    for wrong in ("a.b", "a.b.c.d", "gw_prod_a.b.c", f"{text.reveal()}.b.c", "abc"):
        with pytest.raises(InvalidKey):
            await guard.identify(head(wrong))
    assert seen == [JWT.encode()]


async def test_a_token_that_is_refused(own: App, ring: KeyRing) -> None:
    """What the verifier refuses stays refused, with its own error."""
    own.runtime.keys.create("k")

    async def verify(token: bytes) -> Grant:
        raise ExpiredKey("over")

    with pytest.raises(ExpiredKey, match="over"):
        await Guard(ring, is_loopback_only=True, verify=verify).identify(head(JWT))


async def test_a_token_of_certain_networks(own: App, ring: KeyRing) -> None:
    """The networks of a token's grant count like those of a key."""
    own.runtime.keys.create("k")

    async def verify(token: bytes) -> Grant:
        return Grant(key_id="oidc:1", name="job", ips=("10.0.0.0/8",))

    guard = Guard(ring, is_loopback_only=True, verify=verify)
    assert (await guard.identify(head(JWT, "10.1.2.3"))).name == "job"
    with pytest.raises(PermissionDenied):
        await guard.identify(head(JWT))


async def test_tokens_where_nobody_verifies(own: App, ring: KeyRing) -> None:
    """Without a verifier a token is no key."""
    own.runtime.keys.create("k")
    with pytest.raises(InvalidKey):
        await Guard(ring, is_loopback_only=True).identify(head(JWT))


async def test_a_key_for_some_models(own: App) -> None:
    """A key that names models opens those under any of their names, and no other model, be it
    asked for or named as a fallback."""
    _, local = own.runtime.keys.create("local", models=("wordllama-256",))
    _, paid = own.runtime.keys.create("paid", models=(SMALL,))
    _, none = own.runtime.keys.create("none", models=())
    assert (await embed(own, bearer(local))).status == 200
    for key, fields in (
        (paid, {}),
        (none, {}),
        (local, {"model": SMALL}),
        (local, {"gateflow": {"fallbacks": [SMALL]}}),
        (paid, {"model": SMALL, "gateflow": {"fallbacks": [MODEL]}}),
        (local, {"providerOptions": {"gateway": {"models": [SMALL]}}}),
    ):
        response = await embed(own, bearer(key), **fields)
        assert (response.status, response.error["code"]) == (403, "model_not_allowed")
        assert response.error["type"] == "permission_error"


@pytest.mark.parametrize(
    ("peer", "kind", "status"),
    [
        ("127.0.0.1", None, 200),
        ("::1", None, 200),
        (FOREIGN, None, 401),
        (None, None, 401),
        (FOREIGN, "prod", 403),
        (FOREIGN, "dev", 403),
        (FOREIGN, "admin", 200),
    ],
)
async def test_metrics_are_for_loopback_and_admins(
    own: App, peer: str | None, kind: Any, status: int
) -> None:
    """Metrics are read from loopback, or with an admin key from anywhere."""
    own.runtime.keys.create("first")
    headers = bearer(own.runtime.keys.create("k", type=kind)[1]) if kind else {}
    assert (await call(own, "GET", "/metrics", headers, peer=peer)).status == status


async def test_a_record_belongs_to_its_key(own: App) -> None:
    """The record of another key's request is not found; an admin finds all."""
    mine, other, admin = (
        bearer(own.runtime.keys.create(name, type=kind)[1])
        for name, kind in (("mine", "prod"), ("other", "prod"), ("boss", "admin"))
    )
    body = (await embed(own, mine)).json()
    path = f"/v1/generation?id={body['gateflow']['request_id']}"
    statuses = [(await call(own, "GET", path, key)).status for key in (mine, other, admin)]
    assert statuses == [200, 404, 200]


@pytest.mark.parametrize("path", ["/v1/credits", "/v1/generation?id=a", "/v1/ai/config"])
async def test_pages_with_a_key(own: App, path: str) -> None:
    """The pages that tell of a key need one."""
    own.runtime.keys.create("k")
    assert (await call(own, "GET", path)).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/v1/embeddings/models",
        f"/v1/models/{MODEL}",
        f"/v1/models/{MODEL}/endpoints",
        "/livez",
        "/readyz",
        "/health",
        "/docs",
        "/openapi.json",
    ],
)
async def test_pages_without_a_key(own: App, path: str) -> None:
    """The catalogue, the health and the documents need no key on any server."""
    own.runtime.keys.create("k")
    assert (await call(own, "GET", path, peer=FOREIGN)).status == 200


async def test_a_store_that_cannot_be_read(own: App, clock: FakeClock, tmp_path: Path) -> None:
    """While the keys cannot be read the known ones go on for a minute; then the answer is 503 with
    a time to wait, never 401; the process says that it lives, and all goes on once it can read."""
    _, key = own.runtime.keys.create("k")
    assert (await embed(own, bearer(key))).status == 200
    with sqlite3.connect(tmp_path / "embedway.db") as connection:
        connection.execute("ALTER TABLE keys RENAME TO hidden")
    for seconds in (1.0, 30.0, 29.0):
        clock.advance(seconds)
        assert (await embed(own, bearer(key))).status == 200
        assert (await embed(own, bearer("gw_prod_a_b"))).status == 401
    clock.advance(1.0)
    for response in (
        await embed(own, bearer(key)),
        await embed(own),
        await call(own, "GET", "/v1/credits", bearer(key)),
        await call(own, "GET", "/readyz"),
    ):
        assert (response.status, response.error["code"]) == (503, "overloaded")
        assert 0 < int(response.headers["retry-after"]) <= 120
        assert "x-should-retry" not in response.headers
    assert (await call(own, "GET", "/livez")).status == 200
    with sqlite3.connect(tmp_path / "embedway.db") as connection:
        connection.execute("ALTER TABLE hidden RENAME TO keys")
    assert (await embed(own, bearer(key))).status == 200
