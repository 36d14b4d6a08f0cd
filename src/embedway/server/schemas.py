"""The bodies of the answers as types: for `/openapi.json`, and for the tests that hold real
answers to them. The answers themselves are written as bytes in `answer.py`.

No field is there that is not named here; a field that may be missing is `UnsetType`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Usd = Annotated[str, Meta(pattern=r"^-?[0-9]+(\.[0-9]*[1-9])?$", description="USD.")]
"""Decimal text without exponent or trailing zeros."""
Price = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]*[1-9])?$", description="USD per token.")]
Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[int, Meta(ge=0, description="Since 1970, UTC.")]
_ULID = "[0-9A-HJKMNP-TV-Z]{26}$"
GenerationId = Annotated[str, Meta(pattern=f"^gen_{_ULID}")]
RequestId = Annotated[str, Meta(pattern=f"^req_{_ULID}")]


class Body(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all answers: closed."""


class EmbeddingItem(Body, frozen=True):
    """One vector: a list of numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: Count
    embedding: list[float] | str


class Usage(Body, frozen=True):
    """Tokens of all inputs, cached or not."""

    prompt_tokens: Count
    total_tokens: Count


class ProviderAttempt(Body, frozen=True):
    """One try at one deployment."""

    provider: str
    providerApiModelId: str
    credentialType: Literal["system", "byok"]
    success: bool
    startTime: Milliseconds
    endTime: Milliseconds
    statusCode: int | UnsetType = UNSET
    error: str | UnsetType = UNSET


class ModelAttempt(Body, frozen=True):
    """All tries at one model; none if it was passed over, and then `error` says why."""

    modelId: str
    canonicalSlug: str
    success: bool
    providerAttemptCount: Count
    providerAttempts: list[ProviderAttempt]
    error: str | UnsetType = UNSET


class Routing(Body, frozen=True):
    """What was asked, what was planned, and what was tried."""

    originalModelId: str
    resolvedProvider: str
    resolvedProviderApiModelId: str
    fallbacksAvailable: list[str]
    planningReasoning: str
    canonicalSlug: str
    finalProvider: str
    modelAttemptCount: Count
    modelAttempts: list[ModelAttempt]
    totalProviderAttemptCount: Count


class GatewayMetadata(Body, frozen=True):
    """What the gateway did, and what it cost: billed, and at list price."""

    routing: Routing
    cost: Usd
    marketCost: Usd
    generationId: GenerationId


class ProviderMetadata(Body, frozen=True):
    """The AI gateway's block; empty where the operator has switched it off."""

    gateway: GatewayMetadata | UnsetType = UNSET


class GateflowCost(Body, frozen=True):
    """USD."""

    total: float


class GateflowCache(Body, frozen=True):
    """How many inputs were known."""

    status: Literal["hit", "miss", "partial", "bypass"]
    hits: Count
    misses: Count


class GateflowAttempt(Body, frozen=True):
    """One try, as GateFlow tells it; a model that was skipped has no provider."""

    model: str
    status: Literal["success", "failed", "skipped"]
    provider: str | UnsetType = UNSET
    error: str | UnsetType = UNSET


class GateflowRouting(Body, frozen=True):
    """What was tried, where something failed; and why another model served than was asked for."""

    requested_model: str
    fallback_used: bool
    attempts: list[GateflowAttempt]
    selected_model: str | UnsetType = UNSET
    fallback_reason: Literal["provider_error", "model_unavailable"] | UnsetType = UNSET


class Gateflow(Body, frozen=True):
    """GateFlow's block, with ours. Compare two vectors only if their `space` is equal."""

    request_id: RequestId
    provider: str
    latency_ms: Count
    cost: GateflowCost
    cache: GateflowCache
    space: str
    dimensions: Annotated[int, Meta(ge=1)]
    input_type: str | UnsetType = UNSET
    usage_estimated: bool | UnsetType = UNSET
    truncated: list[Count] | UnsetType = UNSET
    routing: GateflowRouting | UnsetType = UNSET


class EmbeddingsAnswer(Body, frozen=True):
    """The answer of `POST /v1/embeddings`."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: Usage
    providerMetadata: ProviderMetadata | UnsetType = UNSET
    gateflow: Gateflow | UnsetType = UNSET


class ErrorDetail(Body, frozen=True):
    """What happened and what to do; `code` tells errors apart."""

    message: str
    type: str
    param: str | None
    code: str
    doc_url: str
    provider: str | UnsetType = UNSET


class FailedMetadata(Body, frozen=True):
    """What the gateway tried; a request that failed costs nothing."""

    routing: Routing
    cost: Usd
    generationId: GenerationId


class FailedProviderMetadata(Body, frozen=True):
    """The AI gateway's block of an error."""

    gateway: FailedMetadata


class FailedGateflow(Body, frozen=True):
    """GateFlow's block of an error."""

    request_id: RequestId
    routing: GateflowRouting


class ErrorAnswer(Body, frozen=True):
    """Every error. The blocks are there if anybody was asked, or a fallback looked at."""

    error: ErrorDetail
    providerMetadata: FailedProviderMetadata | UnsetType = UNSET
    gateflow: FailedGateflow | UnsetType = UNSET
