"""One request's record and the calling key's balance: `GET /v1/generation`, `GET /v1/credits`.

Shapes as the AI SDK's gateway client reads them: every field is there, numbers are never null.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import orjson

from embedway.errors import InvalidRequest, NotFound
from embedway.ledger import UsageLine
from embedway.money import usd_text
from embedway.store.books import UsageBook
from embedway.store.budgets import BudgetStore
from embedway.types import Grant

_ULID = re.compile(r"[0-9A-Z]{26}")
"""Nothing else is asked of the database, which may refuse what is no text to it."""


def get_generation(book: UsageBook, grant: Grant, id: str) -> dict[str, Any]:
    """The record of `gen_…` or `req_…`; of the caller's own key only, unless it is an admin's.

    Blocking. Raises NotFound.
    """
    if not id:
        raise InvalidRequest("The query parameter id is missing.", param="id")
    ulid = id.removeprefix("gen_").removeprefix("req_")
    line = book.find(ulid) if _ULID.fullmatch(ulid) else None
    if line is None or (line.key_id != grant.key_id and not grant.is_admin):
        raise NotFound(f"There is no generation {id[:64]!r} of this key.", param="id")
    return {"data": _record(line)}


def _record(line: UsageLine) -> dict[str, Any]:
    cost = orjson.Fragment(usd_text(line.cost))
    zero = {
        "tokens_completion": 0,
        "native_tokens_completion": 0,
        "native_tokens_reasoning": 0,
        "native_tokens_cached": 0,
        "native_tokens_cache_creation": 0,
        "billable_web_search_calls": 0,
    }
    return {
        "id": f"gen_{line.id}",
        "total_cost": cost,
        "upstream_inference_cost": orjson.Fragment(usd_text(_paid_by_caller(line))),
        "usage": cost,
        "created_at": datetime.fromtimestamp(line.created_ms / 1000, UTC).isoformat(),
        "model": line.model,
        "is_byok": line.is_byok,
        "provider_name": line.provider or "",
        "streamed": False,
        "finish_reason": "stop" if line.code is None else line.code,
        "latency": line.latency_ms,
        "generation_time": line.latency_ms,
        "tokens_prompt": line.tokens,
        "native_tokens_prompt": line.tokens,
        **zero,
    }


def _paid_by_caller(line: UsageLine) -> int:
    """Picodollars at list price that a caller's own credential is billed for: all that was neither
    known before nor made with the operator's."""
    return max(0, line.market_cost - line.saved - line.cost) if line.is_byok else 0


def get_credits(book: UsageBook, grant: Grant, budgets: BudgetStore, now_ms: int) -> dict[str, str]:
    """What the key has used, and what is left of the budget that ends first: of its own, or of its
    project's. A key without one has no end: "Infinity", which `Number` and `float` read.

    Blocking. Raises StoreError.
    """
    owners = {("key", grant.key_id), ("project", grant.project)}
    left = [
        state.left
        for state in budgets.states(now_ms)
        if (state.budget.owner_kind, state.budget.owner) in owners
    ]
    return {
        "balance": usd_text(min(left)) if left else "Infinity",
        "total_used": usd_text(book.total_cost(grant.key_id)),
    }
