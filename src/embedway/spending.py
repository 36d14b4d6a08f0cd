"""Which budgets a caller's requests fall under: those of his key and of its project, as they were a
second ago at most."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable

from embedway.budgets import Budget
from embedway.clock import Clock
from embedway.errors import LedgerUnavailable
from embedway.store.database import StoreError
from embedway.types import Grant

_FRESH_S = 1.0
_STALE_S = 60.0
"""How long they still count while the store cannot be read."""
_log = logging.getLogger("embedway.spending")


class Spending:
    """The budgets in memory, read again when they are older than a second."""

    def __init__(self, read: Callable[[], Iterable[Budget]], clock: Clock) -> None:
        """read: all budgets. Blocking; raises StoreError."""
        self._read_all, self._clock = read, clock
        self._by_owner: dict[tuple[str, str], tuple[Budget, ...]] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def budgets_of(self, grant: Grant) -> tuple[Budget, ...]:
        """Those of the key and of its project. Raises LedgerUnavailable if nobody knows."""
        if self._clock.monotonic() - self._read_at >= _FRESH_S:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
            await asyncio.shield(self._reading)
        if not self._by_owner:
            return ()
        of_key = self._by_owner.get(("key", grant.key_id), ())
        return of_key + self._by_owner.get(("project", grant.project), ())

    def forget(self) -> None:
        """Somebody has just changed them."""
        self._read_at = float("-inf")

    async def _read(self) -> None:
        try:
            found: dict[tuple[str, str], tuple[Budget, ...]] = defaultdict(tuple)
            for budget in await asyncio.to_thread(self._read_all):
                found[budget.owner_kind, budget.owner] += (budget,)
            self._by_owner, self._read_at = dict(found), self._clock.monotonic()
        except StoreError as error:
            _log.error("%s", error)
            if self._clock.monotonic() - self._read_at > _STALE_S:
                raise LedgerUnavailable(
                    "The gateway cannot read its budgets; try again soon.", retry_after_s=5
                ) from None
        finally:
            self._reading = None
