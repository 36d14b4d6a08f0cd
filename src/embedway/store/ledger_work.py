"""What waits for the ledger's thread, and how those who wait are told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from embedway.errors import BudgetExceeded, LedgerUnavailable
from embedway.ledger import AttemptBegun, AttemptEnded, Held, Reservation, UsageLine

RETRY_S = 1.0
"""How long nothing is tried after the database failed: who comes meanwhile is refused at once."""


class Begin(Struct, frozen=True):
    """An attempt to write down."""

    attempt: AttemptBegun
    written: asyncio.Future[tuple[Held, ...]] | None
    """None: nobody waits for it."""


class Reserve(Struct, frozen=True):
    """An amount to hold back."""

    wanted: Reservation
    written: asyncio.Future[tuple[Held, ...]]


class Settle(Struct, frozen=True):
    """What was held back is charged: *cost* picodollars."""

    wanted: Reservation
    cost: int


class Mark(Struct, frozen=True):
    """Whoever waits for all before it."""

    done: threading.Event


Work = Begin | Reserve | Settle | AttemptEnded | UsageLine | Mark
KEPT = (Settle, AttemptEnded, UsageLine)
"""What nobody waits for and nobody can do again: kept until it is written."""


def tell(answers: list[tuple[asyncio.Future[Any], Any]]) -> None:
    """Wake those who wait, each loop once."""
    if not answers:
        return

    def tell_all() -> None:
        for written, answer in answers:
            if written.done():
                continue
            if isinstance(answer, (LedgerUnavailable, BudgetExceeded)):
                written.set_exception(answer)
            else:
                written.set_result(answer)

    loop = answers[0][0].get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(tell_all)


def never_made(attempt: AttemptBegun) -> AttemptEnded:
    """The end of an attempt that nobody waited for any more when it was written."""
    return AttemptEnded(
        id=attempt.id, state="unbilled", tokens=0, cost=0, ended_ms=attempt.created_ms
    )


def undone(work: Iterable[Work]) -> list[Work]:
    """What undoes those of *work* that are told to have failed, in case they were written."""
    found: list[Work] = []
    for one in work:
        if isinstance(one, Begin) and one.written is not None:
            found.append(never_made(one.attempt))
        elif isinstance(one, Reserve):
            found.append(Settle(one.wanted, 0))
    return found


def unavailable() -> LedgerUnavailable:
    """What callers are told while nothing can be written."""
    return LedgerUnavailable(
        "The gateway cannot write down what a paid request would cost, so it asks no provider; try "
        "again in a moment.",
        retry_after_s=RETRY_S,
    )
