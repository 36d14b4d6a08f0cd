"""Choose a deployment of the same model: same vectors, so always safe.

Obeys the caller's `provider`, `only` and `order`. Lowest layer that sees several accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from embedway.errors import InvalidRequest
from embedway.types import Call, Embedder, EmbedRequest, EmbedResponse


@dataclass(frozen=True, eq=False)
class Balance:
    """One inner Embedder per account, the operator's preferred one first."""

    model: str
    accounts: Mapping[str, Embedder]

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        return await self.accounts[self.choose(request.call)](request)

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
        return allowed[0]
