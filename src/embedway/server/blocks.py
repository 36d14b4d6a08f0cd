"""The two extension blocks of an answer: `providerMetadata.gateway` and `gateflow`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from embedway.money import usd_text
from embedway.server.answer import Answer
from embedway.server.routing import gateflow_routing, gateway_routing
from embedway.types import CACHED, Embedding, Plan


def gateway_block(answer: Answer) -> dict[str, Any]:
    """`providerMetadata.gateway`."""
    attempts = answer.response.attempts
    if answer.provider == CACHED and not attempts:
        routing: Any = _routing_of_a_hit(answer.plan)
    else:
        routing = gateway_routing(answer.plan, attempts, answer.provider)
    return {
        "routing": routing,
        "cost": usd_text(answer.totals.cost),
        "marketCost": usd_text(answer.market_cost),
        "generationId": f"gen_{answer.id}",
    }


# The same for all hits of a model that were asked for alike.
@lru_cache(1024)
def _routing_of_a_hit(plan: Plan) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(gateway_routing(plan, (), CACHED)))


def gateflow_block(answer: Answer) -> dict[str, Any]:
    """`gateflow`."""
    response, hits, space = answer.response, answer.totals.hits, answer.space
    inputs = len(response.embeddings)
    block: dict[str, Any] = {
        "request_id": f"req_{answer.id}",
        "provider": answer.provider,
        "latency_ms": answer.latency_ms,
        # The same text as `cost`, as a JSON number: it never was a float here.
        "cost": {"total": orjson.Fragment(usd_text(answer.totals.cost))},
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
    if answer.totals.is_any_marked:
        block |= _marks(response.embeddings)
    attempts, requested = response.attempts, answer.requested_model
    if answer.model.id != requested or any([not one.is_success for one in attempts]):
        block["routing"] = gateflow_routing(requested, attempts, answer.model.id)
    return block


def _marks(embeddings: Sequence[Embedding]) -> dict[str, Any]:
    """What is to be known about some of the vectors."""
    estimated = any(embedding.is_estimated for embedding in embeddings)
    averaged = [i for i, embedding in enumerate(embeddings) if embedding.is_averaged]
    truncated = [i for i, embedding in enumerate(embeddings) if embedding.is_truncated]
    marks = {"usage_estimated": estimated, "averaged": averaged, "truncated": truncated}
    return {name: found for name, found in marks.items() if found}


def _unknown(answer: Answer) -> str:
    return "bypass" if answer.cache == "skip" else "miss"
