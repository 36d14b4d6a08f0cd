"""Try the asked model, then the other models that the caller named.

Above `route`: each try is a whole request to one model, so that one answer never mixes two vector
spaces. Another deployment of the same model is not this layer's business but `balance`'s.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from embedway.errors import EmbedError, ModelNotFound, Overloaded, UpstreamError, UpstreamRejected
from embedway.frames import without_frames
from embedway.types import Attempt, Embedder, EmbedRequest, EmbedResponse, replace

_RETRIES = 2
"""Three attempts in all, as for one model; but each model that the caller names gets one."""
_SHARE_OF_TIME = 0.5


@dataclass(frozen=True, eq=False)
class Fallback:
    """Moves to the next model when one cannot serve; never when the request itself is wrong."""

    inner: Embedder

    def __call__(self, request: EmbedRequest, /) -> Coroutine[Any, Any, EmbedResponse]:
        # No coroutine of its own: most requests name no other model.
        return self._try_all(request) if request.call.fallbacks else self.inner(request)

    async def _try_all(self, request: EmbedRequest) -> EmbedResponse:
        call = request.call
        attempts: tuple[Attempt, ...] = ()
        first: EmbedError | None = None
        retries = max(0, min(call.retries, _RETRIES - len(call.fallbacks)))
        for model in (request.params.model, *call.fallbacks):
            # A provider that never answers must leave time for the next model.
            share = _SHARE_OF_TIME if model != call.fallbacks[-1] else 1.0
            one_try = replace(
                request,
                params=replace(request.params, model=model),
                call=replace(call, retries=retries, share=share),
            )
            try:
                response = await self.inner(one_try)
            except EmbedError as error:
                attempts += error.attempts or (_not_tried(model, error),)
                first = first or without_frames(error)
                if first is error and not _is_cause(error):
                    break
                retries = 0
            else:
                return replace(response, attempts=attempts + response.attempts)
        assert first is not None, "the loop ends with an answer or an error"
        first.attempts = attempts
        raise first


def _is_cause(error: EmbedError) -> bool:
    """Whether another model may help: the asked one cannot serve, or its provider failed."""
    return isinstance(error, (UpstreamError, Overloaded, ModelNotFound)) and not isinstance(
        error, UpstreamRejected
    )


def _not_tried(model: str, error: EmbedError) -> Attempt:
    """A model that was passed over, and why: nobody serves it, or not with these dimensions."""
    return Attempt(
        model=model,
        provider="",
        upstream_model="",
        started_ms=0,
        ended_ms=0,
        is_success=False,
        error=error.code,
    )
