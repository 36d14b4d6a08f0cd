"""Choose a deployment of the same model: same vectors, so always safe.

Obeys the caller's `provider`, `only`, `order` and `sort`. Lowest layer that sees several accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from embedway.errors import InvalidRequest
from embedway.types import Attempt, Call, Embedder, EmbedRequest, EmbedResponse

_NEWEST = 0.2
"""What the newest attempt weighs in an account's average: some ten attempts are remembered."""


@dataclass(frozen=True, eq=False)
class Balance:
    """One inner Embedder per account, the operator's preferred one first."""

    model: str
    accounts: Mapping[str, Embedder]
    prices: Mapping[str, int] = field(default_factory=dict, repr=False)
    """What each account costs, in picodollars per token; 0 for one that is not there."""
    milliseconds: dict[str, float] = field(default_factory=dict, repr=False)
    """How long each account's successful attempts took of late, on average."""

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        response = await self.accounts[self.choose(request.call)](request)
        for attempt in response.attempts:
            if attempt.is_success:
                self._remember(attempt)
        return response

    def choose(self, call: Call) -> str:
        """The account to ask. Raises InvalidRequest if none is allowed."""
        allowed = tuple(self.accounts)
        if call.only:
            allowed = tuple(name for name in allowed if name in call.only)
        if not allowed:
            raise InvalidRequest(
                f"No provider among {', '.join(call.only)} serves {self.model}; "
                f"it is served by {', '.join(self.accounts)}.",
                param="provider",
            )
        for name in call.order:
            if name in allowed:
                return name
        if call.sort == "cost":
            return min(allowed, key=lambda name: self.prices.get(name, 0))
        if call.sort == "latency":  # one that was never asked gets its chance first
            return min(allowed, key=lambda name: self.milliseconds.get(name, 0.0))
        return allowed[0]

    def _remember(self, attempt: Attempt) -> None:
        taken = attempt.ended_ms - attempt.started_ms
        before = self.milliseconds.get(attempt.provider, taken)
        self.milliseconds[attempt.provider] = before + _NEWEST * (taken - before)
