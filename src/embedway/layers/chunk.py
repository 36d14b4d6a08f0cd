"""What the operator wants done with an input that is too long: its beginning only, or the mean of
its pieces.

Above `cache`: what is kept and billed are the pieces, each under its own text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from embedway.errors import EmbedError, InputTooLong, UpstreamInputTooLong
from embedway.parts import size_of
from embedway.pieces import CountTokens, cut, first_piece
from embedway.positions import placed, position_of
from embedway.recent_cuts import RecentCuts
from embedway.types import (
    CACHED,
    Attempt,
    Embedder,
    Embedding,
    EmbedRequest,
    EmbedResponse,
    Input,
    replace,
)
from embedway.vectors import fault, weighted_mean

_CHARACTERS_PER_TOKEN = 4
"""Of English text; the first guess where no tokenizer is known."""
_SHRINKING = 0.75
"""How much shorter the next guess is when the provider has refused one."""
_MOST_TOKENS_PER_CHARACTER = 8
"""No tokenizer makes more: what is refused though it has fewer characters is not too long."""


class _Piece:
    """A part of an input, or all of it, and its embedding once there is one."""

    __slots__ = ("made", "owner", "value")

    def __init__(self, owner: int, value: Input) -> None:
        self.owner = owner
        """The position of the input in the caller's request."""
        self.value = value
        self.made: Embedding | None = None


class _Work:
    """One request, and what has become of its pieces so far."""

    def __init__(self, request: EmbedRequest, pieces: Sequence[Sequence[Input]]) -> None:
        self.request = request
        self.pieces = [_Piece(owner, one) for owner, many in enumerate(pieces) for one in many]
        self.asked = self.pieces
        self.recut_owners: set[int] = set()
        """The positions of inputs that were refused and cut again."""
        self.attempts: tuple[Attempt, ...] = ()

    def ask(self) -> EmbedRequest:
        """The request for what is still missing."""
        self.asked = [piece for piece in self.pieces if piece.made is None]
        inputs = tuple(piece.value for piece in self.asked)
        return (
            self.request if inputs == self.request.inputs else replace(self.request, inputs=inputs)
        )

    def keep(self, error: EmbedError) -> None:
        """Take what was embedded before the error: it is paid for, and not asked for again."""
        for position, embedding in error.finished.items():
            self.asked[position].made = embedding

    def recut(self, refused: _Piece, length: int, policy: str) -> None:
        """Make what is missing of that input, and of its doubles, no longer than *length*."""
        value, pieces = self.request.inputs[refused.owner], []
        for piece in self.pieces:
            is_short = piece.made is not None or len(piece.value) <= length
            if is_short or self.request.inputs[piece.owner] != value:
                pieces.append(piece)
                continue
            self.recut_owners.add(piece.owner)
            if policy == "truncate":
                pieces.append(_Piece(piece.owner, piece.value[:length]))
            else:
                pieces += [_Piece(piece.owner, one) for one in cut(piece.value, length, len)]
        self.pieces = pieces

    def cuts(self) -> Iterator[tuple[Input, list[Input]]]:
        """The inputs that were refused, and into what they had to be cut."""
        for owner in self.recut_owners:
            own = [piece.value for piece in self.pieces if piece.owner == owner]
            yield self.request.inputs[owner], own

    def response(self, response: EmbedResponse) -> EmbedResponse:
        """The whole answer."""
        for piece, embedding in zip(self.asked, response.embeddings, strict=True):
            piece.made = embedding
        joined = self._joined()
        self.attempts += response.attempts
        for position, embedding in joined.items():
            if embedding.is_averaged and fault(embedding.vector, len(embedding.vector) // 4):
                error = InputTooLong(
                    f"input[{position}] is too long for one vector, and its pieces have no mean: "
                    "they cancel each other out. Split the text into shorter ones.",
                    param=f"input[{position}]",
                )
                error.attempts = self.attempts
                error.finished = {i: one for i, one in joined.items() if not one.is_averaged}
                raise error
        return replace(response, embeddings=tuple(joined.values()), attempts=self.attempts)

    def failure(self, error: EmbedError) -> EmbedError:
        """The error as it is in the caller's request, where pieces have no vectors of their own."""
        told = placed(error, [piece.owner for piece in self.asked])
        told.attempts = self.attempts + error.attempts
        told.finished = self._joined()
        return told

    def _joined(self) -> dict[int, Embedding]:
        """The embeddings of the inputs whose pieces are all embedded, by position."""
        pieces: dict[int, list[_Piece]] = {}
        for piece in self.pieces:
            pieces.setdefault(piece.owner, []).append(piece)
        return {
            owner: _join(self.request.inputs[owner], [piece.value for piece in many], made)
            for owner, many in pieces.items()
            if len(made := [piece.made for piece in many if piece.made is not None]) == len(many)
        }


@dataclass(frozen=True, eq=False)
class Chunk:
    """Cuts inputs of more than *max_tokens* tokens. Without *count* (no tokenizer is known), or
    where it was mistaken, the refusal of a piece tells that it is still too long."""

    inner: Embedder
    policy: Literal["truncate", "mean"]
    max_tokens: int
    count: CountTokens | None = field(default=None, repr=False)
    _cuts: RecentCuts = field(init=False, repr=False, default_factory=RecentCuts)

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        known = [self._cuts.find(value) for value in request.inputs]
        pieces: Sequence[Sequence[Input]] = [
            found or [value] for found, value in zip(known, request.inputs, strict=True)
        ]
        if any(len(one) == 1 and self._may_be_long(one[0]) for one in pieces):
            # Counting some 100,000 characters takes milliseconds, again and again.
            pieces = await asyncio.to_thread(self._cut_all, pieces)
        work = _Work(request, pieces)
        while True:
            asked = work.ask()
            try:
                response = await self.inner(asked)
            except EmbedError as error:
                guess = self._guess(error, work.asked)
                if guess is None and asked is request:
                    raise
                work.keep(error)
                if guess is None:
                    raise work.failure(error) from None
                work.recut(*guess, self.policy)
                work.attempts += error.attempts
                continue
            for value, cut_into in work.cuts():
                self._cuts.note(value, cut_into)
            return response if asked is request else work.response(response)

    def _may_be_long(self, value: Input) -> bool:
        """Whether it is worth counting: hardly a token is shorter than a byte."""
        if isinstance(value, str):
            return self.count is not None and size_of(value) > self.max_tokens
        return len(value) > self.max_tokens

    def _cut_all(self, inputs: Sequence[Sequence[Input]]) -> list[Sequence[Input]]:
        """What is not in pieces yet."""
        return [one if len(one) > 1 else self._cut(one[0]) for one in inputs]

    def _cut(self, value: Input) -> list[Input]:
        """The input in pieces, itself if it is not too long."""
        if not self._may_be_long(value):
            return [value]
        count = len if self.count is None else self.count
        if self.policy == "truncate":
            return [first_piece(value, self.max_tokens, count)]
        return cut(value, self.max_tokens, count)

    def _guess(self, error: EmbedError, asked: Sequence[_Piece]) -> tuple[_Piece, int] | None:
        """Which piece is to be cut, and to how many characters (ids, of a list of ids); None:
        nothing helps."""
        position = position_of(error)
        is_too_long = isinstance(error, (InputTooLong, UpstreamInputTooLong))
        if not is_too_long or position is None:
            return None
        piece = asked[position]
        first = self.max_tokens * (_CHARACTERS_PER_TOKEN if isinstance(piece.value, str) else 1)
        length = min(first, int(len(piece.value) * _SHRINKING))
        return (piece, length) if length * _MOST_TOKENS_PER_CHARACTER > self.max_tokens else None


def _join(value: Input, pieces: Sequence[Input], made: Sequence[Embedding]) -> Embedding:
    """The embedding of one input out of those of its pieces."""
    if len(made) > 1:
        return _mean(made)
    return made[0] if pieces[0] == value else replace(made[0], is_truncated=True)


def _mean(embeddings: Sequence[Embedding]) -> Embedding:
    """The mean of one input's pieces, weighted by tokens, of length 1 again."""
    # No piece has no tokens: a provider that reports 0 has not counted.
    weights = [max(1, one.tokens) for one in embeddings]
    return Embedding(
        weighted_mean([one.vector for one in embeddings], weights),
        sum(one.tokens for one in embeddings),
        next((one.source for one in embeddings if one.source != CACHED), CACHED),
        sum(one.cost for one in embeddings),
        any(one.is_estimated for one in embeddings),
        any(one.is_truncated for one in embeddings),
        is_averaged=True,
    )
