"""An issuer of tokens for tests: real keys, tokens signed by hand, and its two documents as a Send.

Nothing here uses the library that the gateway checks with.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from embedway.provider import HttpRequest, HttpResponse
from embedway.settings import OidcSettings, Settings

ISSUER = "https://issuer.example"
JWKS_URL = f"{ISSUER}/keys"
AUDIENCE = "https://embeddings.example"
SUBJECT = "owner:acme:project:search:environment:production"
GONE = object()
"""In place of a value: the name is left out."""

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
KEYS: dict[str, Any] = {"RS256": RSA, "ES256": EC, "EdDSA": ED}


def base64url(data: bytes) -> bytes:
    """Without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _number(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode()


def public_jwk(key: Any, key_id: str | None, **more: Any) -> dict[str, Any]:
    """The key as the issuer publishes it; *more* may change any of it."""
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = public.public_numbers()
        fields = {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.key_size + 7) // 8
        point = public.public_numbers()
        x, y = (base64url(value.to_bytes(size, "big")).decode() for value in (point.x, point.y))
        fields = {"kty": "EC", "crv": f"P-{key.key_size}", "x": x, "y": y}
    else:
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        fields = {"kty": "OKP", "crv": "Ed25519", "x": base64url(raw).decode()}
    return {**fields, **({} if key_id is None else {"kid": key_id}), **more}


def make_signature(key: Any, signed: bytes) -> bytes:
    """As RFC 7518 says for the type of the key; bytes are a secret for HS256."""
    if isinstance(key, bytes):
        return hmac.digest(key, signed, hashlib.sha256)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    signature: bytes = key.sign(signed)
    return signature


def sign(header: bytes, claims: bytes, key: Any = RSA) -> bytes:
    """The token of two JSON texts."""
    signed = base64url(header) + b"." + base64url(claims)
    return signed + b"." + base64url(make_signature(key, signed))


def make_claims(**changes: Any) -> dict[str, Any]:
    """The claims of a sound token at FakeClock's start; GONE leaves one out."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": SUBJECT,
        "exp": 1_800_000_600,
        "nbf": 1_800_000_000,
        "iat": 1_800_000_000,
        "jti": "t-1",
        "owner": "acme",
        "project_id": "prj_1",
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not GONE}


def make_header(algorithm: str = "RS256", **changes: Any) -> dict[str, Any]:
    """The header of a sound token."""
    header = {"alg": algorithm, "kid": f"k-{algorithm}", "typ": "JWT", **changes}
    return {name: value for name, value in header.items() if value is not GONE}


def make_token(
    claims: Mapping[str, Any] | None = None,
    header: Mapping[str, Any] | None = None,
    key: Any = RSA,
) -> bytes:
    """A token, sound but for what is given."""
    head = make_header() if header is None else header
    return sign(orjson.dumps(head), orjson.dumps(claims or make_claims()), key)


def key_set(*keys: dict[str, Any]) -> bytes:
    """What the issuer publishes; by default one key of each type."""
    chosen = keys or tuple(public_jwk(key, f"k-{name}") for name, key in KEYS.items())
    return orjson.dumps({"keys": chosen})


def discovery(**changes: Any) -> bytes:
    """The issuer's discovery document."""
    return orjson.dumps({"issuer": ISSUER, "jwks_uri": JWKS_URL, **changes})


class FakeIssuer:
    """Answers for its two documents, and remembers what it was asked. Set `keys` or `document` to
    a body, an answer, or an error to raise."""

    def __init__(self) -> None:
        self.keys: bytes | HttpResponse | Exception = key_set()
        self.document: bytes | HttpResponse | Exception = discovery()
        self.asked: list[HttpRequest] = []
        self.limits: list[tuple[float, int]] = []

    async def __call__(
        self, request: HttpRequest, /, *, timeout_s: float, max_bytes: int
    ) -> HttpResponse:
        """The document, or the keys for any other path."""
        self.asked.append(request)
        self.limits.append((timeout_s, max_bytes))
        is_document = request.url.endswith("/.well-known/openid-configuration")
        answer = self.document if is_document else self.keys
        if isinstance(answer, Exception):
            raise answer
        return HttpResponse(200, {}, answer) if isinstance(answer, bytes) else answer

    @property
    def key_requests(self) -> int:
        """How often the keys were asked for."""
        return sum("well-known" not in request.url for request in self.asked)


def entry(**changes: Any) -> OidcSettings:
    """An entry that the sound token meets."""
    fields = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks_url": JWKS_URL,
        "claims": {"owner": "acme"},
        **changes,
    }
    return OidcSettings(**fields)


def settings(*entries: OidcSettings) -> Settings:
    """Settings with these entries, or with the one above."""
    return Settings(home="unused", oidc=entries or (entry(),))
