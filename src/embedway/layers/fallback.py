"""Try the asked model, then the other models that the caller named.

Above `route`: each try is a whole request to one model, so that one answer never mixes two vector
spaces. Another deployment of the same model is not this layer's business but `balance`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedway.errors import EmbedError, ModelNotFound, Overloaded, UpstreamError, UpstreamRejected
from embedway.types import Embedder, EmbedRequest, EmbedResponse, replace


@dataclass(frozen=True, eq=False)
class Fallback:
    """Moves to the next model when one cannot serve; never when the request itself is wrong."""

    inner: Embedder

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        try:
            return await self.inner(request)
        except EmbedError as error:
            if not request.call.fallbacks or not _is_cause(error):
                raise
            first = error
        attempts = first.attempts
        for model in request.call.fallbacks:
            other = replace(request, params=replace(request.params, model=model))
            try:
                response = await self.inner(other)
            except EmbedError as error:
                attempts += error.attempts
                continue
            return replace(response, attempts=attempts + response.attempts)
        first.attempts = attempts
        raise first


def _is_cause(error: EmbedError) -> bool:
    """Whether another model may help: the asked one cannot serve, or its provider failed."""
    return isinstance(error, (UpstreamError, Overloaded, ModelNotFound)) and not isinstance(
        error, UpstreamRejected
    )
