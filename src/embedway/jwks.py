"""The keys that an issuer of tokens signs with: fetched from where it publishes them, and kept.

Only the issuer of the settings says where they are, never a token. Whoever sends tokens with keys
that do not exist makes us ask for new ones once in half a minute at most. While the issuer cannot
be asked, the keys it last had count for a day. This is the only import of PyJWT (the extra `oidc`).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Struct

from embedway.clock import Clock
from embedway.errors import InvalidKey, Overloaded
from embedway.provider import HttpRequest, Send, TransportError

if TYPE_CHECKING:
    from jwt import PyJWK

_FRESH_S = 600.0
"""How long keys count without asking again: a key that is withdrawn counts so long at most."""
_KEPT_S = 86_400.0
_PAUSE_S = 30.0
"""Between two questions to one issuer, whatever became of the first."""
_TIMEOUT_S = 5.0
_MAX_BYTES = 256 * 2**10
_MAX_KEYS = 100
_MIN_RSA_BITS = 2048
_MAX_RSA_BITS = 8192  # one signature of 16,384 bits takes some milliseconds to check
_ALGORITHM_OF = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
"""By type and curve of a key: it decides the algorithm, and no token does."""
_log = logging.getLogger("embedway.oidc")


class Issuer(Struct, frozen=True, kw_only=True):
    """Who signs tokens, and where its keys are."""

    url: str
    """What `iss` says."""
    jwks_url: str | None = None
    """None: the issuer's own discovery document says where."""
    is_private: bool = False
    """Whether the operator allows plain http and private addresses."""


class PublicKey(Struct, frozen=True, eq=False):
    """A key, with the one algorithm that it checks."""

    algorithm: str
    jwk: PyJWK


class _Discovery(Struct, frozen=True):
    issuer: str
    jwks_uri: str


class _KeySet(Struct, frozen=True):
    keys: list[dict[str, Any]]


class IssuerKeys:
    """The keys of one issuer. One question serves all who wait for its answer."""

    def __init__(self, issuer: Issuer, send: Send, clock: Clock) -> None:
        self._issuer = issuer
        self._send = send
        self._clock = clock
        self._url = issuer.jwks_url
        self._keys: dict[tuple[str | None, str], PublicKey] = {}
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None, algorithm: str) -> PublicKey:
        """The key of that id for that algorithm; without id, the only key for it.

        Raises InvalidKey if the issuer has none, Overloaded if its keys cannot be had.
        """
        if self._age() >= _FRESH_S:
            await self._refresh()
        key = self._pick(key_id, algorithm)
        if key is None:  # it may be newer than what we have
            await self._refresh()
            key = self._pick(key_id, algorithm)
        # A key that we do not know may be a new one while nobody can tell us: that is no refusal.
        is_unsure = key is None and self._read_at < self._asked_at
        if self._age() >= _KEPT_S or is_unsure:
            wait = self._asked_at + _PAUSE_S - self._clock.monotonic()
            raise Overloaded(
                "The keys of the token's issuer cannot be read; try again soon.",
                retry_after_s=max(1.0, wait),
            )
        if key is None:
            raise InvalidKey(
                "The token is signed with a key that its issuer does not publish for its 'alg'; "
                "fetch a new token."
            )
        return key

    def _age(self) -> float:
        return self._clock.monotonic() - self._read_at

    def _pick(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        if key_id is not None:
            return self._keys.get((key_id, algorithm))
        fitting = [key for (_, fits), key in self._keys.items() if fits == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self) -> None:
        """Ask the issuer, unless it was asked a moment ago."""
        if self._asking is None:
            if self._clock.monotonic() - self._asked_at < _PAUSE_S:
                return
            self._asked_at = self._clock.monotonic()
            self._asking = asyncio.create_task(self._ask())
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        try:
            if self._url is None:
                self._url = _pinned(self._issuer, await self._get(_discovery_url(self._issuer)))
            self._keys = read_keys(await self._get(self._url))
            self._read_at = self._clock.monotonic()
        except (TransportError, ValueError) as error:
            _log.warning("the keys of %s cannot be read: %s", self._issuer.url, error)
        finally:
            self._asking = None

    async def _get(self, url: str) -> bytes:
        """The body of a 200; the transport follows no redirects."""
        request = HttpRequest(
            "GET", url, {"accept": "application/json"}, b"", is_private=self._issuer.is_private
        )
        answer = await self._send(request, timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES)
        if answer.status != 200:
            raise ValueError(f"it answered HTTP {answer.status}")
        return answer.body


def read_keys(body: bytes) -> dict[tuple[str | None, str], PublicKey]:
    """The keys of a JSON Web Key Set that we can use, by id and algorithm; of two of one name the
    first. Others are left out: a set may hold keys for more than signatures.

    Raises ValueError, in our own words, if it is no such set.
    """
    try:
        entries = msgspec.json.decode(body, type=_KeySet).keys
    except (ValueError, RecursionError):
        raise ValueError("what it answered is no JSON Web Key Set") from None
    if len(entries) > _MAX_KEYS:
        raise ValueError(f"it publishes more than {_MAX_KEYS} keys")
    keys: dict[tuple[str | None, str], PublicKey] = {}
    for entry in entries:
        key_id = entry.get("kid")
        if (key_id is None or isinstance(key_id, str)) and (key := _read_key(entry)) is not None:
            keys.setdefault((key_id, key.algorithm), key)
    return keys


def _read_key(entry: dict[str, Any]) -> PublicKey | None:
    """The public key, if it is one for signatures that we check."""
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    kind = (entry.get("kty"), entry.get("crv"))
    algorithm = next((name for known, name in _ALGORITHM_OF.items() if kind == known), None)
    is_for_us = entry.get("use", "sig") == "sig" and entry.get("alg", algorithm) == algorithm
    operations = entry.get("key_ops", ["verify"])
    if algorithm is None or not is_for_us:
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if "d" in entry:
        _log.warning("an issuer publishes a private key; it is not used")
        return None
    try:
        jwk = PyJWK(entry, algorithm)
    except PyJWTError:
        return None
    if algorithm == "RS256" and not _MIN_RSA_BITS <= jwk.key.key_size <= _MAX_RSA_BITS:
        return None
    return PublicKey(algorithm, jwk)


def check_signature(token: bytes, key: PublicKey) -> None:
    """Raises InvalidKey unless *key* signed *token*, in the key's own algorithm."""
    from jwt import PyJWS
    from jwt.exceptions import PyJWTError

    try:
        PyJWS().decode_complete(token, key.jwk, algorithms=[key.algorithm])
    except PyJWTError:
        raise InvalidKey("The token's signature is not its issuer's; fetch a new token.") from None


def _discovery_url(issuer: Issuer) -> str:
    return issuer.url.rstrip("/") + "/.well-known/openid-configuration"


def _pinned(issuer: Issuer, body: bytes) -> str:
    """Where the discovery document says that the keys are. Raises ValueError if it is another's,
    or if it points to another server: that is for the operator to say."""
    try:
        found = msgspec.json.decode(body, type=_Discovery)
        is_same = origin_of(urlsplit(found.jwks_uri)) == origin_of(urlsplit(issuer.url))
    except (ValueError, RecursionError):
        raise ValueError("what it answered is no discovery document") from None
    if found.issuer != issuer.url:
        raise ValueError("its discovery document is of another issuer")
    if not is_same:
        raise ValueError("its keys are on another server; set jwks_url if that is right")
    return found.jwks_uri


def origin_of(url: SplitResult) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, the port also where it goes without saying. Raises ValueError."""
    usual = {"https": 443, "http": 80}.get(url.scheme)
    return url.scheme, url.hostname, url.port or usual
