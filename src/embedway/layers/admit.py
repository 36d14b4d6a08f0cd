"""Check that the caller's key may ask for the models it names, and for fallbacks.

Above the cache (a hit, too, needs permission), below `meter` (a refusal is counted).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from embedway.errors import ModelNotAllowed, PermissionDenied
from embedway.types import Embedder, EmbedRequest, EmbedResponse


@dataclass(frozen=True, eq=False)
class Admit:
    """Lets a call through whose key allows the model and every fallback."""

    inner: Embedder
    canonical: Callable[[str], str] = field(repr=False)

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        grant = request.call.grant
        if request.call.fallbacks and not grant.allows_fallbacks:
            raise PermissionDenied(
                f"The key {grant.name!r} may not use fallbacks: its vectors are all of one model. "
                "Leave them out.",
                param="gateflow.fallbacks",
            )
        if grant.models is not None:
            allowed = {self.canonical(name) for name in grant.models}
            for name in (request.params.model, *request.call.fallbacks):
                if self.canonical(name) not in allowed:
                    raise ModelNotAllowed(
                        f"The key {grant.name!r} may not use {name}. "
                        f"It may use: {', '.join(grant.models) or 'no model'}.",
                        param="model",
                    )
        return await self.inner(request)
