"""Tokens that must not come in: each is sound but for the one thing that its sentence says, and is
signed with the issuer's own key unless that is the thing."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

from embedway.errors import EmbedError, ExpiredKey, InvalidKey
from embedway.oidc import TokenVerifier
from tests.fakes import FakeClock
from tests.oidc_issuer import (
    AUDIENCE,
    EC,
    ED,
    GONE,
    ISSUER,
    KEYS,
    OTHER_RSA,
    RSA,
    SUBJECT,
    FakeIssuer,
    base64url,
    key_set,
    make_claims,
    make_header,
    make_token,
    public_jwk,
    settings,
    sign,
)

NOW = 1_800_000_000
PEM = RSA.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
P384 = ec.generate_private_key(ec.SECP384R1())
FORM = "three base64url parts"
OBJECT = "must be a JSON object in base64url"
NOT_PUBLISHED = "does not publish"
SIGNATURE = "signature is not its issuer's"


def header(key: Any = RSA, **changes: Any) -> bytes:
    """A token whose header differs."""
    return make_token(header=make_header(**changes), key=key)


def claims(**changes: Any) -> bytes:
    """A token whose claims differ."""
    return make_token(make_claims(**changes))


def raw_header(text: bytes) -> bytes:
    """A token with this text as header."""
    return sign(text, orjson.dumps(make_claims()))


def raw_claims(text: bytes) -> bytes:
    """A token with this text as claims."""
    return sign(orjson.dumps(make_header()), text)


def claims_and(text: bytes) -> bytes:
    """A token with this text put behind its claims."""
    return raw_claims(orjson.dumps(make_claims())[:-1] + text + b"}")


def with_part(number: int, change: Callable[[bytes], bytes]) -> bytes:
    """A sound token, one part of which was changed after it was signed."""
    parts = make_token().split(b".")
    parts[number] = change(parts[number])
    return b".".join(parts)


def other_spelling(part: bytes) -> bytes:
    """The same bytes, with bits in the last character that stand for nothing."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    decoded = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    for last in alphabet:
        other = part[:-1] + bytes([last])
        if other != part and base64.urlsafe_b64decode(other + b"=" * (-len(part) % 4)) == decoded:
            return other
    raise AssertionError("a part of a length that has one spelling only")


def padded_claims() -> bytes:
    """A token whose claims have two spellings, in the wrong one."""
    text = orjson.dumps(make_claims())
    text += b" " * (-len(text) % 3 + 1)
    head = base64url(orjson.dumps(make_header()))
    signed = head + b"." + other_spelling(base64url(text))
    return signed + b"." + base64url(RSA.sign(signed, padding.PKCS1v15(), hashes.SHA256()))


def es256(change: Callable[[bytes], bytes]) -> bytes:
    """A token signed with ES256, its signature's bytes changed."""
    head, body, signature = make_token(header=make_header("ES256"), key=EC).split(b".")
    decoded = base64.urlsafe_b64decode(signature + b"==")
    return b".".join((head, body, base64url(change(decoded))))


def der_signature() -> bytes:
    """An ES256 token whose signature is written as X.509 does."""
    signed = b".".join(make_token(header=make_header("ES256"), key=EC).split(b".")[:2])
    return signed + b"." + base64url(EC.sign(signed, ec.ECDSA(hashes.SHA256())))


def pss_signature() -> bytes:
    """An RS256 token signed as PS256 does."""
    signed = b".".join(make_token().split(b".")[:2])
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    return signed + b"." + base64url(RSA.sign(signed, pss, hashes.SHA256()))


def sha1_signature() -> bytes:
    """An RS256 token signed over SHA-1."""
    signed = b".".join(make_token().split(b".")[:2])
    return signed + b"." + base64url(RSA.sign(signed, padding.PKCS1v15(), hashes.SHA1()))


def swapped_claims() -> bytes:
    """The claims of one token under the signature of another."""
    head, _, signature = make_token().split(b".")
    return b".".join((head, base64url(orjson.dumps(make_claims(sub="admin"))), signature))


FORMS: list[tuple[str, Callable[[], bytes], str]] = [
    ("Nothing is no token.", lambda: b"", FORM),
    ("Dots alone are no token.", lambda: b"..", FORM),
    ("Two parts are too few.", lambda: make_token().rpartition(b".")[0], FORM),
    ("Four parts are too many.", lambda: make_token() + b".AAAA", FORM),
    ("Five parts are an encrypted token.", lambda: b"e30.AAAA.AAAA.AAAA.AAAA", FORM),
    ("A header must be there.", lambda: with_part(0, lambda _: b""), FORM),
    (
        "Claims must be there: none are read from elsewhere.",
        lambda: with_part(1, lambda _: b""),
        FORM,
    ),
    ("A signature must be there.", lambda: with_part(2, lambda _: b""), FORM),
    ("A space before is not cut off.", lambda: b" " + make_token(), FORM),
    ("A line's end behind is not cut off.", lambda: make_token() + b"\n", FORM),
    ("A NUL does not end a token.", lambda: make_token() + b"\0", FORM),
    ("Padding is not part of a token.", lambda: with_part(1, lambda part: part + b"="), FORM),
    ("Standard base64 is not base64url.", lambda: with_part(2, lambda p: b"+/" + p[2:]), FORM),
    ("A character outside base64 is not skipped.", lambda: with_part(1, lambda p: p + b"!"), FORM),
    (
        "A line's end inside is not skipped.",
        lambda: with_part(1, lambda p: p[:8] + b"\n" + p[8:]),
        FORM,
    ),
    ("Letters beyond ASCII are no base64.", lambda: with_part(0, lambda p: p + "é".encode()), FORM),
    ("A length that base64 cannot have is none.", lambda: with_part(0, lambda _: b"AAAAA"), OBJECT),
    ("Claims in another spelling are refused even if signed so.", padded_claims, OBJECT),
    (
        "A signature in another spelling would be a second token of the same worth.",
        lambda: with_part(2, other_spelling),
        SIGNATURE,
    ),
    ("A token longer than 8 KiB is not read.", lambda: claims(pad="x" * 8192), "longer than 8192"),
    ("A token in JSON form is none.", lambda: b'{"payload":"e30","signatures":[]}.a.b', FORM),
]

HEADERS: list[tuple[str, Callable[[], bytes], str]] = [
    ("'none' is no signature.", lambda: header(alg="none"), "'alg' must be one of"),
    ("'None' neither.", lambda: header(alg="None"), "'alg' must be one of"),
    ("'NONE' neither.", lambda: header(alg="NONE"), "'alg' must be one of"),
    (
        "'none' with no signature neither.",
        lambda: header(alg="none").rpartition(b".")[0] + b".",
        FORM,
    ),
    ("An algorithm must be named.", lambda: header(alg=GONE), "'alg' must be one of"),
    ("An algorithm is not null.", lambda: header(alg=None), "'alg' must be one of"),
    ("An algorithm is not empty.", lambda: header(alg=""), "'alg' must be one of"),
    ("An algorithm is not a list of some.", lambda: header(alg=["RS256"]), "'alg' must be one of"),
    ("An algorithm is not a number.", lambda: header(alg=256), "'alg' must be one of"),
    ("An algorithm's name is not lower-case.", lambda: header(alg="rs256"), "'alg' must be one of"),
    (
        "A space is no part of an algorithm's name.",
        lambda: header(alg="RS256 "),
        "'alg' must be one of",
    ),
    (
        "The public key is no secret: not in HS256.",
        lambda: header(PEM, alg="HS256"),
        "'alg' must be one of",
    ),
    ("Nor in HS384.", lambda: header(PEM, alg="HS384"), "'alg' must be one of"),
    ("Nor in HS512.", lambda: header(PEM, alg="HS512"), "'alg' must be one of"),
    ("Nothing empty is a secret.", lambda: header(b"", alg="HS256"), "'alg' must be one of"),
    ("RS384 is not on the list.", lambda: header(alg="RS384"), "'alg' must be one of"),
    ("RS512 is not on the list.", lambda: header(alg="RS512"), "'alg' must be one of"),
    ("RS1 is not on the list.", lambda: header(alg="RS1"), "'alg' must be one of"),
    ("PS256 is not on the list.", lambda: header(alg="PS256"), "'alg' must be one of"),
    (
        "ES384 is not on the list.",
        lambda: header(P384, alg="ES384", kid="k-ES384"),
        "'alg' must be one of",
    ),
    (
        "ES256K is not on the list.",
        lambda: header(EC, alg="ES256K", kid="k-ES256"),
        "'alg' must be one of",
    ),
    (
        "A way to encrypt is no signature.",
        lambda: header(alg="RSA-OAEP", enc="A256GCM"),
        "'alg' must be one of",
    ),
    (
        "A key for RS256 checks no ES256.",
        lambda: header(EC, alg="ES256", kid="k-RS256"),
        NOT_PUBLISHED,
    ),
    (
        "A key for ES256 checks no RS256.",
        lambda: header(alg="RS256", kid="k-ES256"),
        NOT_PUBLISHED,
    ),
    (
        "A key for EdDSA checks no ES256.",
        lambda: header(EC, alg="ES256", kid="k-EdDSA"),
        NOT_PUBLISHED,
    ),
    (
        "A key for RS256 checks no EdDSA.",
        lambda: header(ED, alg="EdDSA", kid="k-RS256"),
        NOT_PUBLISHED,
    ),
    (
        "A key on another curve checks no ES256.",
        lambda: header(P384, alg="ES256", kid="k-P384"),
        NOT_PUBLISHED,
    ),
    ("A key for encryption checks nothing.", lambda: header(kid="k-enc"), NOT_PUBLISHED),
    ("A key for another algorithm checks nothing.", lambda: header(kid="k-RS512"), NOT_PUBLISHED),
    ("A secret that is published checks nothing.", lambda: header(kid="k-oct"), NOT_PUBLISHED),
    ("No critical extension is known.", lambda: header(crit=["exp"], exp=1), "'crit'"),
    ("An empty list of them is none either.", lambda: header(crit=[]), "'crit'"),
    ("b64 is no extension that is known.", lambda: header(crit=["b64"], b64=False), "'crit'"),
    ("b64 alone is not taken either.", lambda: header(b64=False), "'b64'"),
    ("Not even where it changes nothing.", lambda: header(b64=True), "'b64'"),
    (
        "The token does not say where keys are.",
        lambda: header(jku="https://evil.example/k"),
        "'jku'",
    ),
    ("Not even at its issuer.", lambda: header(jku=f"{ISSUER}/keys"), "'jku'"),
    ("Nor where a certificate is.", lambda: header(x5u="https://evil.example/c"), "'x5u'"),
    ("The token does not bring its certificate.", lambda: header(x5c=["AAAA"]), "'x5c'"),
    (
        "The token does not bring its key.",
        lambda: header(OTHER_RSA, jwk=public_jwk(OTHER_RSA, "k-RS256")),
        "'jwk'",
    ),
    ("A token inside a token is not opened.", lambda: header(cty="JWT"), "'cty'"),
    ("A token is not unpacked.", lambda: header(zip="DEF"), "'zip'"),
    ("A signed token is not encrypted.", lambda: header(enc="A256GCM"), "'enc'"),
    ("A token for logging out is no key.", lambda: header(typ="logout+jwt"), "'typ'"),
    ("A proof of possession is no key.", lambda: header(typ="dpop+jwt"), "'typ'"),
    ("A security event is no key.", lambda: header(typ="secevent+jwt"), "'typ'"),
    ("An encrypted token's type is not ours.", lambda: header(typ="JWE"), "'typ'"),
    ("A type is not empty.", lambda: header(typ=""), "'typ'"),
    ("A type is not null.", lambda: header(typ=None), "'typ'"),
    ("A type is one text.", lambda: header(typ=["JWT"]), "'typ'"),
    ("A key's id is a text.", lambda: header(kid=7), "'kid'"),
    ("A key's id is not null.", lambda: header(kid=None), "'kid'"),
    ("A key's id is not empty.", lambda: header(kid=""), "'kid'"),
    ("A key's id is not a list.", lambda: header(kid=["k-RS256"]), "'kid'"),
    ("A key's id is no path.", lambda: header(kid="../../../../dev/null"), NOT_PUBLISHED),
    ("A key's id is no query.", lambda: header(kid="' UNION SELECT 'k"), NOT_PUBLISHED),
    ("A key's id is no address.", lambda: header(kid="https://evil.example/k"), NOT_PUBLISHED),
    ("A key's id is taken letter by letter.", lambda: header(kid="K-rs256"), NOT_PUBLISHED),
    ("Without id and with several keys, none is tried.", lambda: header(kid=GONE), NOT_PUBLISHED),
    ("A header is an object.", lambda: raw_header(b'["RS256"]'), OBJECT),
    ("A header is not null.", lambda: raw_header(b"null"), OBJECT),
    ("A header is JSON.", lambda: raw_header(b"alg=RS256"), OBJECT),
    (
        "Of two algorithms neither is believed.",
        lambda: raw_header(b'{"alg":"none","alg":"RS256","kid":"k-RS256"}'),
        "nothing twice",
    ),
    (
        "Of two keys neither is believed.",
        lambda: raw_header(b'{"alg":"RS256","kid":"k-x","kid":"k-RS256"}'),
        "nothing twice",
    ),
    (
        "A name that is escaped is the same name.",
        lambda: raw_header(rb'{"alg":"RS256","kid":"k-RS256","\u006bid":"k-x"}'),
        "nothing twice",
    ),
    ("A header is not opened for ever.", lambda: raw_header(b'{"a":' * 900), OBJECT),
]

CLAIMS: list[tuple[str, Callable[[], bytes], str]] = [
    ("Claims are an object.", lambda: raw_claims(b"[]"), OBJECT),
    ("Claims are not a text.", lambda: raw_claims(b'"sub"'), OBJECT),
    ("Claims are JSON, whole.", lambda: raw_claims(orjson.dumps(make_claims())[:-1]), OBJECT),
    (
        "Claims are JSON, and nothing more.",
        lambda: raw_claims(orjson.dumps(make_claims()) + b"{}"),
        OBJECT,
    ),
    ("Claims are UTF-8.", lambda: claims_and(b',"x":"\xff"'), OBJECT),
    ("Half a character is none.", lambda: claims_and(rb',"x":"\ud800"'), OBJECT),
    (
        "A byte order mark is no JSON.",
        lambda: raw_claims(b"\xef\xbb\xbf" + orjson.dumps(make_claims())),
        OBJECT,
    ),
    (
        "UTF-16 is not UTF-8.",
        lambda: raw_claims(orjson.dumps(make_claims()).decode().encode("utf-16")),
        OBJECT,
    ),
    ("NaN is no JSON.", lambda: claims_and(b',"x":NaN'), OBJECT),
    ("Infinity is no JSON.", lambda: claims_and(b',"x":Infinity'), OBJECT),
    ("A number that is too great is none.", lambda: claims_and(b',"x":1e999'), OBJECT),
    ("Claims are not opened for ever.", lambda: claims_and(b',"x":' + b"[" * 5000), OBJECT),
    (
        "Of two subjects neither is believed.",
        lambda: claims_and(b',"sub":"admin"'),
        "nothing twice",
    ),
    (
        "Of two issuers neither.",
        lambda: claims_and(b',"iss":"https://issuer.example"'),
        "nothing twice",
    ),
    (
        "Of two audiences neither.",
        lambda: claims_and(b',"aud":"https://x.example"'),
        "nothing twice",
    ),
    ("Of two ends neither.", lambda: claims_and(b',"exp":99999999999'), "nothing twice"),
    (
        "A double deep inside is one too.",
        lambda: claims_and(b',"act":{"sub":1,"sub":2}'),
        "nothing twice",
    ),
    ("An issuer must be named.", lambda: claims(iss=GONE), "'iss'"),
    ("An issuer is not null.", lambda: claims(iss=None), "'iss'"),
    ("An issuer is one text.", lambda: claims(iss=[ISSUER]), "'iss'"),
    ("Another issuer is not trusted.", lambda: claims(iss="https://evil.example"), "'iss'"),
    ("A part of the issuer is not the issuer.", lambda: claims(iss=ISSUER[:-1]), "'iss'"),
    ("The issuer with a slash is another.", lambda: claims(iss=ISSUER + "/"), "'iss'"),
    ("The issuer with a path is another.", lambda: claims(iss=ISSUER + "/team"), "'iss'"),
    ("The issuer with a suffix is another.", lambda: claims(iss=ISSUER + ".evil.example"), "'iss'"),
    ("The issuer in capitals is another.", lambda: claims(iss=ISSUER.upper()), "'iss'"),
    ("The issuer with a port is another.", lambda: claims(iss=ISSUER + ":443"), "'iss'"),
    (
        "The issuer over plain http is another.",
        lambda: claims(iss="http://issuer.example"),
        "'iss'",
    ),
    ("An audience must be named.", lambda: claims(aud=GONE), "'aud'"),
    ("An audience is not null.", lambda: claims(aud=None), "'aud'"),
    ("An audience is not empty.", lambda: claims(aud=""), "'aud'"),
    ("No audience is none.", lambda: claims(aud=[]), "'aud'"),
    ("Another audience is not ours.", lambda: claims(aud="https://other.example"), "'aud'"),
    ("A part of the audience is not ours.", lambda: claims(aud=AUDIENCE[:-1]), "'aud'"),
    ("The audience with a suffix is not ours.", lambda: claims(aud=AUDIENCE + "/v1"), "'aud'"),
    ("The audience in capitals is not ours.", lambda: claims(aud=AUDIENCE.upper()), "'aud'"),
    (
        "With another audience beside, the other could use the token here.",
        lambda: claims(aud=[AUDIENCE, "https://other.example"]),
        "'aud'",
    ),
    ("Twice the same audience is two.", lambda: claims(aud=[AUDIENCE, AUDIENCE]), "'aud'"),
    ("An audience inside a list inside a list is none.", lambda: claims(aud=[[AUDIENCE]]), "'aud'"),
    ("An audience is no table.", lambda: claims(aud={"aud": AUDIENCE}), "'aud'"),
    ("An end must be named.", lambda: claims(exp=GONE), "'exp'"),
    ("An end is not null.", lambda: claims(exp=None), "'exp'"),
    ("An end is a number.", lambda: claims(exp=str(NOW + 600)), "'exp'"),
    ("An end is not true.", lambda: claims(exp=True), "'exp'"),
    ("An end is not in a list.", lambda: claims(exp=[NOW + 600]), "'exp'"),
    ("An end is not before 1970.", lambda: claims(exp=-1), "'exp'"),
    ("An end beyond all years is none.", lambda: claims(exp=2**60), "'exp'"),
    ("A beginning is a number.", lambda: claims(nbf="0"), "'nbf'"),
    ("A beginning is not null.", lambda: claims(nbf=None), "'nbf'"),
    ("A beginning is not false.", lambda: claims(nbf=False), "'nbf'"),
    ("A beginning lies at most a minute ahead.", lambda: claims(nbf=NOW + 61), "'nbf'"),
    ("A date of issue is a number.", lambda: claims(iat="now"), "'iat'"),
    ("A date of issue lies at most a minute ahead.", lambda: claims(iat=NOW + 61), "'iat'"),
    ("A subject must be named.", lambda: claims(sub=GONE), "'sub'"),
    ("A subject is not null.", lambda: claims(sub=None), "'sub'"),
    ("A subject is not empty.", lambda: claims(sub=""), "'sub'"),
    ("A subject is a text.", lambda: claims(sub=7), "'sub'"),
    (
        "A token bound to a key is worth nothing without it.",
        lambda: claims(cnf={"jkt": "x"}),
        "'cnf'",
    ),
    ("A claim that is asked for must be there.", lambda: claims(owner=GONE), "none that this"),
    ("It must have the value that is asked for.", lambda: claims(owner="evil"), "none that this"),
    ("Letter by letter.", lambda: claims(owner="Acme"), "none that this"),
    ("And nothing more.", lambda: claims(owner="acme "), "none that this"),
    ("It must have the type that is asked for.", lambda: claims(owner=["acme"]), "none that this"),
    ("Null is not it.", lambda: claims(owner=None), "none that this"),
]

SIGNATURES: list[tuple[str, Callable[[], bytes], str]] = [
    ("Another's key signs nothing here.", lambda: make_token(key=OTHER_RSA), SIGNATURE),
    ("Claims go with their own signature.", swapped_claims, SIGNATURE),
    ("A signature that is cut is none.", lambda: with_part(2, lambda p: p[:-4]), SIGNATURE),
    (
        "A signature with more behind is none.",
        lambda: with_part(2, lambda p: p + b"AAAA"),
        SIGNATURE,
    ),
    (
        "Nothing but zeros is no RSA signature.",
        lambda: with_part(2, lambda _: b"A" * 342),
        SIGNATURE,
    ),
    (
        "A changed header needs a new signature.",
        lambda: with_part(0, lambda _: base64url(orjson.dumps(make_header(typ="jwt")))),
        SIGNATURE,
    ),
    ("RS256 is not signed as PS256 is.", pss_signature, SIGNATURE),
    ("RS256 is not signed over SHA-1.", sha1_signature, SIGNATURE),
    ("ES256 is not signed as X.509 does.", der_signature, SIGNATURE),
    ("Two zeros are no ES256 signature.", lambda: es256(lambda _: bytes(64)), SIGNATURE),
    ("Half a signature is none.", lambda: es256(lambda s: s[:32]), SIGNATURE),
    ("One byte more is one too many.", lambda: es256(lambda s: s + b"\0"), SIGNATURE),
    ("r and s do not change places.", lambda: es256(lambda s: s[32:] + s[:32]), SIGNATURE),
    (
        "A signature of P-384 is none of P-256.",
        lambda: header(P384, alg="ES256", kid="k-ES256"),
        SIGNATURE,
    ),
    (
        "A signature of RSA is none of Ed25519.",
        lambda: header(RSA, alg="EdDSA", kid="k-EdDSA"),
        SIGNATURE,
    ),
    (
        "The public key as a secret signs nothing under RS256.",
        lambda: header(PEM),
        SIGNATURE,
    ),
]

TABLE = [*FORMS, *HEADERS, *CLAIMS, *SIGNATURES]


def issuer() -> FakeIssuer:
    """One that publishes a sound key of each type, and keys that are for something else."""
    found = FakeIssuer()
    found.keys = key_set(
        *(public_jwk(key, f"k-{name}") for name, key in KEYS.items()),
        public_jwk(P384, "k-P384"),
        public_jwk(RSA, "k-enc", use="enc"),
        public_jwk(RSA, "k-RS512", alg="RS512"),
        public_jwk(OTHER_RSA, "k-other"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k-oct"},
    )
    return found


def words(error: EmbedError) -> Iterator[str]:
    """All texts that a caller could see."""
    yield from (error.message, error.param or "", repr(error))


@pytest.mark.parametrize(
    ("make", "told"), [case[1:] for case in TABLE], ids=[case[0] for case in TABLE]
)
async def test_refusals(make: Callable[[], bytes], told: str) -> None:
    """A token with one thing wrong is refused with 401 for just that, in words that repeat nothing
    of it, after at most one look at the issuer's keys, and at no other place."""
    asked = issuer()
    token = make()
    with pytest.raises(InvalidKey) as caught:
        await TokenVerifier(settings(), asked, FakeClock()).grant(token)
    assert told in caught.value.message
    assert caught.value.status == 401
    secrets = [part.decode("latin-1") for part in token.split(b".") if len(part) > 12]
    secrets += [SUBJECT, "evil", "dev/null", "UNION"]
    assert not any(secret in text for secret in secrets for text in words(caught.value))
    assert asked.key_requests <= 1
    assert {request.url for request in asked.asked} <= {f"{ISSUER}/keys"}


def test_the_table_is_long_and_says_each_thing_once() -> None:
    """There are at least ninety refusals, and no two have the same sentence or the same token."""
    assert len(TABLE) >= 90
    assert len({law for law, _, _ in TABLE}) == len(TABLE)
    assert all(law.endswith(".") for law, _, _ in TABLE)


@pytest.mark.parametrize("ends", [NOW, NOW - 1, NOW - 0.5, 0, 1])
async def test_expired(ends: float) -> None:
    """A token that has ended is refused as expired, without leeway, once its signature is sound."""
    verifier = TokenVerifier(settings(), issuer(), FakeClock())
    with pytest.raises(ExpiredKey, match="expired"):
        await verifier.grant(claims(exp=ends))
    with pytest.raises(InvalidKey, match="signature"):
        await verifier.grant(make_token(make_claims(exp=ends), key=OTHER_RSA))


async def test_a_refused_token_stays_refused() -> None:
    """Neither a sound token before it nor a second try lets a refused one in."""
    verifier = TokenVerifier(settings(), issuer(), FakeClock())
    await verifier.grant(make_token())
    for _, make, _ in TABLE[::7]:
        token = make()
        for _ in range(2):
            with pytest.raises(InvalidKey):
                await verifier.grant(token)
