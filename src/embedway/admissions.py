"""Callers with a token of somebody else's: what it grants, and the budgets of its subject, which
are kept from its first request on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from embedway.budgets import Period
from embedway.errors import LedgerUnavailable
from embedway.oidc import TokenVerifier
from embedway.store.budgets import BudgetStore
from embedway.store.database import StoreError
from embedway.types import Grant

_KNOWN = 10_000
"""How many subjects are remembered; those beyond are looked at again."""
_log = logging.getLogger("embedway.oidc")


class Admissions:
    """Grants of tokens. *forget*: called when budgets changed."""

    def __init__(
        self, verifier: TokenVerifier, budgets: BudgetStore, forget: Callable[[], None]
    ) -> None:
        self._verifier, self._budgets, self._forget = verifier, budgets, forget
        self._known: dict[str, Mapping[Period, int]] = {}

    async def grant(self, token: bytes) -> Grant:
        """What the token grants. Raises an Unauthenticated, Overloaded, or LedgerUnavailable where
        its budgets cannot be kept."""
        admission = await self._verifier.admit(token)
        grant, budgets = admission.grant, admission.budgets
        if budgets and self._known.get(grant.key_id) != budgets:
            await self._keep(grant.key_id, budgets)
        return grant

    async def _keep(self, key_id: str, budgets: Mapping[Period, int]) -> None:
        try:
            for period, amount in budgets.items():
                await asyncio.to_thread(self._budgets.set, "key", key_id, period, amount)
        except StoreError as error:
            _log.error("%s", error)
            raise LedgerUnavailable(
                "The gateway cannot keep the budget of this token; try again soon.", retry_after_s=5
            ) from None
        self._forget()
        if len(self._known) >= _KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[key_id] = budgets
