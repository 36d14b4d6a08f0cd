"""The two extension blocks of an answer: `providerMetadata.gateway` and `gateflow`."""

from __future__ import annotations

from typing import Any

import orjson

from embedway.money import usd_text
from embedway.server.answer import Answer


def gateway_block(answer: Answer) -> dict[str, Any]:
    """`providerMetadata.gateway`."""
    return {
        "routing": _routing(answer),
        "cost": usd_text(answer.cost),
        "marketCost": usd_text(answer.market_cost),
        "generationId": f"gen_{answer.id}",
    }


def _routing(answer: Answer) -> dict[str, Any]:
    attempts = answer.response.attempts
    models = list(dict.fromkeys(attempt.model for attempt in attempts))
    first = attempts[0] if attempts else None
    return {
        "originalModelId": answer.asked,
        "resolvedProvider": first.provider if first else answer.provider,
        "resolvedProviderApiModelId": first.upstream_model if first else answer.model.id,
        "fallbacksAvailable": [name for name in answer.accounts if name != answer.provider],
        "planningReasoning": _reasoning(answer),
        "canonicalSlug": answer.model.id,
        "finalProvider": answer.provider,
        "modelAttemptCount": len(models),
        "modelAttempts": [_model_attempt(answer, model) for model in models],
        "totalProviderAttemptCount": len(attempts),
    }


def _model_attempt(answer: Answer, model: str) -> dict[str, Any]:
    attempts = [attempt for attempt in answer.response.attempts if attempt.model == model]
    return {
        "modelId": f"{attempts[0].provider}:{attempts[0].upstream_model}",
        "canonicalSlug": model,
        "success": attempts[-1].is_success,
        "providerAttemptCount": len(attempts),
        "providerAttempts": [
            {
                "provider": attempt.provider,
                "providerApiModelId": attempt.upstream_model,
                "credentialType": attempt.credential_type,
                "success": attempt.is_success,
                "startTime": attempt.started_ms,
                "endTime": attempt.ended_ms,
                **({"statusCode": attempt.status} if attempt.status is not None else {}),
                **({"error": attempt.error} if attempt.error is not None else {}),
            }
            for attempt in attempts
        ],
    }


def _reasoning(answer: Answer) -> str:
    order = " → ".join(f"{name}(system)" for name in answer.accounts)
    also = f" The bare name also fits {', '.join(answer.also)}." if answer.also else ""
    return (
        f"System credentials planned for: {', '.join(answer.accounts)}. "
        f"Total execution order: {order}.{also}"
    )


def gateflow_block(answer: Answer) -> dict[str, Any]:
    """`gateflow`."""
    response, hits, space = answer.response, answer.hits, answer.space
    inputs = len(response.embeddings)
    block: dict[str, Any] = {
        "request_id": f"req_{answer.id}",
        "provider": answer.provider,
        "latency_ms": answer.latency_ms,
        # The same text as `cost`, as a JSON number: it never was a float here.
        "cost": {"total": orjson.Fragment(usd_text(answer.cost))},
        "cache": {
            "status": "hit" if hits == inputs else "partial" if hits else _unknown(answer),
            "hits": hits,
            "misses": inputs - hits,
        },
        "space": str(space),
        "dimensions": space.dimensions,
    }
    if response.params.input_type is not None:
        block["input_type"] = response.params.input_type
    if any(embedding.is_estimated for embedding in response.embeddings):
        block["usage_estimated"] = True
    if averaged := [i for i, e in enumerate(response.embeddings) if e.is_averaged]:
        block["averaged"] = averaged
    if truncated := [i for i, e in enumerate(response.embeddings) if e.is_truncated]:
        block["truncated"] = truncated
    if answer.model.id != answer.requested_model:
        block["routing"] = _fallback_block(answer)
    return block


def _unknown(answer: Answer) -> str:
    return "bypass" if answer.cache == "skip" else "miss"


def _fallback_block(answer: Answer) -> dict[str, Any]:
    attempts = answer.response.attempts
    failed = [attempt for attempt in attempts if not attempt.is_success]
    return {
        "requested_model": answer.requested_model,
        "selected_model": answer.model.id,
        "fallback_used": True,
        "fallback_reason": "provider_error" if failed else "model_unavailable",
        "attempts": [
            {
                "model": attempt.model,
                "status": "success" if attempt.is_success else "failed",
                **({} if attempt.is_success else {"error": str(attempt.status or attempt.error)}),
            }
            for attempt in attempts
        ],
    }
