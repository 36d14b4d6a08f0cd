"""What the ledger says of one request of a caller. `store/books.py` keeps these lines."""

from __future__ import annotations

from msgspec import Struct


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
