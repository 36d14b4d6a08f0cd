"""Timer-free: an idle model is asked at once; what waits while all its slots are busy travels
together as soon as one is free; keys take turns, and what waits is bounded.

Above `split`: first joined, then cut, so that parts are full. Only callers with equal parameters
and equal terms travel together, and each gets his own part of the answer, or of the blame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from types import coroutine

from embedway.errors import EmbedError, Overloaded
from embedway.journey import Journey, Platform, Waiting
from embedway.positions import is_about_request
from embedway.rates import about_tokens
from embedway.types import Attempt, Embedder, Embedding, EmbedRequest, EmbedResponse, replace

_ANSWERED_AT_ONCE = 2


@dataclass(frozen=True, eq=False)
class Batch:
    """At most *slots* calls of *inner* at a time, each of about *max_inputs* inputs.

    is_exact: whether the tokens of each text are known even when it travels with others'; if not,
    their share is an estimate, and says so. max_waiting: so many inputs may wait.
    """

    inner: Embedder
    slots: Callable[[], int]
    max_inputs: int
    is_exact: bool = True
    max_waiting: int = 65_536
    drain_s: Callable[[int, int], float] = field(default=lambda calls, tokens: 0.0, repr=False)
    """About how long so many calls, of so many tokens together, take."""
    _waiting: Platform = field(init=False, repr=False, default_factory=Platform)
    _running: set[object] = field(init=False, repr=False, default_factory=set)

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        if len(self._running) < self.slots():
            slot = object()
            self._running.add(slot)
            try:
                return await self.inner(request)
            finally:
                self._free(slot)
        waiting = Waiting(request, asyncio.get_running_loop().create_future())
        if self._waiting.inputs + len(request.inputs) > self.max_waiting:
            self._make_room(waiting)
        self._waiting.join(waiting)
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            await self._leave(waiting)
            raise

    @property
    def waiting(self) -> int:
        """Callers' requests that wait for a slot."""
        return self._waiting.line.length

    def _make_room(self, newcomer: Waiting) -> None:
        """Too much waits: who waits last of the greediest key goes. Raises Overloaded if that is
        the newcomer; one who asks for more than may wait comes in when nobody does."""
        if not self.waiting:
            return
        inputs, asked = self._waiting.inputs, newcomer.request.inputs
        calls = -(-inputs // self.max_inputs)
        refusal = Overloaded(
            f"{inputs} inputs already wait for {newcomer.request.params.model}; try again later.",
            # Those of the others are about as long as his.
            retry_after_s=self.drain_s(calls, about_tokens(asked) * inputs // len(asked)),
        )
        one = self._waiting.line.greediest(newcomer)
        if one is newcomer:
            raise refusal
        self._waiting.leave(one)
        if not one.answer.done():
            one.answer.set_exception(refusal)

    def _free(self, slot: object) -> None:
        self._running.discard(slot)
        while self.waiting and len(self._running) < self.slots():
            if aboard := self._waiting.board(self.max_inputs):
                journey = Journey(aboard)
                journey.task = asyncio.create_task(self._travel(journey))
                self._running.add(journey.task)
                journey.task.add_done_callback(self._free)

    async def _travel(self, journey: Journey) -> None:
        try:
            await self._ask(journey)
        except asyncio.CancelledError:
            for one in journey.aboard:
                one.answer.cancel()
            raise
        except Exception as bug:  # it must reach its callers, not hang them
            for one in journey.aboard:
                if not one.answer.done():
                    one.answer.set_exception(bug)
        finally:
            journey.end()

    async def _ask(self, journey: Journey) -> None:
        try:
            response = await self.inner(journey.request)
        except EmbedError as error:
            await self._share(journey, error.finished, error.attempts)
            self._blame(journey, error)
        else:
            self._free(journey.task)  # whoever waits goes while these are answered
            seats = range(len(journey.seats))
            embeddings = dict(zip(seats, response.embeddings, strict=True))
            await self._share(journey, embeddings, response.attempts)

    async def _share(
        self,
        journey: Journey,
        embeddings: Mapping[int, Embedding],
        attempts: tuple[Attempt, ...],
    ) -> None:
        """Give each caller what is his, and answer those who have all: a few at a time, since each
        has an answer to make, and others want to be heard in between."""
        is_guess = len(journey.aboard) > 1 and not self.is_exact
        for seat, embedding in embeddings.items():
            owner, position = journey.seats[seat]
            owner.found[position] = replace(embedding, is_estimated=True) if is_guess else embedding
        for number, one in enumerate(journey.aboard):
            one.attempts += attempts
            one.deliver()
            if number % _ANSWERED_AT_ONCE == _ANSWERED_AT_ONCE - 1:
                await _let_others_run()

    def _blame(self, journey: Journey, error: EmbedError) -> None:
        """The error goes to whom it belongs; who was only aboard with him travels again."""
        left = [one for one in journey.aboard if not one.is_complete]
        if is_about_request(error) and len(journey.aboard) > 1:
            guilty = journey.guilty(error)
            innocent = [one for one in left if one is not guilty]
            for one in innocent:
                one.alone = guilty is None
            for one in reversed(innocent):
                self._waiting.rejoin(one)
            left = [one for one in left if one is guilty]
        for one in left:
            one.fail(error, journey.positions_of(one))

    async def _leave(self, waiting: Waiting) -> None:
        """A caller has gone. His inputs no longer wait; a journey that nobody waits for any more
        ends."""
        waiting.answer.cancel()
        self._waiting.leave(waiting)
        journey = waiting.journey
        if journey is None or journey.task is None or journey.task.done():
            return
        if all(one.answer.done() for one in journey.aboard):
            journey.task.cancel()
            await asyncio.wait([journey.task])


@coroutine
def _let_others_run() -> Generator[None, None, None]:
    """The event loop goes round once."""
    yield
