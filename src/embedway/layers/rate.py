"""Keep each key to its requests and tokens a minute, and to its requests at a time.

Below `admit`: what a key may not ask for at all does not use up its limit. Above `deadline` and
all that answers: a hit is a request, too.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from embedway.errors import EmbedError
from embedway.rates import KeyRates, about_tokens
from embedway.types import NO_RATES, Embedder, Embedding, EmbedRequest, EmbedResponse


@dataclass(frozen=True, eq=False)
class Rate:
    """Lets through what the key's rates have room for. A key without any is not looked at."""

    inner: Embedder
    rates: KeyRates = field(repr=False)

    def __call__(self, request: EmbedRequest, /) -> Coroutine[Any, Any, EmbedResponse]:
        # Not a coroutine of its own: most keys have no rates, and then this layer costs nothing.
        if request.call.grant.rates == NO_RATES:
            return self.inner(request)
        return self._within(request)

    async def _within(self, request: EmbedRequest) -> EmbedResponse:
        call = request.call
        counts_tokens = call.grant.rates.tokens_per_minute is not None
        tokens = used = about_tokens(request.inputs) if counts_tokens else 0
        await self.rates.enter(call, tokens)
        try:
            response = await self.inner(request)
            used = _tokens(response.embeddings)
        except EmbedError as error:
            used = _tokens(error.finished.values())
            raise
        finally:  # where the caller left, the estimate stands
            self.rates.leave(call, tokens, used)
        return response


def _tokens(embeddings: Iterable[Embedding]) -> int:
    return sum([one.tokens for one in embeddings])
