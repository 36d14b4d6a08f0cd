"""One question for one text, however many wait for it; doubles within a request are asked once.

Above `batch`: no question holds a text twice. A question belongs to nobody: it runs in a task of
its own and ends early only when the last one who waits for it has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from embedway.cache_key import Scope, scope_of
from embedway.cached import CountCache
from embedway.errors import DeadlineExceeded, EmbedError, UpstreamTimeout
from embedway.frames import without_frames
from embedway.positions import copied, is_about_request, placed, position_of
from embedway.types import (
    Attempt,
    Embedder,
    Embedding,
    EmbedRequest,
    EmbedResponse,
    Input,
    replace,
)

_ROUNDS = 3
"""How often a caller may join others' questions; then he asks alone, and nothing of theirs can
keep him waiting."""


class _Question:
    """Some texts on their way, and how many wait for them."""

    __slots__ = ("call", "inputs", "is_awaited", "task", "terms", "unpaid", "waiting")

    def __init__(
        self, terms: Hashable, request: EmbedRequest, task: asyncio.Task[EmbedResponse]
    ) -> None:
        self.terms = terms
        self.inputs = {value: position for position, value in enumerate(request.inputs)}
        self.call = request.call
        self.task = task
        self.waiting = 0
        self.is_awaited = True
        """Whether its asker still waits, who makes known what he hears."""
        self.unpaid = set(self.inputs)
        """Texts whose cost nobody has taken yet: the first who collects one pays for it."""

    @property
    def has_failed(self) -> bool:
        """Whether it is over, and was not answered."""
        task = self.task
        return task.done() and (task.cancelled() or task.exception() is not None)

    def find(self, value: Input) -> Embedding | None:
        """The embedding of one of its texts, None if it failed."""
        position = self.inputs[value]
        if (error := self.error) is not None:
            return error.finished.get(position)
        return self.task.result().embeddings[position]

    def collect(self, value: Input) -> Embedding:
        """The same, which must be there, for a caller who takes it away: free if it is paid."""
        found = self.find(value)
        assert found is not None, "only what was found is collected"
        if value not in self.unpaid:
            return replace(found, cost=0)
        self.unpaid.remove(value)
        return found

    @property
    def error(self) -> EmbedError | None:
        """Why it failed. Raises what is a bug, and cancellation."""
        error = None if self.task.cancelled() else self.task.exception()
        if isinstance(error, EmbedError):
            return error
        self.task.result()
        return None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What was tried for it."""
        return error.attempts if (error := self.error) else self.task.result().attempts


@dataclass(frozen=True, eq=False)
class Coalesce:
    """Joins a caller to the questions that are already on their way to *inner*."""

    inner: Embedder
    scope: Scope
    count: CountCache = field(repr=False)
    _asked: dict[Hashable, dict[Input, _Question]] = field(
        init=False, repr=False, default_factory=dict
    )
    """By all that must be equal to share a question: text to question."""

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        call, answers, rounds = request.call, _Answers(request), _ROUNDS
        terms = (request.params, scope_of(call.grant, self.scope), call.terms)
        missing = tuple(dict.fromkeys(request.inputs))
        collapsed = len(request.inputs) - len(missing)
        while missing:
            joined = self._join(terms, missing) if rounds else {}
            fresh = tuple([value for value in missing if value not in joined])
            if collapsed := collapsed + len(joined):
                self.count("collapsed", collapsed)
            own = self._ask(terms, request, fresh) if fresh else None
            asked: dict[_Question, list[Input]] = {own: [*fresh]} if own else {}
            for value, question in joined.items():
                asked.setdefault(question, []).append(value)
            try:
                await self._wait(asked)
            finally:
                if own:
                    self._let_go(own)
            if own and own.waiting == 1 and len(fresh) == len(request.inputs):
                return own.task.result()  # nobody else had a part in it
            missing = answers.hear(asked, own)
            collapsed, rounds = 0, rounds - 1
        return answers.response()

    def _join(self, terms: Hashable, inputs: Iterable[Input]) -> dict[Input, _Question]:
        asked = self._asked.get(terms)
        if asked is None:
            return {}
        return {
            value: question
            for value in inputs
            if (question := asked.get(value)) is not None and not question.has_failed
        }

    def _ask(self, terms: Hashable, request: EmbedRequest, inputs: tuple[Input, ...]) -> _Question:
        if len(inputs) < len(request.inputs):
            request = replace(request, inputs=inputs)
        task = asyncio.create_task(self._run(request))
        question = _Question(terms, request, task)
        self._asked.setdefault(terms, {}).update(dict.fromkeys(inputs, question))
        task.add_done_callback(lambda _: self._end(question))
        return question

    async def _run(self, request: EmbedRequest) -> EmbedResponse:
        return await self.inner(request)

    def _let_go(self, question: _Question) -> None:
        """Its asker goes on, and up to where the answer is kept nobody else runs in between."""
        question.is_awaited = False
        if question.task.done():
            self._forget(question)

    def _end(self, question: _Question) -> None:
        # Until its asker has heard the answer nobody else knows it: who comes now joins him still.
        if question.has_failed or not question.is_awaited:
            self._forget(question)
        # Seen: nobody may be left who looks at it.
        error = None if question.task.cancelled() else question.task.exception()
        if isinstance(error, EmbedError):
            without_frames(error)

    def _forget(self, question: _Question) -> None:
        """From here on nobody joins it."""
        asked = self._asked.get(question.terms, {})
        for value in question.inputs:
            if asked.get(value) is question:
                del asked[value]
        if not asked:
            self._asked.pop(question.terms, None)

    async def _wait(self, questions: Collection[_Question]) -> None:
        """Until all are answered. Whoever leaves as the last one ends the question."""
        for question in questions:
            question.waiting += 1
        try:
            await asyncio.wait([question.task for question in questions])
        except asyncio.CancelledError:
            for question in questions:
                question.waiting -= 1
            left = [question for question in questions if not question.waiting]
            for question in left:
                self._forget(question)
                question.task.cancel()
            if left:
                await asyncio.wait([question.task for question in left])
            raise


class _Answers:
    """What a caller has heard so far. He takes it away, and pays, only when he goes: if he is
    cancelled before, somebody else pays."""

    def __init__(self, request: EmbedRequest) -> None:
        self.request = request
        self.known: dict[Input, _Question] = {}
        self.attempts: tuple[Attempt, ...] = ()

    def hear(
        self, asked: Mapping[_Question, Sequence[Input]], own: _Question | None
    ) -> tuple[Input, ...]:
        """These questions are over; returns the texts to ask again. Raises the error that ends it
        for this caller."""
        for question, values in asked.items():
            self.attempts += question.attempts
            self.known.update((v, question) for v in values if question.find(v) is not None)
        again = []
        for question, values in asked.items():
            if (error := question.error) is None:
                continue
            for value in values:
                if value in self.known:
                    continue
                if question is own or _is_shared(error, question, value, self.request):
                    raise self.failure(error, question)
                again.append(value)
        return tuple(again)

    def response(self) -> EmbedResponse:
        """The whole answer; a double costs nothing."""
        found = [self.known[value].collect(value) for value in self.request.inputs]
        return EmbedResponse(
            params=self.request.params, embeddings=tuple(found), attempts=self.attempts
        )

    def failure(self, error: EmbedError, question: _Question) -> EmbedError:
        """The error of a question as it is in the caller's request."""
        stand = {value: i for i, value in reversed(list(enumerate(self.request.inputs)))}
        told = placed(copied(error), [stand.get(value, -1) for value in question.inputs])
        told.attempts = self.attempts
        told.finished = {stand[value]: of.collect(value) for value, of in self.known.items()}
        return told


def _is_shared(error: EmbedError, question: _Question, value: Input, request: EmbedRequest) -> bool:
    """Whether the error of somebody's question holds for a caller who has joined it for *value*;
    asking himself may help where another text was to blame, or the other's time was over and his
    is not."""
    if is_about_request(error):
        if (blamed := position_of(error)) is not None:
            return blamed == question.inputs[value]
        return question.inputs.keys() <= set(request.inputs)
    asked, own = question.call, request.call
    if asked.retries < own.retries or asked.share < own.share:
        return False  # it was not tried as often as he may ask, or given as much time
    is_late = isinstance(error, (DeadlineExceeded, UpstreamTimeout))
    return not is_late or asked.deadline >= own.deadline
