"""The answers of the AI SDK's routes as types, as `schemas.py` has the others'."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from embedway.server.schemas import (
    Body,
    Count,
    FailedProviderMetadata,
    GenerationId,
    Price,
    ProviderMetadata,
)


class AiSdkUsage(Body, frozen=True):
    """Tokens of all values."""

    tokens: Count


class AiSdkAnswer(Body, frozen=True):
    """The answer of `…/embedding-model`."""

    embeddings: list[list[float]]
    usage: AiSdkUsage
    providerMetadata: ProviderMetadata


class AiSdkPricing(Body, frozen=True):
    """List prices; the client wants both."""

    input: Price
    output: Price


class AiSdkSpecification(Body, frozen=True):
    """What the client needs to make a model."""

    specificationVersion: Literal["v2", "v3", "v4"]
    provider: Literal["gateway"]
    modelId: str


class AiSdkModel(Body, frozen=True):
    """A model that is served here."""

    id: str
    name: str
    description: str
    pricing: AiSdkPricing
    specification: AiSdkSpecification
    modelType: Literal["embedding"]


class AiSdkConfig(Body, frozen=True):
    """The answer of `…/config`."""

    models: list[AiSdkModel]


class AiSdkErrorDetail(Body, frozen=True):
    """What happened and what to do; `type` tells errors apart."""

    message: str
    type: str
    param: str | dict[str, Any] | None
    code: str
    doc_url: str
    provider: str | UnsetType = UNSET


class AiSdkError(Body, frozen=True):
    """Every error of the AI SDK's routes."""

    error: AiSdkErrorDetail
    generationId: GenerationId
    providerMetadata: FailedProviderMetadata | UnsetType = UNSET
