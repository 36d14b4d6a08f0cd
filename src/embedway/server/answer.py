"""A response together with all that an answer says about it."""

from __future__ import annotations

from msgspec import Struct

from embedway.catalog import Model
from embedway.options import is_raw
from embedway.types import CacheMode, EmbedParams, EmbedResponse, Space

CACHED = "cache"
"""The source of an embedding that was known."""


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
        params = self.response.params
        return Space(
            model=self.model.space_name,
            dimensions=params.dimensions or self.model.dimensions.default,
            revision=self._revision(params),
            input_type=(params.input_type or "") if self.model.input_type_in_space else "",
        )

    def _revision(self, params: EmbedParams) -> str:
        """What keeps vectors of one model apart: "l2" where we made the length 1 of those that come
        otherwise, "raw" where the caller wants them as they come."""
        if is_raw(params.options):
            return "raw"
        width, full = params.dimensions, self.model.dimensions.default
        is_cut = width is not None and width != full
        normalised = self.model.normalised
        if normalised == "never" or (normalised == "only_full" and is_cut):
            return "l2"
        return self.model.revision or ""
