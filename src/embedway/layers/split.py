"""Cut a request to the provider's limit; the parts run side by side and come back in order.

Below `balance`: the limit is the deployment's.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from embedway.errors import EmbedError
from embedway.types import Embedder, EmbedRequest, EmbedResponse, replace

_POSITION = re.compile(r"\binput\[(\d+)\]")


@dataclass(frozen=True, eq=False)
class Split:
    """At most *max_inputs* inputs in one call of *inner*, at most *parallel* calls at once."""

    inner: Embedder
    max_inputs: int
    parallel: int = 8

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        inputs = request.inputs
        if len(inputs) <= self.max_inputs:
            return await self.inner(request)
        gate = asyncio.Semaphore(self.parallel)

        async def ask(start: int) -> EmbedResponse:
            part = replace(request, inputs=inputs[start : start + self.max_inputs])
            async with gate:
                try:
                    return await self.inner(part)
                except EmbedError as error:
                    _move(error, start)
                    raise

        try:
            async with asyncio.TaskGroup() as group:
                starts = range(0, len(inputs), self.max_inputs)
                tasks = [group.create_task(ask(start)) for start in starts]
        except ExceptionGroup as errors:
            # A layer lets no group out: the first error stands for all.
            raise errors.exceptions[0] from None
        parts = [task.result() for task in tasks]
        return EmbedResponse(
            params=parts[0].params,
            embeddings=tuple(embedding for part in parts for embedding in part.embeddings),
            attempts=tuple(attempt for part in parts for attempt in part.attempts),
        )


def _move(error: EmbedError, start: int) -> None:
    """Count the error's positions in the whole request."""

    def moved(match: re.Match[str]) -> str:
        return f"input[{int(match[1]) + start}]"

    error.message = _POSITION.sub(moved, error.message)
    error.args = (error.message,)
    if error.param is not None:
        error.param = _POSITION.sub(moved, error.param)
