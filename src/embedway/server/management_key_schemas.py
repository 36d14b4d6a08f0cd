"""What `/v1/management/api-keys` takes and answers, as types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from embedway.server.management_money_schemas import Amount, Moment, OwnerBudgets
from embedway.server.schemas import Body, Count

Permission = Literal["embeddings", "management"]
_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Names = Annotated[tuple[_Name, ...], Meta(min_length=1, max_length=100)]


_Small = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Large = Annotated[int, Meta(ge=1, le=2**53)]


class RateLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """How fast the key may ask."""

    rpm: Annotated[_Small | None, Meta(description="Requests a minute.")] = None
    tpm: Annotated[_Large | None, Meta(description="Tokens a minute.")] = None
    concurrency: Annotated[_Small | None, Meta(description="Requests at a time.")] = None


class BudgetAmounts(Struct, frozen=True, forbid_unknown_fields=True):
    """The most that the key may spend in each period, UTC."""

    day: Amount | None = None
    month: Amount | None = None
    total: Amount | None = None


class NewKeyBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The terms of a new key. A field that is null counts as absent."""

    name: Annotated[str, Meta(min_length=1, max_length=100, description="What the key is for.")]
    type: Annotated[
        Literal["prod", "dev", "admin", "production", "development"] | None,
        Meta(description="prod (default), dev, or admin, which may also manage the gateway."),
    ] = None
    permissions: Annotated[
        tuple[Permission, ...] | None,
        Meta(description="They follow from the type; others than those are refused."),
    ] = None
    allowed_models: Annotated[
        _Names | None, Meta(description="The only models, or aliases; default: all.")
    ] = None
    allowed_providers: Annotated[
        _Names | None, Meta(description="The only accounts that may serve it; default: all.")
    ] = None
    allowed_ips: Annotated[
        _Names | None,
        Meta(description="The only addresses or networks, such as 10.0.0.0/8; default: all."),
    ] = None
    rate_limits: RateLimits | None = None
    expires_at: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="When it stops working, RFC 3339; default: never."),
    ] = None
    project: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None,
        Meta(description="Whose the key is; default: default."),
    ] = None
    space: Annotated[
        Annotated[str, Meta(min_length=1, max_length=512)] | None,
        Meta(description="The only vector space, such as openai/text-embedding-3-small@1536."),
    ] = None
    allow_fallbacks: Annotated[
        bool | None, Meta(description="Whether requests may name other models; default: true.")
    ] = None
    budgets: BudgetAmounts | None = None


class RotateBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How a key gets another text."""

    overlap_seconds: Annotated[
        Annotated[int, Meta(ge=0, le=31 * 86_400)] | None,
        Meta(description="How long the old text works beside the new one; default: 86400."),
    ] = None


class KeyRates(Body, frozen=True):
    """Null: as fast as it likes."""

    rpm: Count | None
    tpm: Count | None
    concurrency: Count | None


class KeyRecord(Body, frozen=True):
    """One key, without its text. A list that is null allows all."""

    id: str
    object: Literal["api_key"]
    name: str
    prefix: str
    type: Literal["prod", "dev", "admin"]
    status: Literal["active", "expired", "revoked"]
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Annotated[Moment | None, Meta(description="To the minute.")]
    previous_key_expires_at: Annotated[
        Moment | None, Meta(description="How long the text before the last rotation works.")
    ]
    permissions: list[Permission]
    allowed_models: list[str] | None
    allowed_providers: list[str] | None
    allowed_ips: list[str] | None
    rate_limits: KeyRates
    project: str
    space: str | None
    allow_fallbacks: bool
    budgets: OwnerBudgets


class KeyList(Body, frozen=True):
    """Every key ever made, oldest first."""

    object: Literal["list"]
    data: list[KeyRecord]


class NewKey(KeyRecord, frozen=True):
    """A key with its text, which is told this once."""

    key: Annotated[str, Meta(description="Keep it now: only a hash of it is stored.")]
