"""What is not a key opens nothing: each slip and each trick gets its code, and none gets a 500."""

from __future__ import annotations

import base64
import hmac
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec import Struct

from embedway.server.app import App
from embedway.settings import Settings
from tests.asgi import bearer, call, embed, running
from tests.fakes import FakeClock

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Gate(Struct, frozen=True):
    """A server with keys, and what an attacker may know or guess of them."""

    app: App
    words: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    """One server for all cases, since none of them may change it."""
    home, clock = tmp_path_factory.mktemp("gate"), FakeClock()
    async with running(Settings(home=str(home)), clock=clock) as app:
        keys = app.runtime.keys
        key, mine = keys.create("mine")
        other, others = keys.create("other")
        gone, revoked = keys.create("gone")
        _, expired = keys.create("over", expires_ms=int(clock.now() * 1000))
        turned, rotated = keys.create("turned")
        _, bound = keys.create("bound", ips=("192.0.2.0/24",))
        keys.rotate(turned.id, overlap_s=0)
        keys.revoke(gone.id)
        text = mine.reveal()
        yield Gate(
            app,
            {
                "text": text,
                "id": key.id,
                "secret": text.rpartition("_")[2],
                "base64": base64.b64encode(text.encode()).decode(),
                "basic": base64.b64encode(f"{text}:".encode()).decode(),
                "user": base64.b64encode(f"user:{text}".encode()).decode(),
                "hex": text.encode().hex(),
                "url": text.replace("_", "%5F"),
                "back": text[::-1],
                "upper": text.upper(),
                "hash": key.hash.hex(),
                "pepper": (home / "pepper").read_text().strip(),
                "other": others.reveal(),
                "other_id": other.id,
                "other_secret": others.reveal().rpartition("_")[2],
                "revoked": revoked.reveal(),
                "expired": expired.reveal(),
                "rotated": rotated.reveal(),
                "bound": bound.reveal(),
                "zeros": "0" * 64,
                "changed": text[:-1] + ("0" if text[-1] != "0" else "1"),
                "half": text.rpartition("_")[2][:32],
                "rest": text.rpartition("_")[2][32:],
                "long": "x" * 10_000,
                "id_less": key.id[:-1],
                "secret_less": text[:-1],
                "without_first": text[1:],
            },
        )


MISSING = ("", " ", "   ", "\t")

NO_BEARER = (
    "Bearer",
    "bearer",
    "Bearer ",
    "Bearer    ",
    "Bearer \t",
    "{text}",
    "{text} Bearer",
    "Basic {basic}",
    "Basic {user}",
    "Basic {base64}",
    "Basic {text}",
    "Digest {text}",
    "Digest username=x, response={text}",
    "Negotiate {base64}",
    "Token {text}",
    "Token token={text}",
    "ApiKey {text}",
    "Key {text}",
    "JWT {text}",
    "DPoP {text}",
    "AWS4-HMAC-SHA256 Credential={text}",
    "Bear {text}",
    "Bearerr {text}",
    "earer {text}",
    "Bearer:{text}",
    "Bearer: {text}",
    "Bearer={text}",
    "Bearer={text} x",
    "Bearer\t{text}",
    "Bearer\x00 {text}",
    "\x00Bearer {text}",
    "\xa0Bearer {text}",
    "Bearer\xa0{text}",
    "Bearer,{text}",
    '"Bearer {text}"',
    "Bearer_{text}",
    "Authorization: Bearer {text}",
)
"""Another scheme, or none."""

NO_KEY = (
    # Its form.
    "{text} {text}",
    "{text},{text}",
    "{text}, {text}",
    "{text};",
    "{text}.",
    "{text}/",
    "{text}\\",
    "{text}x",
    "{text}0",
    "{text}=",
    "{text}\x00",
    "{text}\x00x",
    "{text}\x7f",
    "{text}\x08",
    "{text}\x85",
    "{text}\xa0",
    "{text}é",
    "\x00{text}",
    "\xff\xfe{text}",
    "\xef\xbb\xbf{text}",
    "\xe2\x80\x8b{text}",
    "x{text}",
    '"{text}"',
    "'{text}'",
    "<{text}>",
    "({text})",
    "{{{text}}}",
    "key={text}",
    "token:{text}",
    "Bearer {text}",
    "{base64}",
    "{hex}",
    "{url}",
    "{back}",
    "{upper}",
    "{secret_less}",
    "{without_first}",
    "{changed}",
    "{text}{text}",
    # Its kind.
    "gw_dev_{id}_{secret}",
    "gw_admin_{id}_{secret}",
    "gw_root_{id}_{secret}",
    "gw_PROD_{id}_{secret}",
    "gw__{id}_{secret}",
    "GW_prod_{id}_{secret}",
    "sk_prod_{id}_{secret}",
    "_prod_{id}_{secret}",
    "prod_{id}_{secret}",
    "gw-prod-{id}-{secret}",
    "gw.prod.{id}.{secret}",
    "gw_prod_admin_{id}_{secret}",
    "gw_prod {id} {secret}",
    "gw",
    "gw_",
    "gw_prod",
    "gw_prod_",
    "gw_prod__",
    "gw_prod___",
    "gw_prod_{id}",
    "gw_prod_{id}_",
    "gw_prod_{id}_\xe2\x80\xa6",
    "gw_prod_{id}_...",
    # Its id.
    "gw_prod_{other_id}_{secret}",
    "gw_prod_{zeros}_{secret}",
    "gw_prod_{id_less}_{secret}",
    "gw_prod_{id}0_{secret}",
    "gw_prod_ {id}_{secret}",
    "gw_prod_{id}\x00_{secret}",
    "gw_prod_{id}é_{secret}",
    "gw_prod_\xd9\xa1\xd9\xa2_{secret}",
    "gw_prod__{secret}",
    "gw_prod_*_{secret}",
    "gw_prod_%_{secret}",
    "gw_prod_mine_{secret}",
    "gw_prod_../{id}_{secret}",
    "gw_prod_' OR 1=1 --_{secret}",
    "gw_prod_null_{secret}",
    "gw_prod_{long}_{secret}",
    # Its secret.
    "gw_prod_{id}_{other_secret}",
    "gw_prod_{id}_{zeros}",
    "gw_prod_{id}_{half}",
    "gw_prod_{id}_{rest}",
    "gw_prod_{id}_{rest}{half}",
    "gw_prod_{id}_{half}_{rest}",
    "gw_prod_{id}_{half} {rest}",
    "gw_prod_{id}_{half}\x00{rest}",
    "gw_prod_{id}_{secret}{secret}",
    "gw_prod_{id}__{secret}",
    "gw_prod_{id}_ {secret}",
    "gw_prod_{id}_0x{secret}",
    "gw_prod_{id}_{hash}",
    "gw_prod_{id}_{pepper}",
    "gw_prod_{id}_{id}",
    "gw_prod_{id}_*",
    "gw_prod_{id}_' OR '1'='1",
    "gw_prod_{id}_null",
    "gw_prod_{id}_{long}",
    "{secret}",
    "{hash}",
    "{pepper}",
    "{id}",
    # Something else.
    "_",
    "___",
    "____",
    "null",
    "undefined",
    "any",
    "sk-1234",
    "0",
    "{long}",
    "..",
    "a.b.c",
    "{text}.{text}.{text}",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.{secret}",
    "%s%s%n",
    "${{jndi:ldap://x/a}}",
    "\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87",
    "\xff\xff\xff",
)
"""After "Bearer "."""

NO_LONGER = (
    ("{revoked}", "revoked_api_key"),
    ("{expired}", "expired_api_key"),
    ("{rotated}", "expired_api_key"),
    # Only whoever has the whole key hears what became of it.
    ("{revoked}x", "invalid_api_key"),
    ("{expired}x", "invalid_api_key"),
    ("{rotated}x", "invalid_api_key"),
)

CASES = [
    *((value, "missing_api_key") for value in MISSING),
    *((value, "invalid_api_key") for value in NO_BEARER),
    *((f"Bearer {value}", "invalid_api_key") for value in NO_KEY),
    *((f"Bearer {value}", code) for value, code in NO_LONGER),
]


def refused(gate: Gate, response: Any, code: str) -> None:
    """A 401 of that code, in full, that repeats nothing that was sent."""
    assert (response.status, response.error["code"]) == (401, code)
    assert response.error["type"] == "authentication_error"
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-should-retry"] == "false"
    told = response.body.decode() + str(response.headers)
    for word in ("secret", "half", "rest", "other_secret", "hash", "pepper"):
        assert gate.words[word] not in told


@pytest.mark.parametrize(("value", "code"), CASES)
async def test_no_key(gate: Gate, value: str, code: str) -> None:
    """What is not a key, whole and in its place, is 401 with its code on hot and on cold routes."""
    header = {"authorization": value.format(**gate.words)}
    refused(gate, await embed(gate.app, header), code)
    refused(gate, await call(gate.app, "GET", "/v1/credits", header), code)


@pytest.mark.parametrize(
    "header",
    [
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "x-auth-token",
        "x-embedway-key",
        "proxy-authorization",
        "authorization2",
        "x-authorization",
        "x-forwarded-authorization",
        "openai-api-key",
        "cookie",
        "sec-websocket-protocol",
    ],
)
@pytest.mark.parametrize("value", ["{text}", "Bearer {text}", "authorization={text}"])
async def test_other_headers(gate: Gate, header: str, value: str) -> None:
    """A key opens in the Authorization header and in no other one, whatever stands there."""
    sent = {header: value.format(**gate.words)}
    refused(gate, await embed(gate.app, sent), "missing_api_key")
    wrong = {**sent, "authorization": "Bearer sk-1234"}
    refused(gate, await embed(gate.app, wrong), "invalid_api_key")


@pytest.mark.parametrize("name", ["api_key", "key", "access_token", "token", "authorization"])
async def test_queries(gate: Gate, name: str) -> None:
    """A key in the query opens nothing: it would stand in logs."""
    path = f"/v1/credits?{name}={gate.words['text']}"
    refused(gate, await call(gate.app, "GET", path), "missing_api_key")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Bearer {text}", "Bearer {text}"),
        ("Bearer {text}", "Bearer {other}"),
        ("Bearer {text}", "Bearer x"),
        ("Bearer x", "Bearer {text}"),
        ("", "Bearer {text}"),
        ("Bearer {text}", ""),
        ("Basic {basic}", "Bearer {text}"),
        ("x", "y"),
    ],
)
async def test_two_credentials(gate: Gate, first: str, second: str) -> None:
    """Two credentials in one request are 400, whichever of them is sound: nobody may choose."""
    headers = [("authorization", value.format(**gate.words)) for value in (first, second)]
    for response in (
        await embed(gate.app, headers),
        await call(gate.app, "GET", "/v1/credits", headers),
    ):
        assert (response.status, response.error["code"]) == (400, "invalid_parameter")
        assert "one Authorization header" in response.error["message"]


@pytest.mark.parametrize(
    "peer",
    [
        None,
        "",
        "unix",
        "127.0.0.1",
        "::1",
        "192.0.3.1",
        "191.255.255.255",
        "2001:db8::1",
        "::192.0.2.1",
    ],
)
async def test_other_networks(gate: Gate, peer: str | None) -> None:
    """A key of certain networks is 403 from anywhere else, and the answer does not tell which they
    are; what a header says of the caller's address counts for nothing."""
    headers = bearer(gate.words["bound"])
    forged = {
        "x-forwarded-for": "192.0.2.1",
        "x-real-ip": "192.0.2.1",
        "forwarded": "for=192.0.2.1",
    }
    for sent in (headers, {**headers, **forged}):
        response = await call(gate.app, "GET", "/v1/credits", sent, peer=peer)
        assert (response.status, response.error["code"]) == (403, "insufficient_permissions")
        assert "certain networks" in response.error["message"]
        assert "192.0.2" not in response.body.decode()


@pytest.mark.parametrize("peer", ["192.0.2.1", "192.0.2.255", "::ffff:192.0.2.1"])
async def test_own_networks(gate: Gate, peer: str) -> None:
    """From its own networks such a key opens."""
    response = await call(gate.app, "GET", "/v1/credits", bearer(gate.words["bound"]), peer=peer)
    assert response.status == 200


async def test_all_take_the_same_steps(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent as a key, near to a sound one or far from it, is hashed once and compared
    twice, each time over 32 bytes: the time of a refusal tells nothing."""
    steps: list[str] = []
    keys, compare_digest = gate.app.runtime.keys, hmac.compare_digest
    hash_of = keys.hash

    def compare(one: bytes, other: bytes) -> bool:
        assert (len(one), len(other)) == (32, 32)
        steps.append("compare")
        return compare_digest(one, other)

    def digest(text: bytes) -> bytes:
        steps.append("hash")
        return hash_of(text)

    monkeypatch.setattr("embedway.server.key_ring.hmac.compare_digest", compare)
    monkeypatch.setattr(keys, "hash", digest)
    for value in ("{text}", *NO_KEY, *(value for value, _ in NO_LONGER)):
        steps.clear()
        header = {"authorization": f"Bearer {value}".format(**gate.words)}
        await call(gate.app, "GET", "/v1/credits", header)
        assert steps == ["hash", "compare", "compare"], value


async def test_nothing_was_spoilt(gate: Gate) -> None:
    """After all that the sound keys still open."""
    for word in ("text", "other"):
        assert (await embed(gate.app, bearer(gate.words[word]))).status == 200
