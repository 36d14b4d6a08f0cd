"""How `embedway keys` shows keys: as a table, as a page for each, and as records for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from embedway.budgets import budget_text
from embedway.cli.terminal import plain, table
from embedway.money import usd_text
from embedway.store.budgets import BudgetState
from embedway.store.keys import Key

_HEAD = ("ID", "NAME", "TYPE", "PROJECT", "STATE", "MODELS", "LIMITS", "EXPIRES", "LAST USED")


def record(key: Key, budgets: Sequence[BudgetState], now_ms: float) -> dict[str, Any]:
    """All there is to know of a key, but for its text. Amounts are decimal text in USD."""
    return {
        "id": key.id,
        "name": key.name,
        "type": key.type,
        "project": key.project,
        "state": key.state(now_ms),
        "models": key.models,
        "providers": key.providers,
        "ips": key.ips,
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute,
        "concurrency": key.concurrency,
        "allows_fallbacks": key.allows_fallbacks,
        "space": key.space,
        "budgets": [
            {
                "period": state.budget.period,
                "amount_usd": usd_text(state.budget.amount),
                "spent_usd": usd_text(state.spent),
                "reserved_usd": usd_text(state.reserved),
                "starts_ms": state.window.starts_ms,
                "ends_ms": state.window.ends_ms,
            }
            for state in budgets
        ],
        "created_ms": key.created_ms,
        "expires_ms": key.expires_ms,
        "revoked_ms": key.revoked_ms,
        "last_used_ms": key.last_used_ms,
        "previous_until_ms": key.previous_until_ms,
    }


def key_table(keys: Sequence[tuple[Key, Sequence[BudgetState]]], now_ms: float) -> str:
    """A line for each key."""
    rows = [
        (
            key.id,
            key.name,
            key.type,
            key.project,
            key.state(now_ms),
            _all_or(key.models),
            ", ".join(_limits(key, budgets)) or "none",
            time_text(key.expires_ms),
            time_text(key.last_used_ms),
        )
        for key, budgets in keys
    ]
    return table(_HEAD, rows)


def key_page(key: Key, budgets: Sequence[BudgetState], now_ms: float) -> str:
    """A line for each term of a key."""
    lines = [
        ("id", key.id),
        ("name", key.name),
        ("type", key.type),
        ("project", key.project),
        ("state", key.state(now_ms)),
        ("models", _all_or(key.models)),
        ("providers", _all_or(key.providers)),
        ("networks", _all_or(key.ips)),
        ("requests a minute", _count(key.requests_per_minute)),
        ("tokens a minute", _count(key.tokens_per_minute)),
        ("requests at a time", _count(key.concurrency)),
        ("fallbacks", "allowed" if key.allows_fallbacks else "refused"),
        ("space", key.space or "any"),
        *[("budget", _budget(state)) for state in budgets or ()],
        *([] if budgets else [("budget", "none")]),
        ("created", time_text(key.created_ms)),
        ("expires", time_text(key.expires_ms)),
        ("last used", time_text(key.last_used_ms)),
    ]
    if key.revoked_ms is not None:
        lines.append(("revoked", time_text(key.revoked_ms)))
    if key.previous_until_ms is not None:
        word = "works" if now_ms < key.previous_until_ms else "worked"
        lines.append(("text before this one", f"{word} until {time_text(key.previous_until_ms)}"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {plain(value)}" for name, value in lines)


def time_text(milliseconds: int | None) -> str:
    """The minute, in UTC."""
    if milliseconds is None:
        return "never"
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _limits(key: Key, budgets: Sequence[BudgetState]) -> Iterator[str]:
    for state in budgets:
        yield budget_text(state.budget.period, state.budget.amount)
    for limit, unit in (
        (key.requests_per_minute, "rpm"),
        (key.tokens_per_minute, "tpm"),
        (key.concurrency, "at a time"),
    ):
        if limit is not None:
            yield f"{limit} {unit}"
    if key.providers is not None:
        yield f"by {', '.join(key.providers) or 'nobody'}"
    if key.ips is not None:
        yield f"from {', '.join(key.ips) or 'nowhere'}"
    if not key.allows_fallbacks:
        yield "no fallbacks"
    if key.space is not None:
        yield key.space


def _budget(state: BudgetState) -> str:
    end = state.window.ends_ms
    until = "" if end is None else f" until {time_text(end)}"
    return (
        f"{budget_text(state.budget.period, state.budget.amount)}: ${usd_text(state.spent)} spent, "
        f"${usd_text(state.reserved)} reserved, ${usd_text(state.left)} left{until}"
    )


def _all_or(names: Sequence[str] | None) -> str:
    return "all" if names is None else ", ".join(names) or "none"


def _count(limit: int | None) -> str:
    return "no limit" if limit is None else f"{limit:,}"
