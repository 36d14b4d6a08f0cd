"""What every stack is built with: the world around it, and where it keeps things."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from embedway.budgets import Budget
from embedway.cache_key import Scope
from embedway.cached import CountCache, VectorStore
from embedway.chance import Chance
from embedway.clock import Clock
from embedway.ids import Ids
from embedway.layers.booked import AttemptsBook
from embedway.layers.cache import Recent
from embedway.layers.within_budget import Reserves
from embedway.pieces import CountTokens
from embedway.provider import Send
from embedway.types import Grant


@dataclass(frozen=True, eq=False)
class Kept:
    """Where vectors are kept: in memory, and for longer than the process lives."""

    recent: Recent
    store: VectorStore | None


class Ledger(AttemptsBook, Reserves, Protocol):
    """Where attempts and budgets are kept."""


@dataclass(frozen=True, eq=False)
class Books:
    """What must be written down before anything is paid."""

    ledger: Ledger
    budgets_of: Callable[[Grant], Awaitable[tuple[Budget, ...]]]
    ids: Ids


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What all stacks are built with."""

    send: Send
    clock: Clock
    chance: Chance
    scope: Scope
    kept: Kept | None
    count_cache: CountCache
    count_retry: Callable[[bool], None]
    count_local: CountTokens | None
    """The tokens of a text for the model in the process."""
    is_busy: Callable[[], bool]
    """Whether the process has more to do than it can."""
    books: Books | None
    """None: nothing is written down."""
