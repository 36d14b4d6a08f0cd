"""What a key allows, and the law of those who make keys: nobody gives what he does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from msgspec import Struct

from embedway.budgets import Period
from embedway.errors import PermissionDenied
from embedway.money import usd_text
from embedway.networks import covers
from embedway.store.keys import DEFAULT_PROJECT, Key, KeyType
from embedway.types import NO_RATES, Grant, Rates


class Terms(Struct, frozen=True, kw_only=True):
    """What somebody wants a key to allow. None: without a limit."""

    type: KeyType = "prod"
    project: str = DEFAULT_PROJECT
    models: tuple[str, ...] | None = None
    providers: tuple[str, ...] | None = None
    ips: tuple[str, ...] | None = None
    expires_ms: int | None = None
    """Milliseconds since 1970."""
    allows_fallbacks: bool = True
    space: str | None = None
    rates: Rates = NO_RATES
    budgets: Mapping[Period, int] = {}
    """Picodollars."""


def grant_of(key: Key) -> Grant:
    """What a key allows to whoever sends it."""
    limits = (key.requests_per_minute, key.tokens_per_minute, key.concurrency)
    return Grant(
        key_id=key.id,
        name=key.name,
        is_admin=key.type == "admin",
        models=key.models,
        project=key.project,
        allows_fallbacks=key.allows_fallbacks,
        space=key.space,
        providers=key.providers,
        rates=NO_RATES
        if limits == (None, None, None)
        else Rates(
            requests_per_minute=limits[0], tokens_per_minute=limits[1], concurrency=limits[2]
        ),
        ips=key.ips,
        expires_ms=key.expires_ms,
    )


def within(grantor: Grant, wanted: Terms, *, budgets: Mapping[Period, int]) -> None:
    """Raise PermissionDenied, naming the field, if *wanted* exceeds what *grantor* has.

    budgets: the grantor's own, in picodollars. Models and providers are compared by the names they
    were given. Only admins make admins, and keys of other projects; in all else they are bound by
    their own terms like everybody.
    """
    if not grantor.is_admin:
        if wanted.type == "admin":
            _refuse("type", "only an admin key can make an admin key")
        if wanted.project != grantor.project:
            _refuse("project", f"it must be the grantor's own, {grantor.project!r}")
    _check_names("allowed_models", grantor.models, wanted.models)
    _check_names("allowed_providers", grantor.providers, wanted.providers)
    if grantor.ips is not None and (wanted.ips is None or not covers(grantor.ips, wanted.ips)):
        _refuse("allowed_ips", "each network must lie within the grantor's own")
    _check_most("expires_at", grantor.expires_ms, wanted.expires_ms, "before the grantor's own")
    if wanted.allows_fallbacks and not grantor.allows_fallbacks:
        _refuse("allow_fallbacks", "the grantor itself may not use fallbacks")
    if grantor.space is not None and not _is_in_space(wanted.space, grantor.space):
        _refuse("space", f"it must be the grantor's own, {grantor.space}")
    for field in Rates.__struct_fields__:
        most = getattr(grantor.rates, field)
        _check_most(f"rate_limits.{field}", most, getattr(wanted.rates, field), f"at most {most}")
    for period, amount in budgets.items():
        told = f"at most ${usd_text(amount)}"
        _check_most(f"budgets.{period}", amount, wanted.budgets.get(period), told)


def _check_names(field: str, own: tuple[str, ...] | None, wanted: tuple[str, ...] | None) -> None:
    if own is None:
        return
    if wanted is None:
        _refuse(field, f"name some of the grantor's own: {', '.join(own) or 'it has none'}")
    if more := [name for name in wanted if name not in own]:
        _refuse(field, f"the grantor itself may not use {', '.join(more)}")


def _check_most(field: str, most: int | None, wanted: int | None, told: str) -> None:
    if most is not None and (wanted is None or wanted > most):
        _refuse(field, f"it must be {told}")


def _is_in_space(wanted: str | None, own: str) -> bool:
    """Whether it is the same one, or the same for one input type alone."""
    return wanted is not None and own in (wanted, wanted.partition("+")[0])


def _refuse(field: str, reason: str) -> NoReturn:
    raise PermissionDenied(
        f"{field}: no key can be given more than its grantor has; {reason}.", param=field
    )
