"""An Embedder whose answers a test gives by hand, in any order, and which keeps the bill."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection

from embedway.types import Embedding, EmbedRequest, EmbedResponse, Input, Vector
from tests.fakes import make_attempt, until


def proof_of(value: Input, request: EmbedRequest) -> Vector:
    """Four numbers that say for themselves of which input and parameters they are."""
    said = repr((value, request.params)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=16).digest()


class Bill:
    """Embeds, and asks another price each time: no two different sums of them look alike by
    chance."""

    def __init__(self) -> None:
        self.texts: list[Input] = []
        self.billed = 0

    def embed(self, request: EmbedRequest, value: Input) -> Embedding:
        """The embedding of one input, which is on the bill now."""
        self.texts.append(value)
        cost = 1_000 + len(self.texts) ** 2
        self.billed += cost
        return Embedding(proof_of(value, request), 3, "openai", cost)

    def answer(self, request: EmbedRequest) -> EmbedResponse:
        """The whole answer to a request."""
        return EmbedResponse(
            params=request.params,
            embeddings=tuple(self.embed(request, value) for value in request.inputs),
            attempts=(make_attempt(upstream_model=str(request.inputs[0])),),
        )


class HeldCall:
    """One call, waiting to be answered."""

    def __init__(self, request: EmbedRequest, bill: Bill) -> None:
        self.request = request
        self.bill = bill
        self.outcome: asyncio.Future[EmbedResponse] = asyncio.get_running_loop().create_future()
        self.is_cancelled = False
        self.has_ended = False

    def answer(self) -> None:
        """Answer it in full."""
        self.outcome.set_result(self.bill.answer(self.request))

    def fail(self, error: BaseException, finished: Collection[int] = ()) -> None:
        """Raise *error* in it, with the inputs at these positions embedded all the same."""
        if finished:
            made = {i: self.bill.embed(self.request, self.request.inputs[i]) for i in finished}
            error.finished = made  # type: ignore[attr-defined]
        self.outcome.set_exception(error)


class Held:
    """Holds every call until the test answers it."""

    def __init__(self) -> None:
        self.bill = Bill()
        self.calls: list[HeldCall] = []

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        """Wait for the test."""
        call = HeldCall(request, self.bill)
        self.calls.append(call)
        try:
            return await call.outcome
        except asyncio.CancelledError:
            call.is_cancelled = True
            raise
        finally:
            call.has_ended = True

    @property
    def asked(self) -> list[tuple[Input, ...]]:
        """The inputs of each call, in turn."""
        return [call.request.inputs for call in self.calls]

    @property
    def running(self) -> list[HeldCall]:
        """The calls that wait."""
        return [call for call in self.calls if not call.has_ended]

    async def arrived(self, count: int) -> None:
        """Wait until so many calls have come in all."""
        await until(lambda: len(self.calls) >= count)


async def settle(turns: int = 20) -> None:
    """Let everybody run who can: for what must NOT happen, which no event can tell."""
    for _ in range(turns):
        await asyncio.sleep(0)
