"""Check that the caller's key may ask for the models it names, at whom, and for fallbacks.

Above the cache (a hit, too, needs permission), below `meter` (a refusal is counted).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from embedway.errors import ModelNotAllowed, PermissionDenied
from embedway.types import Call, Embedder, EmbedRequest, EmbedResponse, replace


@dataclass(frozen=True, eq=False)
class Admit:
    """Lets a call through whose key allows the model and every fallback, and leaves it only the
    accounts that the key allows."""

    inner: Embedder
    canonical: Callable[[str], str] = field(repr=False)
    accounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """Canonical name to the accounts that serve the model."""

    def __call__(self, request: EmbedRequest, /) -> Coroutine[Any, Any, EmbedResponse]:
        # No coroutine of its own: there is nothing to do when the answer is there.
        call, grant = request.call, request.call.grant
        if call.fallbacks and not grant.allows_fallbacks:
            raise PermissionDenied(
                f"The key {grant.name!r} may not use fallbacks: its vectors are all of one model. "
                "Leave them out.",
                param="gateflow.fallbacks",
            )
        if grant.models is not None:
            allowed = {self.canonical(name) for name in grant.models}
            for name in (request.params.model, *call.fallbacks):
                if self.canonical(name) not in allowed:
                    raise ModelNotAllowed(
                        f"The key {grant.name!r} may not use {name}. "
                        f"It may use: {', '.join(grant.models) or 'no model'}.",
                        param="model",
                    )
        if grant.providers is not None:
            self._refuse_unserved((request.params.model, *call.fallbacks), call, grant.providers)
            request = replace(request, call=replace(call, only=_only(call, grant.providers)))
        return self.inner(request)

    def _refuse_unserved(
        self, models: tuple[str, ...], call: Call, providers: tuple[str, ...]
    ) -> None:
        """What nobody serves at all is told further down, as for every key."""
        for name in models:
            served_by = self.accounts.get(self.canonical(name), ())
            if served_by and set(served_by).isdisjoint(providers):
                raise PermissionDenied(
                    f"The key {call.grant.name!r} may not use the providers that serve {name}. "
                    f"It may use: {', '.join(providers) or 'no provider'}. Ask for a model that "
                    "one of them serves.",
                    param="model",
                )


def _only(call: Call, providers: tuple[str, ...]) -> tuple[str, ...]:
    """The accounts that both the key and the caller allow."""
    both = tuple(name for name in providers if not call.only or name in call.only)
    if not both:
        raise PermissionDenied(
            f"The key {call.grant.name!r} may not use {', '.join(call.only) or 'any provider'}. "
            f"It may use: {', '.join(providers) or 'no provider'}. Name one of them, or none.",
            param="provider",
        )
    return both
