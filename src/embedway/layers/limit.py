"""At most so many calls to one deployment at a time; the others wait in the order they came.

One for each deployment, below `split`: what it counts is what leaves.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from embedway.types import Embedder, EmbedRequest, EmbedResponse


@dataclass(frozen=True, eq=False)
class Limit:
    """Lets *concurrency* calls of *inner* run side by side."""

    inner: Embedder
    concurrency: int
    _free: asyncio.Semaphore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_free", asyncio.Semaphore(self.concurrency))

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        async with self._free:
            return await self.inner(request)
