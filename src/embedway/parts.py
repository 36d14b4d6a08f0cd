"""Where to cut a list of inputs, so that each part fits into one upstream request."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from embedway.tokens import can_count, count_tokens
from embedway.types import Input

_LEAST_BYTES_PER_TOKEN = 3
"""What a token has at least in most texts; only used where no tokenizer is known. A part that
turns out to be too large is refused and cut again."""
_BYTES_PER_ID = 7
"""A token id in JSON, with its comma."""
_MARKS = 2
_LONGEST_COUNTED = 250_000
"""Characters. No model takes texts that long (the longest limit known is 32,000 tokens), counting
them takes a while, and beyond a million the tokenizer refuses."""


class Limits(Struct, frozen=True, kw_only=True):
    """The most that one upstream request may hold; None: no such limit is known."""

    inputs: int
    tokens: int | None = None
    bytes: int | None = None
    tokenizer: str | None = None
    """How tokens are counted, as the catalogue names it."""

    def weigh(self, value: Input) -> int:
        """The tokens of an input, or about as many."""
        if not isinstance(value, str):
            return len(value)
        if len(value) <= _LONGEST_COUNTED:
            counted = count_tokens(value, self.tokenizer)
            if counted is not None:
                return counted
        return -(-size_of(value) // _LEAST_BYTES_PER_TOKEN)

    def must_count(self, inputs: Sequence[Input]) -> bool:
        """Whether a plan for these needs the tokenizer, which takes 10 ms for 100,000
        characters."""
        return can_count(self.tokenizer) and self.may_exceed(sum(map(size_of, inputs)))

    def may_exceed(self, size: int) -> bool:
        """Whether so many bytes may be too many tokens: no token is shorter than a byte."""
        return self.tokens is not None and size > self.tokens


def size_of(value: Input) -> int:
    """About how many bytes an input takes in a request."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    return len(value) * _BYTES_PER_ID


def most_tokens(inputs: Sequence[Input], tokenizer: str | None = None) -> int:
    """As many tokens as these can be at most. With the *tokenizer*, as many as they are: that takes
    a while for long ones."""
    limits = Limits(inputs=len(inputs), tokenizer=tokenizer)
    if can_count(tokenizer):
        return sum([limits.weigh(value) for value in inputs])
    # No token is shorter than a byte, and models put a beginning and an end to each text.
    return sum([size_of(v) + _MARKS if isinstance(v, str) else len(v) for v in inputs])


def plan(inputs: Sequence[Input], limits: Limits) -> list[range]:
    """Parts of consecutive inputs, each as long as the limits allow and at least one input."""
    sizes = [size_of(value) for value in inputs]
    tokens = [0] * len(inputs)
    if limits.may_exceed(sum(sizes)):
        tokens = [limits.weigh(value) for value in inputs]
    parts, start, size, weight = [], 0, 0, 0
    for position in range(len(inputs)):
        size += sizes[position]
        weight += tokens[position]
        is_full = (
            position - start >= limits.inputs
            or (limits.tokens is not None and weight > limits.tokens)
            or (limits.bytes is not None and size > limits.bytes)
        )
        if is_full and position > start:
            parts.append(range(start, position))
            start, size, weight = position, sizes[position], tokens[position]
    parts.append(range(start, len(inputs)))
    return parts
