"""Give up when the call's time is over.

Above `fallback`: one clock for the whole chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from types import coroutine
from typing import Any

from embedway.clock import Clock
from embedway.errors import DeadlineExceeded
from embedway.types import Embedder, EmbedRequest, EmbedResponse

Work = Coroutine[Any, Any, EmbedResponse]


@dataclass(frozen=True, eq=False)
class Deadline:
    """Cancels *inner* at the call's deadline; does not ask it after that."""

    inner: Embedder
    clock: Clock = field(repr=False)

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        deadline = request.call.deadline
        if deadline <= self.clock.monotonic():
            raise _exceeded()
        work = self.inner(request)
        # As far as it comes by itself: a hit waits for nobody, and a timer would cost it as much
        # as all the other layers together.
        try:
            waits_for = work.send(None)
        except StopIteration as end:
            answered: EmbedResponse = end.value
            return answered
        try:
            async with asyncio.timeout(deadline - self.clock.monotonic()):
                return await _go_on(work, waits_for)
        except TimeoutError:
            raise _exceeded() from None


@coroutine
def _go_on(work: Work, waits_for: Any) -> Generator[Any, Any, EmbedResponse]:
    """The rest of *work*, which has begun and waits: what `await` would do had it begun here."""
    while True:
        try:
            yield waits_for
        except BaseException as error:  # a cancellation, which it may answer by waiting once more
            try:
                waits_for = work.throw(error)
            except StopIteration as end:
                answered: EmbedResponse = end.value
                return answered
        else:
            return (yield from work.__await__())


def _exceeded() -> DeadlineExceeded:
    return DeadlineExceeded(
        "The request was not answered in time. Send fewer inputs at once, or try again."
    )
