"""The table of providers. A look-alike of OpenAI is a row in `openai.py`."""

from __future__ import annotations

from embedway.provider import Provider
from embedway.providers.azure import AZURE
from embedway.providers.bedrock import BEDROCK
from embedway.providers.cohere import COHERE
from embedway.providers.google import GOOGLE
from embedway.providers.jina import JINA
from embedway.providers.mistral import MISTRAL
from embedway.providers.nomic import NOMIC
from embedway.providers.ollama import OLLAMA
from embedway.providers.openai import ROWS
from embedway.providers.tei import TEI
from embedway.providers.vertex import VERTEX
from embedway.providers.voyage import VOYAGE

PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        *ROWS,
        AZURE,
        GOOGLE,
        VERTEX,
        COHERE,
        MISTRAL,
        VOYAGE,
        JINA,
        NOMIC,
        BEDROCK,
        OLLAMA,
        TEI,
    )
}
