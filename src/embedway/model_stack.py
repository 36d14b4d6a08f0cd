"""One model's stack: from its accounts to what the router hands requests to.

Here stands the order of these layers, with the reason for each; "above" means: the request meets
it earlier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from embedway.account_stack import limited, limits_of
from embedway.accounts import Served
from embedway.cache_key import origin_of
from embedway.catalog import Model
from embedway.clock import Clock
from embedway.health import Health
from embedway.layers.balance import Balance
from embedway.layers.batch import Batch
from embedway.layers.booked import most_cost
from embedway.layers.cache import Cache
from embedway.layers.chunk import Chunk
from embedway.layers.coalesce import Coalesce
from embedway.layers.hedge import Hedge
from embedway.layers.limit import Limit
from embedway.layers.retry import Retry, RetryBudget
from embedway.layers.split import Split
from embedway.layers.within_budget import WithinBudget
from embedway.options import names_of
from embedway.parts import most_tokens, size_of
from embedway.pieces import CountTokens
from embedway.settings import Overlong
from embedway.surroundings import Books, Surroundings
from embedway.tokens import can_count, count_cl100k
from embedway.types import Embedder, EmbedParams, EmbedRequest

_COUNTED_HERE_BYTES = 16_384
"""The tokens of longer requests are counted in a thread."""
_SLOTS_WHILE_BUSY = 8
_CALLS_WAITING = 1024
_LEAST_WAITING = 65_536
"""So many full calls may wait, and at least so many inputs: an account that takes one at a time
must not refuse the second caller with a long list."""
_USUAL = 0.95
"""The share of answers that a hedged call waits for before it is asked again."""


@dataclass(frozen=True, eq=False)
class ModelStack:
    """One model's layers, and what can be seen of its accounts."""

    top: Embedder
    health: Mapping[str, Health]
    limits: Mapping[str, Limit]
    """By account; the model in the process has none."""
    prices: Mapping[str, int]
    """By account: picodollars per token, for the cheapest first; 0 for one that is not there."""
    batch: Batch | None = None
    """None where requests do not travel together."""

    @property
    def waiting(self) -> int:
        """Requests that wait for a place at any of its accounts, to travel together."""
        return 0 if self.batch is None else self.batch.waiting


def build_model_stack(
    model: Model,
    served: Sequence[Served],
    local: Embedder | None,
    around: Surroundings,
    *,
    overlong: Overlong,
    is_hedged: bool,
) -> ModelStack:
    """The stack of *model* over its accounts, and over *local* where that makes its vectors."""
    limits = {one.deployment.name: limited(one, around) for one in served}
    accounts: dict[str, Embedder] = {} if local is None else {"local": local}
    for one in served:
        # Above Limit: each part waits for a place of its own.
        accounts[one.deployment.name] = Split(limits[one.deployment.name], limits_of(one))
    health = {name: Health(around.clock, around.chance) for name in accounts}

    def closed_s(account: str) -> float:
        return limits[account].headroom.closed_s if account in limits else 0.0

    balance = Balance(
        model.id, accounts, health, around.chance, _prices(served), _suits(served), closed_s
    )
    top: Embedder = balance
    if served:
        top = _with_retries(balance, around, is_hedged=is_hedged)
    batch: Batch | None = None
    if served and local is None and all(one.counts_each for one in served):
        # Above Retry: a slot of any account will do. Only where each caller's tokens, and so his
        # bill, stay his own; the local model joins by itself.
        most = max(one.deployment.max_inputs for one in served)
        top = batch = Batch(
            top,
            slots=lambda: _slots(limits.values(), is_busy=around.is_busy()),
            max_inputs=most,
            is_exact=can_count(model.tokenizer),
            max_waiting=max(_LEAST_WAITING, _CALLS_WAITING * most),
            drain_s=lambda calls, tokens: _drain_s(limits.values(), calls, tokens),
        )
    # Above Batch: no text twice in a batch.
    top = Coalesce(top, around.scope, around.count_cache)
    if served and around.books is not None:
        # Above Coalesce: each caller pays for himself, also where he shares a question.
        top = _within_budget(top, served, around.books, around.clock)
    if (kept := around.kept) is not None:
        # Above Coalesce: a hit never waits. What is made here in microseconds is not worth a disk.
        store = kept.store if served else None
        origins = _origins(model, accounts, served)
        top = Cache(
            top,
            model,
            kept.recent,
            store,
            origins,
            balance.allowed,
            around.scope,
            around.clock,
            around.count_cache,
        )
    if overlong != "error":
        # Above Cache: pieces are kept, each under its own text.
        longest = min([one.max_input_tokens for one in served], default=model.max_input_tokens)
        top = Chunk(top, overlong, longest, _counter(model, served, around.count_local))
    return ModelStack(top, health, limits, _prices(served), batch)


def _slots(limits: Collection[Limit], *, is_busy: bool) -> int:
    """Calls at a time. While the process itself is what everybody waits for, only a few: then more
    travel together, and each text costs a fraction of a call of its own."""
    slots = sum(limit.headroom.concurrency for limit in limits)
    return min(slots, _SLOTS_WHILE_BUSY) if is_busy else slots


def _drain_s(limits: Collection[Limit], calls: int, tokens: int) -> float:
    """How long so many calls take, of so many tokens together, each account as many as it can."""
    slots = _slots(limits, is_busy=False)
    return max(
        limit.headroom.drain_s(
            -(-calls * limit.headroom.concurrency // slots),
            tokens * limit.headroom.concurrency // slots,
        )
        for limit in limits
    )


def _with_retries(balance: Balance, around: Surroundings, *, is_hedged: bool) -> Embedder:
    top: Embedder = balance
    budget = RetryBudget(around.clock)
    if is_hedged:

        def usual_s(account: str) -> float | None:
            health = balance.health[account]
            usual_ms = health.percentile_ms(_USUAL) if health.is_measured else None
            return None if usual_ms is None else usual_ms / 1000

        # Above Balance, which knows the accounts; below Retry: both calls are one attempt.
        top = Hedge(top, around.clock, balance, usual_s, budget.take)
    # Above Balance: attempts are counted once, and the next one may go elsewhere.
    return Retry(top, around.clock, budget, balance, around.chance, around.count_retry)


def _within_budget(
    inner: Embedder, served: Sequence[Served], books: Books, clock: Clock
) -> WithinBudget:
    async def cost(request: EmbedRequest) -> int:
        if sum(map(size_of, request.inputs)) > _COUNTED_HERE_BYTES:
            return await asyncio.to_thread(_most_cost, served, request)
        return _most_cost(served, request)

    return WithinBudget(inner, books.ledger, books.budgets_of, cost, books.ids, clock)


def _most_cost(served: Sequence[Served], request: EmbedRequest) -> int:
    """Picodollars at the dearest account that may serve it, for our own credentials."""
    most = 0
    for one in served:
        if one.provider.name not in request.call.credentials:
            tokens = most_tokens(request.inputs, one.deployment.tokenizer)
            most = max(most, most_cost(one.deployment, request, tokens))
    return most


def _suits(served: Sequence[Served]) -> Callable[[str, EmbedParams], bool]:
    """An account suits if its provider is one that the options are for, and knows the word for the
    input type: another one would make another vector of the same question."""
    by_name = {one.deployment.name: one for one in served}

    def suits(account: str, params: EmbedParams) -> bool:
        one = by_name.get(account)
        if one is None:
            return not params.options
        if params.options and one.provider.name not in names_of(params.options):
            return False
        field = one.deployment.input_type
        return params.input_type is None or field is None or bool(field.value(params.input_type))

    return suits


def _origins(
    model: Model, accounts: Mapping[str, Embedder], served: Sequence[Served]
) -> dict[str, bytes]:
    """What stands for each account in a kept vector."""
    origins = {name: origin_of(name, model.id, model.revision or "") for name in accounts}
    for one in served:
        deployment = one.deployment
        origins[deployment.name] = origin_of(
            one.provider.name,
            deployment.base_url,
            deployment.upstream_model,
            deployment.project,
            deployment.location,
            deployment.region,
            str(deployment.dimensions),
        )
    return origins


def _counter(
    model: Model, served: Sequence[Served], count_local: CountTokens | None
) -> CountTokens | None:
    """How the model's tokens are counted here; None where only its provider can."""
    if not served:
        return count_local
    return count_cl100k if can_count(model.tokenizer) else None


def _prices(served: Sequence[Served]) -> dict[str, int]:
    """What each account costs, in picodollars per token.

    Where characters are billed, a token is taken for four.
    """
    deployments = [one.deployment for one in served]
    return {one.name: one.price or 4 * one.price_per_character for one in deployments}
