"""Timer-free: an idle model is asked at once; what waits while all its slots are busy travels
together as soon as one is free.

Above `split`: first joined, then cut, so that parts are full. Only callers with equal parameters
and equal terms travel together, and each gets his own part of the answer, or of the blame.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import coroutine

from embedway.errors import EmbedError
from embedway.positions import is_about_request, placed, position_of
from embedway.types import (
    Attempt,
    Embedder,
    Embedding,
    EmbedRequest,
    EmbedResponse,
    Grant,
    replace,
)

_ANSWERED_AT_ONCE = 2
_NOBODY = Grant(key_id="shared", name="several callers")


class _Waiting:
    """A caller's request in the queue, with what is known of its answer so far."""

    __slots__ = ("alone", "answer", "attempts", "found", "journey", "request")

    def __init__(self, request: EmbedRequest, answer: asyncio.Future[EmbedResponse]) -> None:
        self.request = request
        self.answer = answer
        self.found: dict[int, Embedding] = {}
        self.attempts: tuple[Attempt, ...] = ()
        self.alone = False
        """Whether it must not travel with others again."""
        self.journey: _Journey | None = None

    @property
    def missing(self) -> list[int]:
        """Positions of the inputs that have no embedding yet."""
        return [i for i in range(len(self.request.inputs)) if i not in self.found]

    @property
    def is_complete(self) -> bool:
        """Whether every input has its embedding."""
        return len(self.found) == len(self.request.inputs)

    def deliver(self) -> None:
        """Answer the caller if all is there and he is."""
        if self.is_complete and not self.answer.done():
            self.answer.set_result(
                EmbedResponse(
                    params=self.request.params,
                    embeddings=tuple(self.found[i] for i in range(len(self.found))),
                    attempts=self.attempts,
                )
            )

    def fail(self, error: EmbedError, positions: Sequence[int]) -> None:
        """positions: where the inputs that the error counts stand in the caller's request."""
        if self.answer.done():
            return
        own = placed(error, positions)
        own.attempts = self.attempts
        own.finished = dict(self.found)
        self.answer.set_exception(own)


class _Journey:
    """Those who travel together, and which input of whom stands where in their request."""

    __slots__ = ("aboard", "seats", "task")

    def __init__(self, aboard: Sequence[_Waiting]) -> None:
        self.aboard = aboard
        self.seats = [(one, position) for one in aboard for position in one.missing]
        self.task: asyncio.Task[None] | None = None
        for one in aboard:
            one.journey = self

    def end(self) -> None:
        """Let go of each other, so that the vectors are freed now and not by the collector."""
        self.task = None
        for one in self.aboard:
            if one.journey is self:
                one.journey = None

    @property
    def request(self) -> EmbedRequest:
        """Their one request. For several it has a call of its own: nobody's key, and time until
        the last of them must be answered."""
        first = self.aboard[0].request
        inputs = tuple(one.request.inputs[position] for one, position in self.seats)
        if len(self.aboard) == 1:
            return first if inputs == first.inputs else replace(first, inputs=inputs)
        call = replace(
            first.call,
            grant=_NOBODY,
            deadline=max(one.request.call.deadline for one in self.aboard),
            cache="use",
            fallbacks=(),
            tags=(),
            trace=None,
            app=None,
        )
        return replace(first, inputs=inputs, call=call)

    def positions_of(self, one: _Waiting) -> list[int]:
        """Where each input of the joined request stands in that caller's; -1 if it is another's."""
        return [position if owner is one else -1 for owner, position in self.seats]

    def guilty(self, error: EmbedError) -> _Waiting | None:
        """Whose input the error names."""
        position = position_of(error)
        if position is None or position >= len(self.seats):
            return None
        return self.seats[position][0]


@dataclass(frozen=True, eq=False)
class Batch:
    """At most *slots* calls of *inner* at a time, each of about *max_inputs* inputs.

    is_exact: whether the tokens of each text are known even when it travels with others'; if not,
    their share is an estimate, and says so.
    """

    inner: Embedder
    slots: Callable[[], int]
    max_inputs: int
    is_exact: bool = True
    _queues: OrderedDict[Hashable, deque[_Waiting]] = field(
        init=False, repr=False, default_factory=OrderedDict
    )
    """By what must be equal to travel together; the one whose turn it is comes first."""
    _running: set[object] = field(init=False, repr=False, default_factory=set)

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        if len(self._running) < self.slots():
            slot = object()
            self._running.add(slot)
            try:
                return await self.inner(request)
            finally:
                self._free(slot)
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queues.setdefault(_terms(request), deque()).append(waiting)
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            await _leave(waiting)
            raise

    def _free(self, slot: object) -> None:
        self._running.discard(slot)
        while self._queues and len(self._running) < self.slots():
            if taken := self._take():
                journey = _Journey(taken)
                journey.task = asyncio.create_task(self._travel(journey))
                self._running.add(journey.task)
                journey.task.add_done_callback(self._free)

    def _take(self) -> list[_Waiting]:
        """Those who travel together next. The rest of their queue goes behind the others."""
        terms, queue = self._queues.popitem(last=False)
        taken: list[_Waiting] = []
        count = 0
        while queue:
            first = queue[0]
            if not first.answer.done():  # whoever left is passed over
                count += len(first.missing)
                if taken and (count > self.max_inputs or first.alone or taken[0].alone):
                    break
                taken.append(first)
            queue.popleft()
        if queue:
            self._queues[terms] = queue
        return taken

    async def _travel(self, journey: _Journey) -> None:
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

    async def _ask(self, journey: _Journey) -> None:
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
        journey: _Journey,
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

    def _blame(self, journey: _Journey, error: EmbedError) -> None:
        """The error goes to whom it belongs; who was only aboard with him travels again."""
        left = [one for one in journey.aboard if not one.is_complete]
        if is_about_request(error) and len(journey.aboard) > 1:
            guilty = journey.guilty(error)
            innocent = [one for one in left if one is not guilty]
            for one in innocent:
                one.alone = guilty is None
            terms = _terms(journey.aboard[0].request)
            self._queues.setdefault(terms, deque()).extendleft(reversed(innocent))
            self._queues.move_to_end(terms, last=False)
            left = [one for one in left if one is guilty]
        for one in left:
            one.fail(error, journey.positions_of(one))


@coroutine
def _let_others_run() -> Generator[None, None, None]:
    """The event loop goes round once."""
    yield


def _terms(request: EmbedRequest) -> Hashable:
    return (request.params, request.call.terms)


async def _leave(waiting: _Waiting) -> None:
    """A caller has gone. His inputs are dropped when their turn comes; a journey that nobody
    waits for any more ends."""
    waiting.answer.cancel()
    journey = waiting.journey
    if journey is None or journey.task is None or journey.task.done():
        return
    if all(one.answer.done() for one in journey.aboard):
        journey.task.cancel()
        await asyncio.wait([journey.task])
