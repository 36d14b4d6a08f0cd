"""What `[[oidc]]` says: whose tokens come in, with which claims, and what their callers may do.

Raises SettingsError, naming the entry (`oidc[1]` is the first in the file), wherever it makes no
sense.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from embedway.addresses import is_public
from embedway.budgets import Period
from embedway.errors import InvalidKey
from embedway.jwks import Issuer
from embedway.money import parse_usd
from embedway.settings import OidcSettings
from embedway.store.keys import is_project
from embedway.types import Grant, Rates
from embedway.wrong_settings import SettingsError

_CLAIM = "claim:"
_NAME_LENGTH = 64


class Rule(Struct, frozen=True, kw_only=True):
    """One entry: who is meant, and what he may do."""

    issuer: Issuer
    said: OidcSettings
    budgets: Mapping[Period, int]
    """What one subject may spend, in picodollars."""

    def is_met(self, claims: Mapping[str, Any]) -> bool:
        """Whether the claims say what the entry asks for."""
        return _says(claims, self.said.claims)

    def grant(self, subject: str, claims: Mapping[str, Any], ends: float) -> Grant:
        """What the caller may do; never an admin. Raises InvalidKey if a claim names no project.

        ends: when the token does, in seconds since 1970.
        """
        said = self.said
        return Grant(
            key_id=key_id_of(self.issuer.url, subject),
            name=_shortened(subject),
            models=said.models,
            project=self._project(claims),
            allows_fallbacks=said.allows_fallbacks,
            space=said.space,
            providers=said.providers,
            rates=Rates(
                requests_per_minute=said.requests_per_minute,
                tokens_per_minute=said.tokens_per_minute,
                concurrency=said.concurrency,
            ),
            expires_ms=int(ends * 1000),
        )

    def _project(self, claims: Mapping[str, Any]) -> str:
        project = self.said.project
        if not project.startswith(_CLAIM):
            return project
        name = project.removeprefix(_CLAIM)
        found = claims.get(name)
        if not isinstance(found, str) or not is_project(found):
            raise InvalidKey(
                f"The token's claim {name!r} must name a project: 1 to 64 of A-Z a-z 0-9 _ . -"
            )
        return found


def key_id_of(issuer: str, subject: str) -> str:
    """The id in the books of one subject of one issuer: always the same, and it tells neither."""
    digest = hashlib.blake2b(f"{issuer}\0{subject}".encode(), digest_size=12)
    return f"oidc:{digest.hexdigest()}"


def read_rules(entries: tuple[OidcSettings, ...]) -> tuple[Rule, ...]:
    """The entries, checked, in their order. Raises SettingsError."""
    rules: list[Rule] = []
    issuers: dict[str, Issuer] = {}
    for number, entry in enumerate(entries, 1):
        place = f"oidc[{number}]"
        _check_entry(entry, place)
        issuer = Issuer(url=entry.issuer, jwks_url=entry.jwks_url, is_private=entry.private)
        if issuers.setdefault(issuer.url, issuer) != issuer:
            raise SettingsError(
                f"{place}: jwks_url and private must be the same in all entries of one issuer"
            )
        rules.append(Rule(issuer=issuer, said=entry, budgets=_budgets(entry, place)))
    return tuple(rules)


def _check_entry(entry: OidcSettings, place: str) -> None:
    _check_url(entry.issuer, f"{place}.issuer", is_private=entry.private)
    if entry.jwks_url is not None:
        _check_url(entry.jwks_url, f"{place}.jwks_url", is_private=entry.private)
    if not entry.audience:
        raise SettingsError(f"{place}.audience must be set: what the token's 'aud' says")
    if not entry.claims:
        raise SettingsError(
            f"{place}.claims must ask for at least one claim, such as sub: many issuers give "
            "tokens to everybody"
        )
    _check_conditions(entry.claims, f"{place}.claims")
    project = entry.project
    if not (project.removeprefix(_CLAIM) if project.startswith(_CLAIM) else is_project(project)):
        raise SettingsError(
            f"{place}.project must be 1 to 64 of A-Z a-z 0-9 _ . - or like claim:project_id"
        )


def _check_url(url: str, place: str, *, is_private: bool) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    is_plain = url.isprintable() and " " not in url and not parts.query and not parts.fragment
    if parts.scheme not in ("https", "http") or not host or "@" in parts.netloc or not is_plain:
        raise SettingsError(f"{place} must be like https://host/path")
    if not is_private and (parts.scheme == "http" or _is_inside(host)):
        raise SettingsError(
            f"{place}: plain http and private addresses need private = true on the same entry"
        )


def _is_inside(host: str) -> bool:
    """Whether *host* is an address, and not one of the public internet."""
    try:
        return not is_public(host)
    except ValueError:
        return host == "localhost"


def _check_conditions(conditions: Mapping[str, Any], place: str) -> None:
    for name, wanted in conditions.items():
        if isinstance(wanted, dict) and wanted:
            _check_conditions(wanted, f"{place}.{name}")
        elif not isinstance(wanted, (str, int)):
            raise SettingsError(
                f"{place}.{name} must be a text, a whole number, true, false or a table of such"
            )


def _says(claims: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    """Whether all that is asked for is there, letter by letter and of the same type."""
    for name, wanted in conditions.items():
        found = claims.get(name)
        if type(found) is not type(wanted):
            return False
        if isinstance(wanted, dict) and isinstance(found, dict):
            if not _says(found, wanted):
                return False
        elif found != wanted:
            return False
    return True


def _budgets(entry: OidcSettings, place: str) -> dict[Period, int]:
    said: dict[Period, str | None] = {
        "day": entry.budget_day,
        "month": entry.budget_month,
        "total": entry.budget_total,
    }
    budgets: dict[Period, int] = {}
    for period, text in said.items():
        try:
            if text is not None:
                budgets[period] = parse_usd(text)
        except ValueError as error:
            raise SettingsError(f"{place}.budget_{period}: {error}") from None
    return budgets


def _shortened(subject: str) -> str:
    """The subject as people see it in logs and books: one short line."""
    line = "".join(char if char.isprintable() else "�" for char in subject)
    return line if len(line) <= _NAME_LENGTH else line[: _NAME_LENGTH - 1] + "…"
