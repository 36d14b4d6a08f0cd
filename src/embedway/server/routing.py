"""What was planned and what was tried, in the words of both blocks: for answers and for errors
alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embedway.types import Attempt, Plan


def gateway_routing(
    plan: Plan, attempts: Sequence[Attempt], final: str | None = None
) -> dict[str, Any]:
    """`providerMetadata.gateway.routing`. final: who served; None for an error."""
    models = list(dict.fromkeys(attempt.model for attempt in attempts))
    asked = [attempt for attempt in attempts if attempt.provider]
    first, last = (asked[0], asked[-1]) if asked else (None, None)
    resolved = first.provider if first else final or next(iter(plan.accounts), "")
    finally_asked = final or (last.provider if last else "")
    return {
        "originalModelId": plan.asked,
        "resolvedProvider": resolved,
        "resolvedProviderApiModelId": first.upstream_model if first else plan.model,
        "fallbacksAvailable": [name for name in plan.accounts if name != finally_asked],
        "planningReasoning": plan.reasoning,
        "canonicalSlug": plan.model,
        "finalProvider": finally_asked,
        "modelAttemptCount": len(models),
        "modelAttempts": [_model_attempt(attempts, model) for model in models],
        "totalProviderAttemptCount": len(asked),
    }


def _model_attempt(attempts: Sequence[Attempt], model: str) -> dict[str, Any]:
    """One model's attempts; none if it was passed over, and then `error` says why."""
    all_of_it = [attempt for attempt in attempts if attempt.model == model]
    asked = [attempt for attempt in all_of_it if attempt.provider]
    last = all_of_it[-1]
    passed_over = {} if asked or last.error is None else {"error": last.error}
    return {
        "modelId": f"{asked[0].provider}:{asked[0].upstream_model}" if asked else model,
        "canonicalSlug": model,
        "success": last.is_success,
        **passed_over,
        "providerAttemptCount": len(asked),
        "providerAttempts": [_provider_attempt(attempt) for attempt in asked],
    }


def _provider_attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "provider": attempt.provider,
        "providerApiModelId": attempt.upstream_model,
        "credentialType": attempt.credential_type,
        "success": attempt.is_success,
        "startTime": attempt.started_ms,
        "endTime": attempt.ended_ms,
        **({"statusCode": attempt.status} if attempt.status is not None else {}),
        **({"error": attempt.error} if attempt.error is not None else {}),
    }


def gateflow_routing(
    requested: str, attempts: Sequence[Attempt], selected: str | None = None
) -> dict[str, Any]:
    """`gateflow.routing`. selected: the model that served; None for an error."""
    asked = [attempt for attempt in attempts if attempt.provider]
    is_fallback = any(attempt.model != requested for attempt in asked) or (
        selected is not None and selected != requested
    )
    has_failed = any(not attempt.is_success for attempt in asked if attempt.model == requested)
    reason = "provider_error" if has_failed else "model_unavailable"
    return {
        "requested_model": requested,
        **({"selected_model": selected} if selected is not None else {}),
        "fallback_used": is_fallback,
        **({"fallback_reason": reason} if is_fallback else {}),
        "attempts": [_gateflow_attempt(attempt) for attempt in attempts],
    }


def _gateflow_attempt(attempt: Attempt) -> dict[str, Any]:
    failed = "failed" if attempt.provider else "skipped"
    return {
        "model": attempt.model,
        **({"provider": attempt.provider} if attempt.provider else {}),
        "status": "success" if attempt.is_success else failed,
        **({} if attempt.is_success else {"error": str(attempt.status or attempt.error)}),
    }
