"""Hold back what a request may cost, from every budget it falls under, before anybody is asked.

Below `cache`: what is known costs nothing and asks no budget. Above `coalesce`: each caller holds
back, and pays, for himself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from embedway.budgets import Budget
from embedway.clock import Clock
from embedway.errors import EmbedError
from embedway.ids import Ids
from embedway.ledger import Held, Reservation
from embedway.types import Embedder, Embedding, EmbedRequest, EmbedResponse, Grant


class Reserves(Protocol):
    """Where budgets are held back and charged."""

    async def reserve(self, wanted: Reservation) -> tuple[Held, ...]:
        """From each of them, or from none. Raises BudgetExceeded, LedgerUnavailable."""
        ...

    def settle(self, wanted: Reservation, held: tuple[Held, ...], cost: int) -> None:
        """It cost so much: soon, whatever happens."""
        ...


@dataclass(frozen=True, eq=False)
class WithinBudget:
    """Lets through what every budget of the caller covers."""

    inner: Embedder
    reserves: Reserves = field(repr=False)
    budgets_of: Callable[[Grant], Awaitable[tuple[Budget, ...]]] = field(repr=False)
    most_cost: Callable[[EmbedRequest], Awaitable[int]] = field(repr=False)
    """Picodollars that a request can cost at most."""
    ids: Ids = field(repr=False)
    clock: Clock = field(repr=False)

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        budgets = await self.budgets_of(request.call.grant)
        if not budgets or not (amount := await self.most_cost(request)):
            return await self.inner(request)
        wanted = Reservation(
            id=self.ids.new(),
            budgets=budgets,
            amount=amount,
            created_ms=int(self.clock.now() * 1000),
        )
        held = await self.reserves.reserve(wanted)
        try:
            response = await self.inner(request)
        except EmbedError as error:
            self.reserves.settle(wanted, held, _cost(error.finished.values()))
            raise
        except BaseException:  # the caller left: what was asked for him may have been billed
            self.reserves.settle(wanted, held, amount)
            raise
        self.reserves.settle(wanted, held, _cost(response.embeddings))
        return response


def _cost(embeddings: Iterable[Embedding]) -> int:
    return sum([one.cost for one in embeddings])
