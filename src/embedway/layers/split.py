"""Cut a request to the deployment's limits; the parts run side by side and come back in order.

Below `balance`: the limit is the deployment's. A refused part is halved until it is clear which
input is to blame; what was embedded before that travels up with the error and is kept. A provider
that reveals a lower limit is believed from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from embedway.errors import (
    EmbedError,
    UpstreamInputTooLong,
    UpstreamModelNotFound,
    UpstreamRejected,
    UpstreamTooLarge,
)
from embedway.frames import without_frames
from embedway.parts import Limits, plan, size_of
from embedway.positions import placed, position_of
from embedway.types import (
    Attempt,
    Embedder,
    Embedding,
    EmbedRequest,
    EmbedResponse,
    Input,
    replace,
)


class _Work:
    """One request, and what has become of it so far."""

    def __init__(self, request: EmbedRequest, parts: Sequence[range]) -> None:
        self.request = request
        self.waiting = [*parts]
        """The parts of the next round."""
        self.found: dict[int, Embedding] = {}
        self.attempts: list[Attempt] = []
        """In the order in which they ended."""
        self.whole: EmbedResponse | None = None
        """The one answer, where one part was enough."""
        self.failed: EmbedError | None = None
        """Once a part has failed no further one is begun; what is under way may end."""
        self.suspect: int | None = None
        """The input that was refused alone: it is to blame if any other was accepted."""

    def part(self, positions: range) -> EmbedRequest:
        """The request for the inputs at these positions."""
        if len(positions) == len(self.request.inputs):
            return self.request
        return replace(self.request, inputs=self.inputs(positions))

    def inputs(self, positions: range) -> tuple[Input, ...]:
        """The inputs at these positions."""
        return self.request.inputs[positions.start : positions.stop]

    def keep(self, positions: range, response: EmbedResponse) -> None:
        """A part was answered."""
        if len(positions) == len(self.request.inputs) and not self.attempts:
            self.whole = response
        self.found.update(zip(positions, response.embeddings, strict=True))
        self.attempts += response.attempts

    def note(self, positions: range, error: EmbedError) -> None:
        """A part was not, or not all of it; what was made of it and tried for it is kept."""
        self.found.update((positions[part], found) for part, found in error.finished.items())
        self.attempts += error.attempts

    def fail(self, positions: range, error: EmbedError) -> None:
        """The request cannot be answered; the first such error stands for all."""
        if self.failed is not None:
            return
        self.failed = placed(error, positions)
        if len(positions) == 1 and _is_refusal(error):
            self.suspect = positions.start

    def response(self) -> EmbedResponse:
        """The whole answer, or the error with all that was done beside it."""
        if self.failed is not None:
            if self.suspect is not None and (
                self.found or isinstance(self.failed, UpstreamInputTooLong)
            ):
                _blame(self.failed, self.suspect)
            self.failed.finished = self.found
            self.failed.attempts = tuple(self.attempts)
            raise self.failed
        return self.whole or EmbedResponse(
            params=self.request.params,
            embeddings=tuple(self.found[i] for i in range(len(self.found))),
            attempts=tuple(self.attempts),
        )


@dataclass(frozen=True, eq=False)
class Split:
    """At most *parallel* parts of one request at once."""

    inner: Embedder
    limits: Limits
    parallel: int = 8
    _learned: list[Limits] = field(init=False, repr=False, default_factory=list)
    """The limits that the provider has revealed; the newest alone."""

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        work = _Work(request, await self._plan(request.inputs))
        while work.waiting and work.failed is None:
            parts, work.waiting = work.waiting, []
            if len(parts) == 1:
                await self._ask(work, parts[0])
            else:
                await self._ask_side_by_side(work, parts)
        return work.response()

    @property
    def believed(self) -> Limits:
        """The limits, lowered to what the provider has revealed."""
        return self._learned[0] if self._learned else self.limits

    async def _plan(self, inputs: Sequence[Input]) -> list[range]:
        if self.believed.must_count(inputs):
            return await asyncio.to_thread(plan, inputs, self.believed)
        return plan(inputs, self.believed)

    async def _ask_side_by_side(self, work: _Work, parts: Sequence[range]) -> None:
        waiting = iter(parts)

        async def ask_on() -> None:
            for part in waiting:
                if work.failed is not None:
                    return
                await self._ask(work, part)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask_on()) for _ in range(min(self.parallel, len(parts)))]
        except ExceptionGroup as errors:  # bugs; whatever is an EmbedError is in `work`
            raise errors.exceptions[0] from None
        for task in tasks:
            task.result()  # a group is silent about a part that was cancelled from below

    async def _ask(self, work: _Work, part: range) -> None:
        if len(part) > 1 and _is_over(self.believed, work.inputs(part)):
            await self._cut(work, part)  # another part has taught us meanwhile
            return
        error = await self._try(work, part)
        if error is None:
            return
        if len(part) > 1 and isinstance(error, UpstreamTooLarge):
            self._learn(error, work.inputs(part))
            await self._cut(work, part)
        elif len(part) > 1 and _is_refusal(error):
            await self._find_blame(work, part, error)
        else:
            work.fail(part, error)

    async def _cut(self, work: _Work, part: range) -> None:
        """Smaller parts for the next round."""
        for one in await self._plan(work.inputs(part)):
            work.waiting.append(range(part.start + one.start, part.start + one.stop))

    async def _try(self, work: _Work, part: range) -> EmbedError | None:
        """Ask for a part; the error if it was not answered."""
        try:
            response = await self.inner(work.part(part))
        except EmbedError as error:
            work.note(part, error)
            return without_frames(error)
        work.keep(part, response)
        return None

    def _learn(self, error: UpstreamTooLarge, inputs: Sequence[Input]) -> None:
        """Believe the number that the provider names, or else that half would have been enough."""
        told, count, limits = error.max_inputs, len(inputs), self.believed
        if told is not None and 0 < told < count:
            limits = replace(limits, inputs=min(limits.inputs, told))
        elif _is_over(limits, inputs):
            return  # another part has taught us meanwhile
        elif error.counts_inputs:
            limits = replace(limits, inputs=count // 2)
        else:
            self._believe_half(inputs)
            return
        self._learned[:] = [limits]

    def _believe_half(self, inputs: Sequence[Input]) -> None:
        """Half of these bytes would have been enough."""
        half = sum(map(size_of, inputs)) // 2
        least = min(half, self.believed.bytes or half)
        self._learned[:] = [replace(self.believed, bytes=least)]

    async def _find_blame(self, work: _Work, part: range, refused: EmbedError) -> None:
        """Halve a refused part until one input alone is refused. If nothing at all is accepted,
        two others are asked alone as well: perhaps it is the request that is refused."""
        blamed = await self._halve(work, part)
        if blamed is None:
            if isinstance(refused, UpstreamInputTooLong) and work.failed is None:
                # No input is: all of them together have more tokens than one request may have.
                self._believe_half(work.inputs(part))
            return
        position, error = blamed
        is_told = isinstance(error, UpstreamInputTooLong)
        for other in dict.fromkeys((part[1], part[-1])):
            if not (is_told or work.found or work.failed):
                await self._try(work, range(other, other + 1))
        work.fail(range(position, position + 1), error)

    async def _halve(self, work: _Work, part: range) -> tuple[int, EmbedError] | None:
        """The first input that is refused alone; None if none is, or something else went wrong."""
        middle = part.start + len(part) // 2
        for half in (range(part.start, middle), range(middle, part.stop)):
            if work.failed is not None:
                return None
            error = await self._try(work, half)
            if error is None:
                continue
            if not _is_refusal(error):
                work.fail(half, error)
                return None
            if len(half) == 1:
                return half.start, error
            if (blamed := await self._halve(work, half)) is not None:
                return blamed
        return None


def _is_over(limits: Limits, inputs: Sequence[Input]) -> bool:
    return len(inputs) > limits.inputs or (
        limits.bytes is not None and sum(map(size_of, inputs)) > limits.bytes
    )


def _is_refusal(error: EmbedError) -> bool:
    """Whether the provider disliked what was asked, without saying which input."""
    return (
        isinstance(error, UpstreamRejected)
        and not isinstance(error, UpstreamModelNotFound)
        and position_of(error) is None
    )


def _blame(error: EmbedError, position: int) -> None:
    error.param = f"input[{position}]"
    error.message = f"input[{position}]: {error.message}"
    error.args = (error.message,)
