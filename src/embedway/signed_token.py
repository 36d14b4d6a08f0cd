"""The form of a token that another issuer signed: three parts, read strictly, not yet believed.

RFC 7515 and RFC 7519, as narrow as RFC 8725 advises: whatever would let the header choose a key, a
place of keys or another way of reading is refused, and so is a name that stands twice, since two
readers may believe two different values.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from embedway.errors import InvalidKey

MAX_BYTES = 8192
ALGORITHMS = ("RS256", "ES256", "EdDSA")
"""Signatures whose keys can be published. HS256's cannot: whoever checks could also sign."""
_TYPES = ("jwt", "at+jwt", "application/at+jwt")
"""Lower-case. `at+jwt` is RFC 9068's access token; others (`logout+jwt`, `dpop+jwt`) say something
else than who is calling."""
_REFUSED = ("crit", "jku", "jwk", "x5u", "x5c", "b64", "zip", "enc", "cty")
_PARTS = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")


class SignedToken(Struct, frozen=True):
    """What a token says. Nobody has checked its signature."""

    algorithm: str
    key_id: str | None
    claims: Mapping[str, Any]


def is_signed_token(credential: bytes) -> bool:
    """Whether a bearer credential is to be read as a token: our own keys have no dot."""
    return b"." in credential


def read_token(token: bytes) -> SignedToken:
    """Take a token apart. Raises InvalidKey, in words that repeat nothing of it."""
    if len(token) > MAX_BYTES:
        raise InvalidKey(f"The token is longer than {MAX_BYTES} bytes; send one with fewer claims.")
    parts = _PARTS.fullmatch(token)
    if parts is None:
        raise InvalidKey(
            "The token is not of three base64url parts with dots between; send it whole."
        )
    header = _read_object(parts[1], "header")
    _check_header(header)
    return SignedToken(header["alg"], header.get("kid"), _read_object(parts[2], "claims"))


def _check_header(header: Mapping[str, Any]) -> None:
    if header.get("alg") not in ALGORITHMS:
        raise InvalidKey(f"The token's 'alg' must be one of {', '.join(ALGORITHMS)}.")
    for name in _REFUSED:
        if name in header:
            raise InvalidKey(f"The token's header has {name!r}, which is not accepted here.")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise InvalidKey("The token's 'typ' must be JWT or at+jwt; send an identity token.")
    key_id = header.get("kid", "-")
    if not isinstance(key_id, str) or not key_id:
        raise InvalidKey("The token's 'kid' must be a text that names a key of its issuer.")


def _read_object(part: bytes, name: str) -> dict[str, Any]:
    """The JSON object in a part. Raises InvalidKey."""
    try:
        text = _unpadded(part)
        msgspec.json.decode(text)  # UTF-8, no NaN, no half characters, numbers of 64 bits
        value = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidKey(
            f"The token's {name} must be a JSON object in base64url that names nothing twice."
        )
    return value


def _unpadded(part: bytes) -> bytes:
    """The bytes that base64url without padding stands for. Raises ValueError if it is not their
    one spelling: the last character may have bits that stand for nothing."""
    decoded = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part:
        raise ValueError("not the one spelling of its bytes")
    return decoded


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found
