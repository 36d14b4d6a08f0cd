"""`/v1/management/api-keys`: made, listed, rotated and revoked over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from embedway.server.app import App
from embedway.server.management_key_schemas import KeyList, KeyRecord, NewKey
from tests.asgi import bearer, embed
from tests.fakes import FakeClock
from tests.server.managing import answered, ask, managing

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEYS = "/api-keys"
SPACE = "local/wordllama-256@256"
FULL = {
    "name": "the search team",
    "type": "production",
    "permissions": ["embeddings"],
    "allowed_models": ["local/wordllama-256", "text-embedding-3-small", "local/wordllama-256"],
    "allowed_providers": ["local"],
    "allowed_ips": ["127.0.0.1", "10.0.0.0/8"],
    "rate_limits": {"rpm": 60, "tpm": 100_000, "concurrency": 4},
    "expires_at": "2027-02-01T12:00:00+01:00",
    "project": "search",
    "space": None,
    "allow_fallbacks": False,
    "budgets": {"day": "0.25", "month": "5", "total": None},
}


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def without(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    """A server without keys, for those who are refused."""
    async with managing(tmp_path_factory.mktemp("managed")) as app:
        yield app


def admin(app: App) -> dict[str, str]:
    """The header of an admin."""
    return bearer(app.runtime.keys.create("boss", type="admin")[1])


async def make(app: App, headers: Any, **terms: Any) -> NewKey:
    """A key of some terms."""
    return answered(await ask(app, "POST", KEYS, headers, {"name": "one", **terms}), NewKey)


async def test_all_terms(own: App) -> None:
    """A key has the terms that were asked for, in the answer, in the list and in the store."""
    boss = admin(own)
    made = await make(own, boss, **FULL)
    assert made.key.startswith(f"gw_prod_{made.id}_")
    assert (made.type, made.status, made.permissions) == ("prod", "active", ["embeddings"])
    assert made.allowed_models == ["local/wordllama-256", "text-embedding-3-small"]
    assert (made.allowed_providers, made.allowed_ips) == (["local"], ["127.0.0.1/32", "10.0.0.0/8"])
    assert msgspec.to_builtins(made.rate_limits) == FULL["rate_limits"]
    assert (made.created_at, made.expires_at) == (
        "2027-01-15T08:00:00.000Z",
        "2027-02-01T11:00:00.000Z",
    )
    assert (made.project, made.space, made.allow_fallbacks) == ("search", None, False)
    day, month = made.budgets.day, made.budgets.month
    assert day is not None
    assert month is not None
    assert (day.amount, day.spent, day.remaining) == ("0.25", "0", "0.25")
    assert (month.starts_at, month.ends_at) == (
        "2027-01-01T00:00:00.000Z",
        "2027-02-01T00:00:00.000Z",
    )
    assert made.budgets.total is None
    (kept,) = own.runtime.keys.find(made.id)
    assert (kept.requests_per_minute, kept.tokens_per_minute, kept.concurrency) == (60, 100_000, 4)


async def test_plain_terms(own: App) -> None:
    """A name is enough: such a key may use every model, and works at once."""
    made = await make(own, (), name="plain")
    assert (made.type, made.project, made.allow_fallbacks) == ("prod", "default", True)
    assert made.allowed_models is made.allowed_providers is made.allowed_ips is None
    assert made.rate_limits == type(made.rate_limits)(None, None, None)
    assert made.expires_at is made.last_used_at is made.previous_key_expires_at is None
    assert (await embed(own, bearer(made.key))).status == 200


async def test_a_text_is_told_once(own: App) -> None:
    """No answer but the one that makes a key holds its text or its hash."""
    boss = admin(own)
    made = await make(own, boss)
    secret = made.key.rpartition("_")[2].encode()
    (kept,) = own.runtime.keys.find(made.id)
    for path in (KEYS, f"{KEYS}/{made.id}"):
        body = (await ask(own, "GET", path, boss)).body
        assert secret not in body
        assert kept.hash.hex().encode() not in body
        assert b'"key"' not in body


async def test_the_list(own: App, clock: FakeClock) -> None:
    """Every key ever made is listed, oldest first, as each is shown by itself."""
    boss, made = admin(own), []
    for name in ("a", "b"):
        clock.advance(1)
        made.append(await make(own, boss, name=name))
    await ask(own, "DELETE", f"{KEYS}/{made[0].id}", boss)
    listed = answered(await ask(own, "GET", KEYS, boss), KeyList).data
    assert [(one.name, one.status) for one in listed] == [
        ("boss", "active"),
        ("a", "revoked"),
        ("b", "active"),
    ]
    for one in listed:
        shown = await ask(own, "GET", f"{KEYS}/{one.id}", boss)
        assert answered(shown, KeyRecord) == one


async def test_rotate(own: App, clock: FakeClock) -> None:
    """A rotated key has another text; the old one works as long as was said, and its terms and
    budgets are what they were."""
    boss = admin(own)
    made = await make(own, boss, budgets={"month": "5"}, allowed_models=["local/wordllama-256"])
    path = f"{KEYS}/{made.id}/rotate"
    rotated = answered(await ask(own, "POST", path, boss, {"overlap_seconds": 60}), NewKey)
    assert (rotated.id, rotated.allowed_models) == (made.id, made.allowed_models)
    assert rotated.budgets == made.budgets
    assert rotated.previous_key_expires_at == "2027-01-15T08:01:00.000Z"
    clock.advance(30)
    assert [(await embed(own, bearer(key))).status for key in (made.key, rotated.key)] == [200, 200]
    clock.advance(31)
    assert [(await embed(own, bearer(key))).status for key in (made.key, rotated.key)] == [401, 200]


async def test_revoke(own: App, clock: FakeClock) -> None:
    """A revoked key is refused, and only it; to revoke it again changes nothing."""
    boss = admin(own)
    gone, other = [await make(own, boss, name="same") for _ in range(2)]
    for _ in range(2):
        revoked = answered(await ask(own, "DELETE", f"{KEYS}/{gone.id}", boss), KeyRecord)
        assert (revoked.status, revoked.revoked_at) == ("revoked", "2027-01-15T08:00:00.000Z")
        assert (await embed(own, bearer(gone.key))).error["code"] == "revoked_api_key"
        clock.advance(2)
    assert (await embed(own, bearer(other.key))).status == 200
    rotated = await ask(own, "POST", f"{KEYS}/{gone.id}/rotate", boss, {})
    assert (rotated.status, rotated.error["param"]) == (400, "id")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/rotate")], ids=str
)
async def test_no_such_key(own: App, method: str, path: str) -> None:
    """An id that is none is a 404 that says where ids stand; a name is no id."""
    boss = admin(own)
    await make(own, boss, name="named")
    for id in ("named", "000000000000", "%20", "gw_prod_x"):
        response = await ask(own, method, f"{KEYS}/{id}{path}", boss, {} if path else b"")
        assert (response.status, response.error["code"]) == (404, "not_found")
        assert response.error["param"] == "id"
    assert all(key.revoked_ms is None for key in own.runtime.keys.all())


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": None}, "name"),
        ({"type": "root"}, "type"),
        ({"permissions": ["embeddings", "management"]}, "permissions"),
        ({"permissions": []}, "permissions"),
        ({"permissions": ["chat"]}, "permissions[0]"),
        ({"type": "admin", "permissions": ["embeddings"]}, "permissions"),
        ({"allowed_models": []}, "allowed_models"),
        ({"allowed_models": ["local/wordllama-256", "nobody/knows"]}, "allowed_models[1]"),
        ({"allowed_models": "local/wordllama-256"}, "allowed_models"),
        ({"allowed_providers": ["nobody"]}, "allowed_providers[0]"),
        ({"allowed_ips": ["10.0.0.1/8"]}, "allowed_ips[0]"),
        ({"allowed_ips": ["here"]}, "allowed_ips[0]"),
        ({"rate_limits": {"rpm": 0}}, "rate_limits.rpm"),
        ({"rate_limits": {"tpm": 2**63}}, "rate_limits.tpm"),
        ({"rate_limits": {"concurrency": 1.5}}, "rate_limits.concurrency"),
        ({"rate_limits": {"rph": 1}}, "rate_limits.rph"),
        ({"expires_at": "2027-01-15T08:00:00Z"}, "expires_at"),
        ({"expires_at": "2027-02-01T00:00:00"}, "expires_at"),
        ({"expires_at": "0001-01-01T00:00:00+23:59"}, "expires_at"),
        ({"expires_at": 1_900_000_000}, "expires_at"),
        ({"project": "a b"}, "project"),
        ({"project": "a\n"}, "project"),
        ({"project": "key:1"}, "project"),
        ({"space": "nobody/knows@3"}, "space"),
        ({"space": "local/wordllama-256"}, "space"),
        ({"budgets": {"day": "-1"}}, "budgets.day"),
        ({"budgets": {"day": "1e3"}}, "budgets.day"),
        ({"budgets": {"month": "1\n"}}, "budgets.month"),
        ({"budgets": {"total": "0.0000000000001"}}, "budgets.total"),
        ({"budgets": {"total": "4000001"}}, "budgets.total"),
        ({"budgets": {"day": 5}}, "budgets.day"),
        ({"budgets": {"week": "5"}}, "budgets.week"),
        ({"allow_fallbacks": "no"}, "allow_fallbacks"),
        ({"key": "gw_prod_mine"}, "key"),
        ({"id": "mine"}, "id"),
    ],
    ids=str,
)
async def test_wrong_terms(without: App, terms: dict[str, Any], param: str) -> None:
    """Terms that no key can have are refused by the name of the field, and no key is made."""
    response = await ask(without, "POST", KEYS, (), {"name": "one", **terms})
    assert (response.status, response.error["param"]) == (400, param), response.body
    assert param.partition("[")[0].rpartition(".")[2] in response.error["message"]
    assert without.runtime.keys.all() == ()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"overlap_seconds": -1}, "overlap_seconds"),
        ({"overlap_seconds": 32 * 86_400}, "overlap_seconds"),
        ({"overlap_seconds": "60"}, "overlap_seconds"),
        ({"overlap": 60}, "overlap"),
        (b'{"overlap_seconds": 1, "overlap_seconds": 2}', "overlap_seconds"),
        (b"", None),
    ],
    ids=str,
)
async def test_wrong_rotations(own: App, body: Any, param: str | None) -> None:
    """A rotation that is not clear is refused, and the text stays what it was."""
    boss = admin(own)
    made = await make(own, boss)
    response = await ask(own, "POST", f"{KEYS}/{made.id}/rotate", boss, body)
    assert (response.status, response.error["param"]) == (400, param)
    assert own.runtime.keys.find(made.id)[0].previous_hash is None


async def test_a_space(own: App) -> None:
    """A key that is pinned to a space gets vectors of no other."""
    boss = admin(own)
    made = await make(own, boss, space=SPACE)
    assert made.space == SPACE
    assert (await embed(own, bearer(made.key))).status == 200
    other = await embed(own, bearer(made.key), dimensions=64)
    assert other.error["code"] == "space_mismatch"


async def test_nobody_gives_more_than_he_has(own: App) -> None:
    """An admin whose own key is bound makes no key that is bound less."""
    bound = own.runtime.keys.create("bound", type="admin", models=("local/wordllama-256",))[1]
    response = await ask(own, "POST", KEYS, bearer(bound), {"name": "more"})
    assert (response.status, response.error["param"]) == (403, "allowed_models")
    own_models = {"allowed_models": ["local/wordllama-256"]}
    await make(own, bearer(bound), **own_models)


async def test_nobody_spends_more_than_he_may(own: App) -> None:
    """An admin with a budget gives each key a part of it at most."""
    key, text = own.runtime.keys.create("bound", type="admin")
    own.runtime.budgets.set("key", key.id, "month", 10**12)
    for budgets in (None, {"month": "2"}, {"total": "1"}):
        body = {"name": "more", "budgets": budgets}
        response = await ask(own, "POST", KEYS, bearer(text), body)
        assert (response.status, response.error["param"]) == (403, "budgets.month")
    await make(own, bearer(text), budgets={"month": "1"})


async def test_nobody_takes_more_than_he_has(own: App) -> None:
    """An admin who is bound himself does not get the text of a key that is worth more, and no
    budget of a key beyond his own; his own key he may rotate."""
    big = own.runtime.keys.create("big", type="admin")[0]
    bound, text = own.runtime.keys.create("bound", type="admin", ips=("127.0.0.1",))
    headers = bearer(text)
    response = await ask(own, "POST", f"{KEYS}/{big.id}/rotate", headers, {})
    assert (response.status, response.error["param"]) == (403, "allowed_ips")
    assert own.runtime.keys.find(big.id)[0].previous_hash is None
    own.runtime.budgets.set("key", bound.id, "month", 10**12)
    for owner in (bound.id, big.id):
        path = f"/budgets/key/{owner}/month"
        raised = await ask(own, "PUT", path, headers, {"amount": "1.01"})
        removed = await ask(own, "DELETE", path, headers)
        for refused in (raised, removed):
            assert (refused.status, refused.error["param"]) == (403, "amount")
        assert (await ask(own, "PUT", path, headers, {"amount": "1"})).status == 200
    answered(await ask(own, "POST", f"{KEYS}/{bound.id}/rotate", headers, {}), NewKey)
