"""Requests of several callers that travel to a model together, and whose input stands where."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from embedway.errors import EmbedError
from embedway.line import Line
from embedway.positions import placed, position_of
from embedway.types import Attempt, Embedding, EmbedRequest, EmbedResponse, Grant, replace

_SHARED = "shared"
"""Stands for the key where several travel together."""
_SEVERAL = "(several)"
"""Likewise for the project; none is called that."""


class Waiting:
    """A caller's request that waits to travel, with what is known of its answer so far."""

    __slots__ = ("alone", "answer", "attempts", "found", "journey", "key", "request", "terms")

    def __init__(self, request: EmbedRequest, answer: asyncio.Future[EmbedResponse]) -> None:
        self.request = request
        self.key = request.call.grant.key_id
        self.terms = _terms(request)
        self.answer = answer
        self.found: dict[int, Embedding] = {}
        self.attempts: tuple[Attempt, ...] = ()
        self.alone = False
        """Whether it must not travel with others again."""
        self.journey: Journey | None = None

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


def _terms(request: EmbedRequest) -> Hashable:
    """What must be equal to travel together."""
    return (request.params, request.call.terms)


class Journey:
    """Those who travel together, and which input of whom stands where in their request."""

    __slots__ = ("aboard", "seats", "task")

    def __init__(self, aboard: Sequence[Waiting]) -> None:
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
        """Their one request. For several it has a call of its own, with time until the last of
        them must be answered."""
        first = self.aboard[0].request
        inputs = tuple(one.request.inputs[position] for one, position in self.seats)
        if len(self.aboard) == 1:
            return first if inputs == first.inputs else replace(first, inputs=inputs)
        calls = [one.request.call for one in self.aboard]
        call = replace(
            first.call,
            grant=_shared([one.grant for one in calls]),
            # As much as any of them may ask for: nobody loses by travelling with others.
            deadline=max(one.deadline for one in calls),
            retries=max(one.retries for one in calls),
            share=max(one.share for one in calls),
            cache="use",
            fallbacks=(),
            tags=(),
            trace=None,
            app=None,
        )
        return replace(first, inputs=inputs, call=call)

    def positions_of(self, one: Waiting) -> list[int]:
        """Where each input of the joined request stands in that caller's; -1 if it is another's."""
        return [position if owner is one else -1 for owner, position in self.seats]

    def guilty(self, error: EmbedError) -> Waiting | None:
        """Whose input the error names."""
        position = position_of(error)
        if position is None or position >= len(self.seats):
            return None
        return self.seats[position][0]


def _shared(grants: Sequence[Grant]) -> Grant:
    """On whose behalf they travel: nobody's, unless all have one key; but still their project's."""
    keys, projects = {one.key_id for one in grants}, {one.project for one in grants}
    if len(keys) == 1:
        return grants[0]
    project = projects.pop() if len(projects) == 1 else _SEVERAL
    return Grant(key_id=_SHARED, name="several callers", project=project)


class _Wish(NamedTuple):
    """What a key waits for, however many of its requests do."""

    key: str
    terms: Hashable


class Platform:
    """Those who wait to travel: keys take turns, and so does what a key asks for on different
    terms; whoever's turn it is takes along others who ask for the same."""

    def __init__(self) -> None:
        self.line: Line[Waiting] = Line()
        """All of them."""
        self._wishes: Line[_Wish] = Line()
        self._alike: dict[Hashable, Line[Waiting]] = {}
        """By their terms."""
        self.inputs = 0
        """All that they ask for."""

    def join(self, one: Waiting) -> None:
        """Behind the others of the same key."""
        self.line.join(one)
        self._alike.setdefault(one.terms, Line()).join(one)
        self._wishes.join(_Wish(one.key, one.terms))
        self.inputs += len(one.request.inputs)

    def rejoin(self, one: Waiting) -> None:
        """Before all others: it has travelled in vain."""
        self.line.rejoin(one)
        self._alike.setdefault(one.terms, Line()).rejoin(one)
        self._wishes.rejoin(_Wish(one.key, one.terms))
        self.inputs += len(one.request.inputs)

    def leave(self, one: Waiting) -> None:
        """The caller has gone; if he has travelled already, nothing happens."""
        alike = self._alike.get(one.terms)
        if alike is None or one not in alike:
            return
        self.line.leave(one)
        alike.leave(one)
        if not alike.has(one.key):
            self._wishes.leave(_Wish(one.key, one.terms))
        if not alike.length:
            del self._alike[one.terms]
        self.inputs -= len(one.request.inputs)

    def board(self, max_inputs: int) -> list[Waiting]:
        """Those who travel next, of about *max_inputs* inputs; none if all are about to leave."""
        aboard: list[Waiting] = []
        if (wish := self._wishes.first) is None:
            return aboard
        alike, count = self._alike[wish.terms], 0
        alike.prefer(wish.key)
        while (one := alike.first) is not None:
            if one.answer.done():  # he is about to leave
                self.leave(one)
                continue
            count += len(one.missing)
            if aboard and (count > max_inputs or one.alone or aboard[0].alone):
                break
            aboard.append(one)
            # Before they leave: the turn is over, whether or not the key has more.
            self._wishes.pass_on(_Wish(one.key, one.terms))
            alike.pass_on(one)
            self.leave(one)
        return aboard
