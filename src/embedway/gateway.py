"""Settings and catalogue to one Embedder: the order of the layers, with the reason for each.

"Above" means: the request meets it earlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedway.accounts import Served, served_models
from embedway.aws_credentials import AwsChain
from embedway.cache_key import Scope, origin_of
from embedway.cached import CountCache, VectorStore
from embedway.catalog import Catalog, Model
from embedway.clock import Clock
from embedway.directory import Directory
from embedway.layers.admit import Admit
from embedway.layers.balance import Balance
from embedway.layers.batch import Batch
from embedway.layers.cache import Cache, Recent
from embedway.layers.chunk import Chunk
from embedway.layers.coalesce import Coalesce
from embedway.layers.deadline import Deadline
from embedway.layers.fallback import Fallback
from embedway.layers.limit import Limit
from embedway.layers.meter import Book, Count, Meter
from embedway.layers.route import Route
from embedway.layers.split import Split
from embedway.own_models import aliases, overlong_policies, with_own_models
from embedway.parts import Limits
from embedway.pieces import CountTokens
from embedway.provider import Send
from embedway.service_account import ServiceAccount
from embedway.settings import Settings
from embedway.tokens import can_count, count_cl100k
from embedway.types import Embedder, EmbedRequest, EmbedResponse
from embedway.upstream import Renewed, Upstream
from embedway.wrong_settings import SettingsError

LOCAL_MODEL = "local/wordllama-256"


@dataclass(frozen=True, eq=False)
class Kept:
    """Where vectors are kept: in memory, and for longer than the process lives."""

    recent: Recent
    store: VectorStore | None


@dataclass(frozen=True, eq=False)
class Gateway:
    """All layers over all models. `repr` prints how it is built."""

    stack: Embedder
    directory: Directory = field(repr=False)
    accounts: Mapping[str, tuple[str, ...]] = field(repr=False)
    """Canonical model name to the accounts that serve it, preferred first."""
    prices: Mapping[str, int] = field(repr=False)
    """Canonical model name to its list price in picodollars per token."""
    keeps_vectors: bool = field(repr=False, default=False)
    counts_cl100k: bool = field(repr=False, default=False)
    """Whether an account's tokens are counted with the cl100k vocabulary."""

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        return await self.stack(request)


def build_gateway(
    *,
    settings: Settings,
    catalog: Catalog,
    local: Embedder | None,
    send: Send,
    book: Book,
    count: Count,
    clock: Clock,
    kept: Kept | None = None,
    count_cache: CountCache = lambda event, number: None,
    count_local: CountTokens | None = None,
) -> Gateway:
    """Put the layers together. Raises SettingsError if an account or alias makes no sense.

    kept: None for a gateway that keeps no vectors. count_local: the tokens of a text for *local*.
    """
    policies = overlong_policies(settings, catalog)
    catalog = with_own_models(settings, catalog)
    served: dict[str, list[Served]] = {} if local is None else {LOCAL_MODEL: []}
    for one in served_models(settings, catalog):
        served.setdefault(one.deployment.model, []).append(one)
    ends: dict[str, dict[str, Embedder]] = {
        name: {one.deployment.name: _account_stack(one, send, clock) for one in many}
        for name, many in served.items()
    }
    if local is not None:
        ends[LOCAL_MODEL] = {"local": local, **ends[LOCAL_MODEL]}
    stacks = {}
    for name, accounts in ends.items():
        found = catalog.find(name)
        assert found is not None, "only models of the catalogue are served"
        model, many = found.model, served[name]
        stack = _model_stack(model, accounts, many, settings.cache.scope, count_cache)
        if kept is not None:
            # Above Coalesce: a hit never waits. What is made here in microseconds is not worth a
            # disk.
            store = kept.store if many else None
            origins = _origins(model, accounts, many)
            scope = settings.cache.scope
            stack = Cache(stack, model, kept.recent, store, origins, scope, clock, count_cache)
        if (policy := policies.get(name, "error")) != "error":
            # Above Cache: pieces are kept, each under its own text.
            longest = min([one.max_input_tokens for one in many], default=model.max_input_tokens)
            stack = Chunk(stack, policy, longest, _counter(model, many, count_local))
        stacks[name] = stack
    directory = _directory(settings, catalog, frozenset(ends))
    prices = {model.id: list_price(model) for model in catalog.models}

    # Above every stack: from here on an alias and its model are one.
    top: Embedder = Route(
        stacks, directory, _providers(served, ends), _takes_token_ids(served, ends)
    )
    # Above Route: each try is a whole request to one model, so one answer has one space.
    top = Fallback(top)
    # Above Fallback: one clock for the whole chain.
    top = Deadline(top, clock)
    # Above everything that works or answers: a hit, too, needs permission.
    top = Admit(top, directory.canonical)
    # Topmost: refusals and failures are counted too.
    top = Meter(top, book, count, prices, directory.canonical, clock)
    accounts_of = {name: tuple(accounts) for name, accounts in ends.items()}
    return Gateway(
        top,
        directory,
        accounts_of,
        prices,
        keeps_vectors=kept is not None,
        counts_cl100k=any(
            can_count(one.deployment.tokenizer) for many in served.values() for one in many
        ),
    )


def _model_stack(
    model: Model,
    accounts: Mapping[str, Embedder],
    served: Sequence[Served],
    scope: Scope,
    count: CountCache,
) -> Embedder:
    """One model over all its accounts, without its cache."""
    stack: Embedder = Balance(model.id, accounts, _account_prices(served))
    if len(served) == len(accounts) and all(one.counts_each for one in served):
        # Above Balance: a slot of any account will do. Only where each caller's tokens, and so his
        # bill, stay his own; the local model joins by itself.
        stack = Batch(
            stack,
            slots=sum(one.deployment.concurrency for one in served),
            max_inputs=max(one.deployment.max_inputs for one in served),
            is_exact=can_count(model.tokenizer),
        )
    # Above Batch: no text twice in a batch.
    return Coalesce(stack, scope, count)


def _account_stack(served: Served, send: Send, clock: Clock) -> Embedder:
    deployment = served.deployment
    stack = _end(served, send, clock)
    # Above the end: it counts what truly leaves.
    stack = Limit(stack, deployment.concurrency)
    limits = Limits(
        inputs=deployment.max_inputs,
        tokens=deployment.max_request_tokens,
        tokenizer=deployment.tokenizer,
    )
    # Above Limit: each part waits for a place of its own.
    return Split(stack, limits)


def _end(served: Served, send: Send, clock: Clock) -> Embedder:
    deployment = served.deployment
    renewed: Renewed | None = None
    if served.credentials_file is not None:
        renewed = ServiceAccount(Path(served.credentials_file).expanduser(), send, clock)
    elif served.provider.sign is not None and not (deployment.credential or deployment.access_key):
        renewed = AwsChain(deployment.name)
    return Upstream(served.provider, deployment, send, clock, renewed)


def _directory(settings: Settings, catalog: Catalog, served: frozenset[str]) -> Directory:
    try:
        return Directory(catalog, aliases(settings), served)
    except ValueError as error:
        raise SettingsError(f"models: {error}") from None


def list_price(model: Model) -> int:
    """The first live offer's price in picodollars per token, 0 where none is known."""
    prices = (offer.price_picodollars_per_token for offer in model.live_offers)
    return next((price for price in prices if price is not None), 0)


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


def _account_prices(served: Sequence[Served]) -> dict[str, int]:
    """What each account costs, in picodollars per token.

    Where characters are billed, a token is taken for four.
    """
    mine = [one.deployment for one in served]
    return {one.name: one.price or 4 * one.price_per_character for one in mine}


def _providers(
    served: Mapping[str, Sequence[Served]], ends: Mapping[str, Mapping[str, Embedder]]
) -> dict[str, tuple[str, ...]]:
    """Canonical model name to the providers that serve it."""
    return {
        name: tuple(
            dict.fromkeys(
                [
                    *(["local"] if "local" in accounts else []),
                    *(s.provider.name for s in served[name]),
                ]
            )
        )
        for name, accounts in ends.items()
    }


def _takes_token_ids(
    served: Mapping[str, Sequence[Served]], ends: Mapping[str, Mapping[str, Embedder]]
) -> frozenset[str]:
    """Models whose every deployment takes cl100k ids as they are."""
    return frozenset(
        name
        for name, accounts in ends.items()
        if len(accounts) == sum(one.takes_token_ids for one in served[name])
    )
