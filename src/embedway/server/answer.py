"""A response together with all that an answer says about it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from embedway.catalog import Model
from embedway.types import CACHED, CacheMode, Embedding, EmbedResponse, Plan, Space


class Totals(Struct, frozen=True, gc=False):
    """What is said of all embeddings of an answer together."""

    tokens: int
    cost: int
    """Picodollars."""
    hits: int
    """How many embeddings were known."""
    provider: str
    """The account that served, or "cache" if every vector was known."""
    is_any_marked: bool
    """Whether the tokens of one are estimated, or its input was cut, or it is a mean."""


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """A response with all that the blocks around the vectors say."""

    response: EmbedResponse
    totals: Totals
    space: Space
    """The space of the vectors."""
    plan: Plan
    is_bare: bool
    """Whether the caller wrote it without creator."""
    requested_model: str
    """Its canonical name."""
    model: Model
    """The model that served."""
    market_cost: int
    """Picodollars."""
    id: str
    request_id: str
    """What goes into `x-request-id`: the caller's own id, if he sent a sound one."""
    latency_ms: int
    cache: CacheMode
    is_kept: bool
    """Whether what was not known is known from now on."""

    @property
    def served_as(self) -> str:
        """The model that served, in the form the caller used."""
        return self.model.bare_name if self.is_bare else self.model.id

    @property
    def tokens(self) -> int:
        """Tokens of all inputs."""
        return self.totals.tokens

    @property
    def provider(self) -> str:
        """The account that served, or "cache" if every vector was known."""
        return self.totals.provider


def sum_up(embeddings: Sequence[Embedding]) -> Totals:
    """Once for each answer, in one pass: up to 2,048 embeddings are gone through."""
    tokens = cost = hits = 0
    provider, is_any_marked = CACHED, False
    for one in embeddings:
        tokens += one.tokens
        if one.source == CACHED:
            hits += 1
        else:
            cost += one.cost
            if provider == CACHED:
                provider = one.source
        if one.is_estimated or one.is_truncated or one.is_averaged:
            is_any_marked = True
    return Totals(tokens, cost, hits, provider, is_any_marked)
