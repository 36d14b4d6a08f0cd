"""The terms of keys: those of a new one are checked here, where no type can.

Raises InvalidRequest naming the field: a slip would make a key that is good for nothing, or for
more than was meant.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from embedway.budgets import PERIODS, Period
from embedway.errors import InvalidRequest, ModelNotFound
from embedway.gateway import Gateway
from embedway.grants import Terms, grant_of
from embedway.money import parse_usd
from embedway.networks import network_of
from embedway.server.management_key_schemas import (
    BudgetAmounts,
    NewKeyBody,
    Permission,
    RateLimits,
)
from embedway.spaces import is_possible_space
from embedway.store.keys import DEFAULT_PROJECT, Key, KeyType, is_project
from embedway.types import Rates

_TYPES: dict[str, KeyType] = {
    "prod": "prod",
    "production": "prod",
    "dev": "dev",
    "development": "dev",
    "admin": "admin",
}


class Known(Struct, frozen=True):
    """What a key may name."""

    gateway: Gateway
    accounts: frozenset[str]
    now_ms: int


def permissions_of(type: KeyType) -> tuple[Permission, ...]:
    """What a key of that type may do."""
    return ("embeddings", "management") if type == "admin" else ("embeddings",)


def read_terms(body: NewKeyBody, known: Known) -> Terms:
    """The terms that the body asks for."""
    _check_name(body.name)
    kind = _TYPES[body.type or "prod"]
    if body.permissions is not None and set(body.permissions) != set(permissions_of(kind)):
        raise InvalidRequest(
            f"permissions: a {kind} key has {' and '.join(permissions_of(kind))}; leave the field "
            "out, or choose another type.",
            param="permissions",
        )
    rates = body.rate_limits or RateLimits()
    return Terms(
        type=kind,
        project=read_project(body.project or DEFAULT_PROJECT),
        models=_models(body.allowed_models, known.gateway),
        providers=_providers(body.allowed_providers, known.accounts),
        ips=_networks(body.allowed_ips),
        expires_ms=_expiry(body, known.now_ms),
        allows_fallbacks=body.allow_fallbacks is not False,
        space=_space(body.space, known.gateway),
        rates=Rates(
            requests_per_minute=rates.rpm,
            tokens_per_minute=rates.tpm,
            concurrency=rates.concurrency,
        ),
        budgets=_budgets(body.budgets or BudgetAmounts()),
    )


def terms_of(key: Key, budgets: Mapping[Period, int]) -> Terms:
    """What a key was given."""
    return Terms(
        type=key.type,
        project=key.project,
        models=key.models,
        providers=key.providers,
        ips=key.ips,
        expires_ms=key.expires_ms,
        allows_fallbacks=key.allows_fallbacks,
        space=key.space,
        rates=grant_of(key).rates,
        budgets=budgets,
    )


def read_amount(text: str, param: str) -> int:
    """Picodollars."""
    try:
        return parse_usd(text)
    except ValueError as error:
        raise InvalidRequest(f"{param} is wrong: {error}.", param=param) from None


def read_project(name: str) -> str:
    """The name of a project, if it can be one."""
    if not is_project(name):
        raise InvalidRequest(
            "project: the name of a project has 1 to 64 of A-Z a-z 0-9 _ . -", param="project"
        )
    return name


def _check_name(name: str) -> None:
    """Raise InvalidRequest for a name that cannot be read in a list."""
    if not name.strip() or not name.isprintable():
        raise InvalidRequest(
            "name: a key's name has 1 to 100 printable characters, not spaces alone.", param="name"
        )


def _models(names: tuple[str, ...] | None, gateway: Gateway) -> tuple[str, ...] | None:
    for position, name in enumerate(names or ()):
        try:
            gateway.directory.look_up(name)
        except ModelNotFound as error:
            param = f"allowed_models[{position}]"
            raise InvalidRequest(f"{param}: {error.message}", param=param) from None
    return _once(names)


def _providers(names: tuple[str, ...] | None, accounts: frozenset[str]) -> tuple[str, ...] | None:
    for position, name in enumerate(names or ()):
        if name not in accounts:
            param = f"allowed_providers[{position}]"
            raise InvalidRequest(
                f"{param}: there is no account {name[:100]!r}; "
                f"there are {', '.join(sorted(accounts)) or 'none'}.",
                param=param,
            )
    return _once(names)


def _networks(texts: tuple[str, ...] | None) -> tuple[str, ...] | None:
    for position, text in enumerate(texts or ()):
        try:
            network_of(text)
        except ValueError as error:
            param = f"allowed_ips[{position}]"
            raise InvalidRequest(f"{param}: {error}.", param=param) from None
    return _once(texts)


def _once(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(dict.fromkeys(names))


def _expiry(body: NewKeyBody, now_ms: int) -> int | None:
    if body.expires_at is None:
        return None
    expires_ms = int(body.expires_at.timestamp() * 1000)
    if expires_ms <= now_ms:
        raise InvalidRequest("expires_at must be in the future.", param="expires_at")
    return expires_ms


def _space(text: str | None, gateway: Gateway) -> str | None:
    if text is not None and not is_possible_space(gateway.directory.catalog.models, text):
        raise InvalidRequest(
            f"space: no model here gives vectors in {text[:100]!r}; a space is a model and its "
            "dimensions, such as openai/text-embedding-3-small@1536.",
            param="space",
        )
    return text


def _budgets(amounts: BudgetAmounts) -> dict[Period, int]:
    return {
        period: read_amount(text, f"budgets.{period}")
        for period in PERIODS
        if (text := getattr(amounts, period)) is not None
    }
