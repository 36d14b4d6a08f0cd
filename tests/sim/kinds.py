"""The models of a simulation: with and without a tokenizer, free and paid, native and cut widths,
with input types."""

from __future__ import annotations

from msgspec import Struct


class Kind(Struct, frozen=True, kw_only=True, eq=False):
    """A model, and what its providers do with it."""

    model: str
    upstream: str
    provider: str
    """The adapter that speaks to it."""
    widths: tuple[int, ...]
    """The full one first."""
    price: int
    """Picodollars per token."""
    input_types: tuple[str | None, ...] = (None,)
    takes_user: bool = True
    """Whether its provider is told the caller's user."""
    is_counted: bool = False
    """Whether the gateway has its tokenizer."""
    is_cut: bool = False
    """Whether shorter vectors are cut from the full one."""

    def __repr__(self) -> str:
        return self.model

    def asked_width(self, dimensions: int | None) -> int:
        """The width that the provider is asked for."""
        return self.widths[0] if self.is_cut or dimensions is None else dimensions

    def task(self, input_type: str | None) -> str:
        """The provider's own word for the input type."""
        if len(self.input_types) == 1:
            return ""
        return "query" if input_type == "query" else "passage"


KINDS = (
    Kind(
        model="openai/text-embedding-3-small",
        upstream="text-embedding-3-small",
        provider="openai",
        widths=(1536, 8, 24),
        price=20_000,
        is_counted=True,
    ),
    Kind(  # costs nothing: its callers travel together though nobody can count their tokens
        model="nvidia/llama-nemotron-embed-1b-v2",
        upstream="nvidia/llama-nemotron-embed-1b-v2",
        provider="nvidia",
        widths=(2048, 384),
        price=0,
        input_types=(None, "query", "document"),
        takes_user=False,
    ),
    Kind(model="rack/free", upstream="free", provider="openai-compatible", widths=(16,), price=0),
    Kind(  # nobody can count its tokens: each caller goes alone
        model="rack/paid",
        upstream="paid",
        provider="openai-compatible",
        widths=(12,),
        price=100_000,
    ),
    Kind(
        model="rack/cut",
        upstream="cut",
        provider="openai-compatible",
        widths=(32, 5, 8),
        price=50_000,
        is_cut=True,
    ),
    Kind(
        model="rack/free-cut",
        upstream="free-cut",
        provider="openai-compatible",
        widths=(32, 4, 8),
        price=0,
        is_cut=True,
    ),
)
