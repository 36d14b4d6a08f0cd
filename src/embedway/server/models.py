"""The catalogue as callers see it: `GET /v1/models` and its variants."""

from __future__ import annotations

from typing import Any

from embedway.catalog import Model
from embedway.gateway import Gateway
from embedway.health import Health
from embedway.model_stack import ModelStack
from embedway.money import usd_text
from embedway.server.wire import MAX_INPUTS
from embedway.types import Space


def describe(gateway: Gateway, model: Model) -> dict[str, Any]:
    """One entry: OpenAI's fields, the AI gateway's, and ours."""
    dimensions = model.dimensions
    entry: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.creator,
        "name": model.name,
        "description": model.description,
        "type": "embedding",
        "context_window": model.max_input_tokens,
        "pricing": {"input": usd_text(gateway.prices[model.id])},
        "dimensions": {
            "default": dimensions.default,
            "allowed": list(dimensions.allowed)
            or {"min": dimensions.minimum, "max": dimensions.maximum},
        },
        "input_types": list(model.input_types),
        "max_inputs": MAX_INPUTS,
        "normalised": model.normalised,
        "space": str(Space(model.space_name, dimensions.default, model.revision or "")),
        "available": model.id in gateway.accounts,
        "providers": list(gateway.accounts.get(model.id, ())),
    }
    dates = [offer.shutdown_date for offer in model.offers if offer.shutdown_date]
    if dates and not model.live_offers:
        entry["shutdown_date"] = max(dates).isoformat()
    return entry


def list_models(gateway: Gateway) -> dict[str, Any]:
    """`GET /v1/models`: the whole catalogue; `available` says what can be asked for here."""
    return {
        "object": "list",
        "data": [describe(gateway, model) for model in gateway.directory.catalog.models],
    }


def get_model(gateway: Gateway, name: str) -> dict[str, Any]:
    """`GET /v1/models/{id}`. Raises ModelNotFound."""
    return describe(gateway, gateway.directory.look_up(name).model)


def list_endpoints(gateway: Gateway, name: str) -> dict[str, Any]:
    """`GET /v1/models/{creator}/{model}/endpoints`: the deployments. Raises ModelNotFound.

    `status` is 0 for a deployment in use, as in the AI gateway's page, and negative for one that
    is let alone.
    """
    model = gateway.directory.look_up(name).model
    price, stack = usd_text(gateway.prices[model.id]), gateway.models.get(model.id)
    return {
        "data": {
            "id": model.id,
            "name": model.name,
            "created": model.created,
            "description": model.description,
            "architecture": {
                "tokenizer": model.tokenizer,
                "modality": "text->embedding",
                "input_modalities": ["text"],
                "output_modalities": ["embedding"],
            },
            "waiting": stack.waiting if stack is not None else 0,
            "endpoints": [
                {
                    "name": f"{account} | {model.id}",
                    "model_name": model.name,
                    "context_length": model.max_input_tokens,
                    "pricing": {"prompt": price, "completion": "0"},
                    "provider_name": account,
                    "supported_parameters": ["dimensions", "encoding_format", "user"],
                    **deployment_state(gateway.models[model.id], account),
                }
                for account in gateway.accounts.get(model.id, ())
            ],
        }
    }


def deployment_state(stack: ModelStack, account: str) -> dict[str, Any]:
    """How one deployment fares; the model in the process has no limit of calls to show."""
    health, limit = stack.health[account], stack.limits.get(account)
    return {
        "status": _status(health),
        "health": {
            "breaker": health.state,
            "wait_s": round(health.wait_s, 3),
            "in_flight": health.in_flight,
            "concurrency": None if limit is None else limit.headroom.concurrency,
            "waiting": 0 if limit is None else limit.waiting,
            "latency_ms": {
                "p50": _rounded(health.percentile_ms(0.5)),
                "p95": _rounded(health.percentile_ms(0.95)),
            },
            "last_error": None
            if health.last_error is None
            else {"code": health.last_error.code, "at_ms": health.last_error_ms},
        },
    }


def _status(health: Health) -> int:
    if health.state == "open":
        return -3
    if health.state == "half_open":
        return -2
    return -1 if health.is_full else 0


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
