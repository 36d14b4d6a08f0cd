"""Give up when the call's time is over.

Above `fallback`: one clock for the whole chain.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from embedway.clock import Clock
from embedway.errors import DeadlineExceeded
from embedway.types import Embedder, EmbedRequest, EmbedResponse


@dataclass(frozen=True, eq=False)
class Deadline:
    """Cancels *inner* at the call's deadline."""

    inner: Embedder
    clock: Clock = field(repr=False)

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        remaining = request.call.deadline - self.clock.monotonic()
        try:
            async with asyncio.timeout(remaining):
                return await self.inner(request)
        except TimeoutError:
            raise DeadlineExceeded(
                "The request was not answered in time. Send fewer inputs at once, or try again."
            ) from None
