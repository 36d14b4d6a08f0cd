"""A response together with all that an answer says about it."""

from __future__ import annotations

from msgspec import Struct

from embedway.catalog import Model
from embedway.spaces import space_of
from embedway.types import CACHED, CacheMode, EmbedResponse, Space


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """A response with all that the blocks around the vectors say."""

    response: EmbedResponse
    asked: str
    """The model's name as the caller wrote it."""
    is_bare: bool
    """Whether he wrote it without creator."""
    also: tuple[str, ...]
    """What else that name could have meant."""
    requested_model: str
    """Its canonical name."""
    model: Model
    """The model that served."""
    accounts: tuple[str, ...]
    """The accounts that serve it."""
    cost: int
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
    def tokens(self) -> int:
        """Tokens of all inputs."""
        return sum(embedding.tokens for embedding in self.response.embeddings)

    @property
    def hits(self) -> int:
        """How many embeddings were known."""
        return sum(embedding.source == CACHED for embedding in self.response.embeddings)

    @property
    def served_as(self) -> str:
        """The model that served, in the form the caller used."""
        return self.model.bare_name if self.is_bare else self.model.id

    @property
    def provider(self) -> str:
        """The account that served, or "cache" if every vector was known."""
        sources = (e.source for e in self.response.embeddings if e.source != CACHED)
        return next(sources, CACHED)

    @property
    def space(self) -> Space:
        """The space of the vectors."""
        return space_of(self.model, self.response.params)
