"""What the two books hold: a line for each request of a caller, and one for each attempt at a
provider, which is written before it is made. And what is reserved of budgets meanwhile."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from embedway.budgets import Budget

AttemptState = Literal["reserved", "settled", "unbilled", "unknown"]
"""reserved: under way. settled: the provider said what it used. unbilled: it has billed nothing.
unknown: it may have billed; charged as reserved until somebody reconciles it."""


class UsageLine(Struct, frozen=True, gc=False, kw_only=True):
    """One request of a caller, whatever its end. Never holds a text or a vector."""

    id: str
    """The request's ULID."""
    created_ms: int
    """Milliseconds since 1970, UTC, when the request came."""
    key_id: str
    model: str
    """The model that served, or was asked for if none did: canonical, or "unknown"."""
    provider: str | None
    """The account that served, or that failed last."""
    inputs: int
    tokens: int
    cost: int
    """Picodollars billed."""
    market_cost: int
    """Picodollars at list price, as if nothing had been cached."""
    latency_ms: int
    status: int
    """The HTTP status the caller saw; 499 if he hung up."""
    code: str | None = None
    """The error's code."""
    user: str | None = None
    tags: tuple[str, ...] = ()
    trace: str | None = None
    app: str | None = None
    is_byok: bool = False
    """Whether the caller's own credential was used."""
    project: str = "default"
    """Whose the key is."""
    space: str | None = None
    """The space of the vectors; None if there are none."""
    saved: int = 0
    """Picodollars at list price of what was known and so not paid again."""


class AttemptBegun(Struct, frozen=True, gc=False, kw_only=True):
    """One request to a provider that is about to leave."""

    id: str
    """A ULID."""
    request_id: str
    """That of the caller's request; of several who share the attempt, of the first."""
    key_id: str
    project: str
    model: str
    """Canonical."""
    provider: str
    """The account."""
    inputs: int
    reserved_tokens: int
    """As many as it can be at most."""
    reserved_cost: int
    """Picodollars, likewise."""
    created_ms: int


class AttemptEnded(Struct, frozen=True, gc=False, kw_only=True):
    """What became of it."""

    id: str
    state: AttemptState
    tokens: int
    cost: int
    """Picodollars."""
    ended_ms: int
    status: int | None = None
    """The HTTP status that the provider answered with."""
    code: str | None = None
    """The error's code."""


class Reservation(Struct, frozen=True, kw_only=True):
    """What a request may cost at most, held back from every budget it falls under."""

    id: str
    """A ULID; a request that tries several models makes one for each."""
    budgets: tuple[Budget, ...]
    amount: int
    """Picodollars."""
    created_ms: int


class Held(Struct, frozen=True):
    """One budget's part of a reservation: in which window it is."""

    budget_id: str
    starts_ms: int
