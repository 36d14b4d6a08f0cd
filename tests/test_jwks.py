"""The keys of an issuer: where they are looked for, how often, and for how long they count."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from embedway.errors import InvalidKey, Overloaded
from embedway.jwks import Issuer, IssuerKeys, check_signature, read_keys
from embedway.provider import HttpRequest, HttpResponse, TransportError
from tests.fakes import FakeClock
from tests.oidc_issuer import (
    EC,
    ED,
    ISSUER,
    JWKS_URL,
    OTHER_RSA,
    RSA,
    FakeIssuer,
    discovery,
    key_set,
    public_jwk,
)

DOWN = TransportError("it cannot be reached", was_sent=False)
DAY = 86_400


class Place:
    """An issuer, a clock, and what the gateway keeps of it."""

    def __init__(self, **changes: Any) -> None:
        fields = {"url": ISSUER, "jwks_url": JWKS_URL, **changes}
        self.issuer, self.clock = FakeIssuer(), FakeClock()
        self.keys = IssuerKeys(Issuer(**fields), self.issuer, self.clock)

    async def has(self, key_id: str | None, algorithm: str = "RS256") -> bool:
        """Whether the issuer has that key, as far as is known."""
        try:
            await self.keys.find(key_id, algorithm)
        except InvalidKey:
            return False
        return True


async def test_keys_are_kept_for_ten_minutes() -> None:
    """The issuer is asked at the first token and then every ten minutes, if tokens come."""
    place = Place()
    for _ in range(3):
        assert await place.has("k-RS256")
    place.clock.advance(599)
    assert await place.has("k-RS256")
    assert place.issuer.key_requests == 1
    place.clock.advance(1)
    assert await place.has("k-RS256")
    assert place.issuer.key_requests == 2


async def test_unknown_keys_ask_once_in_half_a_minute() -> None:
    """However many tokens come with keys that do not exist, the issuer is asked once in 30 s."""
    place = Place()
    for second in range(90):
        for n in range(10):
            assert not await place.has(f"nobody-{second}-{n}")
        place.clock.advance(1)
    assert place.issuer.key_requests == 3
    assert await place.has("k-RS256")
    assert place.issuer.key_requests == 3


async def test_a_new_key_counts_at_once() -> None:
    """A key that appeared since the last question is found before the ten minutes are over."""
    place = Place()
    assert await place.has("k-RS256")
    place.issuer.keys = key_set(public_jwk(RSA, "k-RS256"), public_jwk(OTHER_RSA, "k-new"))
    place.clock.advance(29)
    assert not await place.has("k-new")
    place.clock.advance(1)
    assert await place.has("k-new")
    assert place.issuer.key_requests == 2


async def test_a_key_that_is_withdrawn() -> None:
    """A key that the issuer no longer publishes stops counting after ten minutes, and if it
    publishes none any more, none counts."""
    place = Place()
    assert await place.has("k-RS256")
    place.issuer.keys = key_set(public_jwk(OTHER_RSA, "k-new"))
    place.clock.advance(600)
    assert not await place.has("k-RS256")
    place.issuer.keys = b'{"keys":[]}'
    place.clock.advance(600)
    assert not await place.has("k-new")


async def test_one_question_for_all() -> None:
    """All who wait for the same issuer wait for one question, and one of them that goes away takes
    no answer from the others."""
    place, gate = Place(), asyncio.Event()
    answer = place.issuer.__call__

    async def slow(request: HttpRequest, /, *, timeout_s: float, max_bytes: int) -> HttpResponse:
        await gate.wait()
        return await answer(request, timeout_s=timeout_s, max_bytes=max_bytes)

    place.keys._send = slow
    waiting = [asyncio.create_task(place.has("k-RS256")) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*waiting[1:]) == [True] * 19
    assert place.issuer.key_requests == 1


async def test_keys_outlive_an_outage_for_a_day() -> None:
    """While the issuer is down the keys it last had count for 24 hours; it is asked every 30 s at
    most; then nobody comes in until it is back."""
    place = Place()
    assert await place.has("k-RS256")
    place.issuer.keys = DOWN
    place.clock.advance(600)
    for _ in range(10):
        assert await place.has("k-RS256")
        place.clock.advance(3)
    assert place.issuer.key_requests == 2
    place.clock.advance(DAY - 630 - 1)
    assert await place.has("k-RS256")
    place.clock.advance(1)
    with pytest.raises(Overloaded) as caught:
        await place.has("k-RS256")
    assert caught.value.retry_after_s == 29.0
    place.issuer.keys = key_set()
    place.clock.advance(29)
    assert await place.has("k-RS256")


async def test_an_unknown_key_in_an_outage_is_no_refusal() -> None:
    """A key that is not known while the issuer cannot be asked may be a new one: 503, not 401."""
    place = Place()
    assert await place.has("k-RS256")
    place.issuer.keys = DOWN
    place.clock.advance(30)
    for _ in range(2):
        with pytest.raises(Overloaded) as caught:
            await place.has("k-new")
        assert caught.value.retry_after_s == 30.0
    assert await place.has("k-RS256")
    place.issuer.keys = key_set(public_jwk(RSA, "k-new"))
    place.clock.advance(30)
    assert await place.has("k-new")


BAD_SETS = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"<html>",
    b'{"keys":{}}',
    b'{"keys":null}',
    b'{"keys":[5]}',
    b'{"keys":["k"]}',
    b'{"keys":[{}]',
    b'{"keys":' + b"[" * 100_000,
    b'{"keys":[{"kid":"\xff"}]}',
    orjson.dumps({"keys": [{}] * 101}),
    HttpResponse(404, {}, key_set()),
    HttpResponse(500, {}, key_set()),
    HttpResponse(204, {}, b""),
    HttpResponse(302, {"location": "https://evil.example/keys"}, key_set()),
    TransportError("its answer is longer than 262144 bytes", was_sent=True),
]


@pytest.mark.parametrize("bad", BAD_SETS)
async def test_what_is_no_key_set(
    bad: bytes | HttpResponse | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that is no key set changes nothing: known keys go on counting, without any it is
    503, and the operator reads which issuer it is and why."""
    place = Place()
    place.issuer.keys = bad
    with caplog.at_level(logging.WARNING), pytest.raises(Overloaded):
        await place.has("k-RS256")
    assert f"the keys of {ISSUER} cannot be read: " in caplog.text
    assert "evil" not in caplog.text
    place.issuer.keys = key_set()
    place.clock.advance(30)
    assert await place.has("k-RS256")
    place.issuer.keys = bad
    place.clock.advance(600)
    assert await place.has("k-RS256")
    assert {request.url for request in place.issuer.asked} == {JWKS_URL}


async def test_how_an_issuer_is_asked() -> None:
    """With GET, within seconds, for 256 KiB at most, and inside only where the operator says so."""
    for is_private in (False, True):
        place = Place(is_private=is_private, jwks_url=None)
        assert await place.has("k-RS256")
        assert [request.url for request in place.issuer.asked] == [
            f"{ISSUER}/.well-known/openid-configuration",
            JWKS_URL,
        ]
        for request, (timeout_s, max_bytes) in zip(
            place.issuer.asked, place.issuer.limits, strict=True
        ):
            assert (request.method, request.body) == ("GET", b"")
            assert request.is_private is is_private
            assert "authorization" not in request.headers
            assert timeout_s <= 10
            assert max_bytes == 256 * 1024


async def test_the_place_of_the_keys_is_pinned() -> None:
    """The discovery document is read once; what it says later moves nothing."""
    place = Place(jwks_url=None)
    assert await place.has("k-RS256")
    place.issuer.document = discovery(jwks_uri=f"{ISSUER}/moved")
    place.clock.advance(600)
    assert await place.has("k-RS256")
    urls = [request.url for request in place.issuer.asked]
    assert urls[1:] == [JWKS_URL, JWKS_URL]


@pytest.mark.parametrize(
    ("issuer", "document_url"),
    [
        (ISSUER, f"{ISSUER}/.well-known/openid-configuration"),
        (f"{ISSUER}/", f"{ISSUER}/.well-known/openid-configuration"),
        (f"{ISSUER}/team", f"{ISSUER}/team/.well-known/openid-configuration"),
    ],
)
async def test_where_the_document_is(issuer: str, document_url: str) -> None:
    """Discovery is below the issuer's own path, as OpenID Connect says."""
    place = Place(url=issuer, jwks_url=None)
    place.issuer.document = discovery(issuer=issuer)
    assert await place.has("k-RS256")
    assert place.issuer.asked[0].url == document_url


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"", "no discovery document"),
        (b"[]", "no discovery document"),
        (b"{}", "no discovery document"),
        (b"<html>", "no discovery document"),
        (b"[" * 100_000, "no discovery document"),
        (discovery(jwks_uri=None), "no discovery document"),
        (discovery(jwks_uri="https://[::1"), "no discovery document"),
        (discovery(jwks_uri="https://issuer.example:x/keys"), "no discovery document"),
        (discovery(issuer="https://evil.example"), "of another issuer"),
        (discovery(issuer=f"{ISSUER}/"), "of another issuer"),
        (discovery(jwks_uri="https://evil.example/keys"), "set jwks_url"),
        (discovery(jwks_uri="https://issuer.example.evil.example/keys"), "set jwks_url"),
        (discovery(jwks_uri="https://issuer.example@evil.example/keys"), "set jwks_url"),
        (discovery(jwks_uri="https://issuer.example:8443/keys"), "set jwks_url"),
        (discovery(jwks_uri="http://issuer.example/keys"), "set jwks_url"),
        (discovery(jwks_uri="file:///etc/passwd"), "set jwks_url"),
        (discovery(jwks_uri="/keys"), "set jwks_url"),
        (HttpResponse(301, {"location": f"{ISSUER}/"}, discovery()), "HTTP 301"),
        (DOWN, "it cannot be reached"),
    ],
)
async def test_documents_that_do_not_count(
    document: bytes | HttpResponse | Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A discovery document that is another's, or points to another server, leads to no keys."""
    place = Place(jwks_url=None)
    place.issuer.document = document
    with caplog.at_level(logging.WARNING), pytest.raises(Overloaded):
        await place.has("k-RS256")
    assert told in caplog.text
    assert place.issuer.key_requests == 0
    place.issuer.document = discovery(jwks_uri="https://ISSUER.example:443/keys")
    place.clock.advance(30)
    assert await place.has("k-RS256")


SMALL = rsa.generate_private_key(65537, 1024)  # as an issuer with old keys would
P384 = ec.generate_private_key(ec.SECP384R1())
SECP256K1 = ec.generate_private_key(ec.SECP256K1())
PRIVATE = {"d": "AQAB"}

UNUSED: list[tuple[str, dict[str, Any]]] = [
    ("a key of no type", {"kid": "k"}),
    ("a key of unknown type", {"kty": "LWE", "kid": "k"}),
    ("a type that is no text", {"kty": ["RSA"], "kid": "k"}),
    ("a secret", {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"}),
    ("a secret called RS256", {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "RS256"}),
    ("a key for encryption", public_jwk(RSA, "k", use="enc")),
    ("a use that is no text", public_jwk(RSA, "k", use=5)),
    ("a key that only signs", public_jwk(RSA, "k", key_ops=["sign"])),
    ("a key that may do nothing", public_jwk(RSA, "k", key_ops=[])),
    ("operations that are no list", public_jwk(RSA, "k", key_ops="verify")),
    ("operations that are a number", public_jwk(RSA, "k", key_ops=5)),
    ("RSA for RS512", public_jwk(RSA, "k", alg="RS512")),
    ("RSA for encryption", public_jwk(RSA, "k", alg="RSA-OAEP")),
    ("RSA for HS256", public_jwk(RSA, "k", alg="HS256")),
    ("EC for RS256", public_jwk(EC, "k", alg="RS256")),
    ("an algorithm that is no text", public_jwk(RSA, "k", alg=None)),
    ("RSA with a curve", public_jwk(RSA, "k", crv="P-256")),
    ("RSA of 1,024 bits", public_jwk(SMALL, "k")),
    ("RSA of 16,384 bits", public_jwk(RSA, "k", n="_" + "w" * 2730)),
    ("RSA without modulus", public_jwk(RSA, "k", n="")),
    ("RSA whose modulus is no base64", public_jwk(RSA, "k", n="!!!")),
    ("RSA whose modulus is a number", public_jwk(RSA, "k", n=7)),
    ("RSA with exponent 1", public_jwk(RSA, "k", e="AQ")),
    ("RSA with an even exponent", public_jwk(RSA, "k", e="BA")),
    ("a private RSA key", public_jwk(RSA, "k", **PRIVATE)),
    ("a private EC key", public_jwk(EC, "k", **PRIVATE)),
    ("a private Ed25519 key", public_jwk(ED, "k", **PRIVATE)),
    ("a point on P-384", public_jwk(P384, "k")),
    ("a point on secp256k1", public_jwk(SECP256K1, "k", crv="secp256k1")),
    ("a point of secp256k1 called P-256", public_jwk(SECP256K1, "k", crv="P-256")),
    ("a point that is on no curve", public_jwk(EC, "k", x="A" * 43)),
    ("half a point", {**public_jwk(EC, "k"), "y": None}),
    ("a point of X25519", public_jwk(ED, "k", crv="X25519")),
    ("a point of Ed448", public_jwk(ED, "k", crv="Ed448")),
    ("an Ed25519 key of 31 bytes", public_jwk(ED, "k", x="A" * 42)),
    ("an id that is no text", public_jwk(RSA, "k", kid=5)),
]


@pytest.mark.parametrize("entry", [one[1] for one in UNUSED], ids=[one[0] for one in UNUSED])
def test_keys_that_are_left_out(entry: dict[str, Any]) -> None:
    """A key that is not for our three signatures is left out, and those beside it are not."""
    found = read_keys(key_set(entry, public_jwk(EC, "k-beside")))
    assert list(found) == [("k-beside", "ES256")]


@pytest.mark.parametrize(
    ("entry", "algorithm"),
    [
        (public_jwk(RSA, "k"), "RS256"),
        (public_jwk(RSA, "k", use="sig", alg="RS256", key_ops=["verify"], x5t="x"), "RS256"),
        (public_jwk(EC, "k", alg="ES256"), "ES256"),
        (public_jwk(ED, "k", alg="EdDSA", use="sig"), "EdDSA"),
    ],
)
def test_keys_that_count(entry: dict[str, Any], algorithm: str) -> None:
    """The type and the curve of a key decide what it checks."""
    assert list(read_keys(key_set(entry))) == [("k", algorithm)]


def test_a_published_private_key_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """An issuer that publishes a private key is reported, without the key."""
    with caplog.at_level(logging.WARNING):
        read_keys(key_set(public_jwk(RSA, "k", d="c2VjcmV0LW51bWJlcg")))
    assert "publishes a private key" in caplog.text
    assert "c2VjcmV0" not in caplog.text


def test_two_keys_of_one_name() -> None:
    """Of two keys of one name and algorithm the first counts; of two algorithms both do."""
    found = read_keys(
        key_set(public_jwk(RSA, "k"), public_jwk(OTHER_RSA, "k"), public_jwk(EC, "k"))
    )
    assert list(found) == [("k", "RS256"), ("k", "ES256")]
    assert found["k", "RS256"].jwk.key.public_numbers() == RSA.public_key().public_numbers()


RFC_7515_A3 = (
    {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    },
    b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
    b"cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djx"
    b"La8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
)
RFC_8037_A4 = (
    {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09"
    b"PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
)


@pytest.mark.parametrize(("jwk", "token"), [RFC_7515_A3, RFC_8037_A4], ids=["ES256", "EdDSA"])
def test_signatures_of_the_standards(jwk: dict[str, str], token: bytes) -> None:
    """The examples that the standards print are sound, and no longer so with a letter changed."""
    (key,) = read_keys(key_set(jwk)).values()
    check_signature(token, key)
    head, _, signature = token.split(b".")
    for changed in (token[:-8] + b"AAAAAAAA", b".".join((head, b"e30", signature))):
        with pytest.raises(InvalidKey):
            check_signature(changed, key)
