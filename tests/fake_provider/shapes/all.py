"""Which provider is asked stands first in the path; here is who answers."""

from __future__ import annotations

from tests.fake_provider.exchange import Shape
from tests.fake_provider.shapes.azure import AZURE
from tests.fake_provider.shapes.bedrock import BEDROCK
from tests.fake_provider.shapes.cohere import COHERE
from tests.fake_provider.shapes.google import GOOGLE
from tests.fake_provider.shapes.jina import JINA
from tests.fake_provider.shapes.mistral import MISTRAL
from tests.fake_provider.shapes.nomic import NOMIC
from tests.fake_provider.shapes.ollama import OLLAMA
from tests.fake_provider.shapes.openai import ROWS
from tests.fake_provider.shapes.tei import TEI
from tests.fake_provider.shapes.vertex import VERTEX
from tests.fake_provider.shapes.voyage import VOYAGE

_NATIVE: tuple[Shape, ...] = (
    AZURE,
    BEDROCK,
    COHERE,
    GOOGLE,
    JINA,
    MISTRAL,
    NOMIC,
    OLLAMA,
    TEI,
    VERTEX,
    VOYAGE,
)
SHAPES: dict[str, Shape] = {shape.name: shape for shape in (*ROWS, *_NATIVE)}

BASE_PATHS: dict[str, str] = {
    # What each provider's own SDK calls its base URL has this path.
    **{row.name: f"/{row.name}{row.path.removesuffix('/embeddings')}" for row in ROWS},
    **{shape.name: f"/{shape.name}" for shape in _NATIVE},
    "voyage": "/voyage/v1",
    "jina": "/jina/v1",
}
