"""Tokens of other issuers (OpenID Connect) in place of keys: checks them and says what they grant.

The order: its form, who says to have signed it, that issuer's key, the signature; only then what
the token says of time, audience and caller. Of a token that passed, its digest and what it grants
are kept until it ends, since to check it costs more than to answer from the cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from embedway.budgets import Period
from embedway.clock import Clock
from embedway.errors import ExpiredKey, InvalidKey
from embedway.jwks import IssuerKeys, PublicKey, check_signature
from embedway.oidc_rules import Rule, read_rules
from embedway.provider import Send
from embedway.settings import Settings
from embedway.signed_token import read_token
from embedway.types import Grant
from embedway.wrong_settings import SettingsError

_LEEWAY_S = 60.0
"""How far an issuer's clock may be ahead of ours. A token's end is taken as it is."""
_LATEST = 2.0**53
"""Times after that are no whole seconds any more as floats, and no times either."""

_MAX_KNOWN = 4096


class Admission(Struct, frozen=True):
    """What a token grants, and what its subject may spend in each period, in picodollars."""

    grant: Grant
    budgets: Mapping[Period, int]


class _Known(Struct, frozen=True):
    """A token that passed: whose it was, with which key, and until when."""

    issuer: str
    key_id: str | None
    key: PublicKey
    ends: float
    admission: Admission


class TokenVerifier:
    """Checks the tokens that the entries `[[oidc]]` let in.

    Raises SettingsError where an entry makes no sense or the extra `oidc` is not installed. No
    issuer is asked before its first token comes.
    """

    def __init__(self, settings: Settings, send: Send, clock: Clock) -> None:
        if settings.oidc:
            _require_pyjwt()
        self._clock = clock
        self._rules: dict[str, list[Rule]] = {}
        for rule in read_rules(settings.oidc):
            self._rules.setdefault(rule.issuer.url, []).append(rule)
        self._keys = {
            url: IssuerKeys(rules[0].issuer, send, clock) for url, rules in self._rules.items()
        }
        self._known: dict[bytes, _Known] = {}

    async def grant(self, token: bytes) -> Grant:
        """What *token* grants. Raises InvalidKey, ExpiredKey, or Overloaded while the keys of its
        issuer cannot be had."""
        return (await self.admit(token)).grant

    async def admit(self, token: bytes) -> Admission:
        """The same, with the budgets of its subject."""
        digest = hashlib.sha256(token).digest()
        if (known := self._known.get(digest)) is not None:
            # The keys are read anew now and then: a token does not outlive its key here.
            key = await self._keys[known.issuer].find(known.key_id, known.key.algorithm)
            if key is known.key and self._clock.now() < known.ends:
                return known.admission
            self._known.pop(digest, None)
        known = await self._check(token)
        if len(self._known) >= _MAX_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[digest] = known
        return known.admission

    async def _check(self, token: bytes) -> _Known:
        signed = read_token(token)
        claims = signed.claims
        issuer = claims.get("iss")
        if not isinstance(issuer, str) or issuer not in self._rules:
            raise InvalidKey("The token's issuer, 'iss', is none that this gateway trusts.")
        key = await self._keys[issuer].find(signed.key_id, signed.algorithm)
        check_signature(token, key)
        ends = _check_times(claims, self._clock.now())
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject:
            raise InvalidKey("The token must name its subject, 'sub'.")
        if "cnf" in claims:
            raise InvalidKey("The token is bound to a key of its holder ('cnf'); send one without.")
        rule = _choose(self._rules[issuer], claims)
        admission = Admission(rule.grant(subject, claims, ends), rule.budgets)
        return _Known(issuer, signed.key_id, key, ends, admission)


def _require_pyjwt() -> None:
    """PyJWT can be imported without cryptography, but then knows none of our algorithms."""
    for name in ("jwt", "cryptography"):
        if importlib.util.find_spec(name) is None:
            raise SettingsError("oidc needs a package more: pip install 'embedway[oidc]'")


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    """When the token ends."""
    if (ends := _time(claims, "exp")) is None:
        raise InvalidKey("The token must say when it ends, 'exp'.")
    if ends <= now:
        raise ExpiredKey("The token has expired ('exp'); fetch a new one.")
    for name in ("nbf", "iat"):
        starts = _time(claims, name)
        if starts is not None and starts > now + _LEEWAY_S:
            raise InvalidKey(f"The token is not valid yet ({name!r}); check the issuer's clock.")
    return ends


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """Seconds since 1970; None where the claim is missing."""
    if name not in claims:
        return None
    value = claims[name]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _LATEST:
        raise InvalidKey(f"The token's {name!r} must be a number of seconds since 1970.")
    return float(value)


def _choose(rules: list[Rule], claims: Mapping[str, Any]) -> Rule:
    """The first entry that the token meets."""
    audience = claims.get("aud")
    if isinstance(audience, list) and len(audience) == 1:
        (audience,) = audience
    # Of several audiences each could use the token in its caller's name.
    meant = [rule for rule in rules if rule.said.audience == audience]
    if not meant:
        raise InvalidKey("The token's 'aud' must be this gateway's audience, and no other beside.")
    for rule in meant:
        if rule.is_met(claims):
            return rule
    raise InvalidKey("The token is sound, but its claims are none that this gateway lets in.")
