"""The answers of the cold routes as types, as `schemas.py` has the embeddings route's."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from embedway.server.schemas import Body, Count, GenerationId, Price, Usd


class Pricing(Body, frozen=True):
    """The list price."""

    input: Price


class DimensionsRange(Body, frozen=True):
    """Every width from `min` to `max`."""

    min: int
    max: int


class ModelDimensions(Body, frozen=True):
    """The default, and what else is allowed."""

    default: int
    allowed: list[int] | DimensionsRange


class ModelEntry(Body, frozen=True):
    """One model of the catalogue; `available` says whether it can be asked for here."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    name: str
    description: str
    type: Literal["embedding", "language"]
    context_window: Count
    pricing: Pricing
    dimensions: ModelDimensions
    input_types: list[str]
    max_inputs: Count
    normalised: str
    space: str
    available: bool
    providers: list[str]
    shutdown_date: str | UnsetType = UNSET


class ModelList(Body, frozen=True):
    """The catalogue."""

    object: Literal["list"]
    data: list[ModelEntry]


class Architecture(Body, frozen=True):
    """What goes in and comes out."""

    tokenizer: str | None
    modality: str
    input_modalities: list[str]
    output_modalities: list[str]


class EndpointPricing(Body, frozen=True):
    """The list price, as that page of the AI gateway names it."""

    prompt: Price
    completion: Price


class Latency(Body, frozen=True):
    """Of the last answers, in milliseconds; null before the first."""

    p50: float | None
    p95: float | None


class LastError(Body, frozen=True):
    """What went wrong last, and when, in milliseconds since 1970."""

    code: str
    at_ms: int


class EndpointHealth(Body, frozen=True):
    """How a deployment fares."""

    breaker: Literal["closed", "half_open", "open"]
    wait_s: Annotated[float, Meta(ge=0, description="How long it is not asked.")]
    in_flight: Count
    concurrency: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Calls at a time that are good for it now; null without a limit."),
    ]
    waiting: Annotated[int, Meta(ge=0, description="Calls that wait for their turn.")]
    latency_ms: Latency
    last_error: LastError | None


EndpointStatus = Annotated[
    int,
    Meta(
        description="0: in use; -1: its limit is reached; -2: a call is tried after failures; "
        "-3: let alone after failures."
    ),
]


class Endpoint(Body, frozen=True):
    """One deployment."""

    name: str
    model_name: str
    context_length: Count
    pricing: EndpointPricing
    provider_name: str
    supported_parameters: list[str]
    status: EndpointStatus
    health: EndpointHealth


class ModelEndpoints(Body, frozen=True):
    """A model with its deployments."""

    id: str
    name: str
    created: int
    description: str
    architecture: Architecture
    waiting: Annotated[
        int, Meta(ge=0, description="Requests that wait for a place at any of them.")
    ]
    endpoints: list[Endpoint]


class EndpointsAnswer(Body, frozen=True):
    """The answer of `…/endpoints`."""

    data: ModelEndpoints


class Credits(Body, frozen=True):
    """A key without a budget has the balance "Infinity"."""

    balance: Annotated[str, Meta(pattern=r"^(Infinity|-?[0-9]+(\.[0-9]*[1-9])?)$")]
    total_used: Usd


class GenerationRecord(Body, frozen=True):
    """One request, as the AI SDK's client reads it: numbers are never null."""

    id: GenerationId
    total_cost: float
    upstream_inference_cost: float
    usage: float
    created_at: str
    model: str
    is_byok: bool
    provider_name: str
    streamed: bool
    finish_reason: str
    latency: Count
    generation_time: Count
    tokens_prompt: Count
    tokens_completion: Count
    native_tokens_prompt: Count
    native_tokens_completion: Count
    native_tokens_reasoning: Count
    native_tokens_cached: Count
    native_tokens_cache_creation: Count
    billable_web_search_calls: Count


class Generation(Body, frozen=True):
    """The answer of `GET /v1/generation`."""

    data: GenerationRecord


class Health(Body, frozen=True):
    """The gateway lives and its store answers."""

    status: Literal["ok"]
