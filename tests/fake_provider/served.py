"""The models that the fake serves, by the names their providers know them by.

Written from the providers' pages (docs/providers.md names them), not from our catalogue: what the
catalogue has wrong shall show. Self-hosted servers serve any model of 16 numbers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from tests.fake_provider.exchange import refuse
from tests.fake_provider.vectors import LENGTH_UNLESS_ONE


@dataclass(frozen=True)
class Model:
    """One model. allowed: which dimensions may be asked for; empty: none, not even its own."""

    width: int
    allowed: Collection[int] = ()
    unit: Literal["always", "full width", "never"] = "always"

    def dimensions(self, asked: int | None, status: int = 400) -> int:
        """The width of the vectors. Raises Refused for one the model does not have."""
        if asked is None:
            return self.width
        if type(asked) is not int or asked not in self.allowed:
            refuse(status, f"This model does not support specifying dimensions: {asked!r}.")
        return asked

    def length(self, dimensions: int) -> float:
        """The L2 norm of its vectors."""
        is_unit = self.unit == "always" or (self.unit == "full width" and dimensions == self.width)
        return 1.0 if is_unit else LENGTH_UNLESS_ONE


ANY = Model(16, range(1, 17))
"""What a self-hosted server serves, whatever it is called."""

_V5 = Model(2048, (256, 512, 768, 1024, 1536, 2048))
_V4 = Model(1536, (256, 512, 1024, 1536))
_SERIES_4 = Model(1024, (256, 512, 1024, 2048))
_GECKO = Model(768, range(1, 769))
_SMALL, _LARGE = Model(1536, range(1, 1537)), Model(3072, range(1, 3073))

MODELS: dict[str, dict[str, Model]] = {
    "openai": {
        "text-embedding-3-small": _SMALL,
        "text-embedding-3-large": _LARGE,
        "text-embedding-ada-002": Model(1536),
    },
    "azure": {"my-deployment": _SMALL, "my-ada": Model(1536)},
    "google": {
        "gemini-embedding-001": Model(3072, range(128, 3073), unit="full width"),
        "gemini-embedding-2": Model(3072, range(128, 3073)),
    },
    "vertex": {
        "gemini-embedding-001": Model(3072, range(128, 3073), unit="full width"),
        "gemini-embedding-2": Model(3072, range(128, 3073)),
        "text-embedding-004": _GECKO,
        "text-embedding-005": _GECKO,
        "text-multilingual-embedding-002": _GECKO,
    },
    "cohere": {
        "embed-v5.0-pro": _V5,
        "embed-v5.0-fast": _V5,
        "embed-v4.0": _V4,
        "embed-english-v3.0": Model(1024),
        "embed-multilingual-v3.0": Model(1024),
        "embed-english-light-v3.0": Model(384),
        "embed-multilingual-light-v3.0": Model(384),
    },
    "mistral": {"mistral-embed": Model(1024), "codestral-embed": Model(1536, range(1, 3073))},
    "voyage": {
        **dict.fromkeys(("voyage-4-large", "voyage-4", "voyage-4-lite"), _SERIES_4),
        **dict.fromkeys(("voyage-code-4", "voyage-3.5", "voyage-3.5-lite"), _SERIES_4),
        **dict.fromkeys(("voyage-3-large", "voyage-code-3"), _SERIES_4),
        **dict.fromkeys(("voyage-finance-2", "voyage-law-2"), Model(1024)),
        "voyage-multilingual-2": Model(1024),
        "voyage-code-2": Model(1536),
    },
    "jina": {
        "jina-embeddings-v5-text-small": Model(1024, range(32, 1025)),
        "jina-embeddings-v4": Model(2048, range(128, 2049)),
        "jina-embeddings-v3": Model(1024, range(32, 1025)),
    },
    "nomic": {"nomic-embed-text-v1.5": Model(768, range(64, 769))},
    "bedrock": {
        "amazon.titan-embed-text-v1": Model(1536, unit="never"),
        "amazon.titan-embed-text-v2:0": Model(1024, (256, 512, 1024)),
        "amazon.nova-2-multimodal-embeddings-v1:0": Model(3072, (256, 384, 1024, 3072)),
        "cohere.embed-english-v3": Model(1024),
        "cohere.embed-multilingual-v3": Model(1024),
        "cohere.embed-v4:0": _V4,
    },
    "together": {
        "intfloat/multilingual-e5-large-instruct": Model(1024),
        "BAAI/bge-base-en-v1.5": Model(768),
    },
    "fireworks": {
        "nomic-ai/nomic-embed-text-v1.5": Model(768, range(64, 769)),
        "accounts/fireworks/models/qwen3-embedding-8b": Model(4096, range(32, 4097)),
    },
    "deepinfra": {"Qwen/Qwen3-Embedding-0.6B": Model(1024, range(32, 1025))},
    "nvidia": {"nvidia/llama-nemotron-embed-1b-v2": Model(2048, (384, 512, 768, 1024, 2048))},
    "openrouter": {"openai/text-embedding-3-small": _SMALL},
    "vercel": {"openai/text-embedding-3-small": _SMALL},
}


def find(provider: str, name: str) -> Model | None:
    """The model, or None if the provider does not have it."""
    if provider not in MODELS:
        return ANY
    return MODELS[provider].get(name)
