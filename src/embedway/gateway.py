"""Settings and catalogue to one Embedder: the order of the layers over all models, with the reason
for each. `model_stack.py` has that of the layers below, one model's.

"Above" means: the request meets it earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from embedway.accounts import Served, served_models
from embedway.cached import CountCache
from embedway.catalog import Catalog, Model
from embedway.chance import Chance, system_chance
from embedway.clock import Clock
from embedway.directory import Directory
from embedway.layers.admit import Admit
from embedway.layers.deadline import Deadline
from embedway.layers.fallback import Fallback
from embedway.layers.meter import Book, Count, Meter
from embedway.layers.rate import Rate
from embedway.layers.route import Route
from embedway.model_stack import ModelStack, build_model_stack
from embedway.own_models import aliases, hedged_models, overlong_policies, with_own_models
from embedway.pieces import CountTokens
from embedway.provider import Send
from embedway.rates import KeyRates
from embedway.settings import Settings
from embedway.spaces import space_of
from embedway.surroundings import Books, Kept, Surroundings
from embedway.tokens import can_count
from embedway.types import Embedder, EmbedParams, EmbedRequest, EmbedResponse, Space
from embedway.wrong_settings import SettingsError

LOCAL_MODEL = "local/wordllama-256"


@dataclass(frozen=True, eq=False)
class Gateway:
    """All layers over all models. `repr` prints how it is built."""

    stack: Embedder
    directory: Directory = field(repr=False)
    accounts: Mapping[str, tuple[str, ...]] = field(repr=False)
    """Canonical model name to the accounts that serve it, as the operator has them."""
    models: Mapping[str, ModelStack] = field(repr=False)
    """By canonical name: the stacks of the models that are served."""
    prices: Mapping[str, int] = field(repr=False)
    """Canonical model name to its list price in picodollars per token."""
    space: Callable[[EmbedParams], Space] = field(repr=False)
    """The space of what is made with final parameters."""
    keeps_vectors: bool = field(repr=False, default=False)
    counts_cl100k: bool = field(repr=False, default=False)
    """Whether an account's tokens are counted with the cl100k vocabulary."""

    def __call__(self, request: EmbedRequest, /) -> Coroutine[Any, Any, EmbedResponse]:
        return self.stack(request)


def build_gateway(
    *,
    settings: Settings,
    catalog: Catalog,
    local: Embedder | None,
    send: Send,
    book: Book,
    count: Count,
    clock: Clock,
    chance: Chance = system_chance,
    kept: Kept | None = None,
    count_retry: Callable[[bool], None] = lambda is_granted: None,
    count_cache: CountCache = lambda event, number: None,
    count_local: CountTokens | None = None,
    is_busy: Callable[[], bool] = lambda: False,
    books: Books | None = None,
    rates: KeyRates | None = None,
) -> Gateway:
    """Put the layers together. Raises SettingsError if an account or alias makes no sense.

    kept: None for a gateway that keeps no vectors. count_local: the tokens of a text for *local*.
    is_busy: whether the process has more to do than it can. books: None where nothing that is paid
    is written down. rates: None where no key has any.
    """
    policies = overlong_policies(settings, catalog)
    catalog = with_own_models(settings, catalog)
    served: dict[str, list[Served]] = {} if local is None else {LOCAL_MODEL: []}
    for one in served_models(settings, catalog):
        served.setdefault(one.deployment.model, []).append(one)
    around = Surroundings(
        send,
        clock,
        chance,
        settings.cache.scope,
        kept,
        count_cache,
        count_retry,
        count_local,
        is_busy,
        books,
    )
    hedged = hedged_models(settings, catalog)
    stacks = {}
    for name, many in served.items():
        found = catalog.find(name)
        assert found is not None, "only models of the catalogue are served"
        stacks[name] = build_model_stack(
            found.model,
            many,
            local if name == LOCAL_MODEL else None,
            around,
            overlong=policies.get(name, "error"),
            is_hedged=name in hedged,
        )
    directory = _directory(settings, catalog, frozenset(stacks))
    prices = {model.id: list_price(model) for model in catalog.models}

    # Above every stack: from here on an alias and its model are one.
    tops = {name: stack.top for name, stack in stacks.items()}
    top: Embedder = Route(
        tops, directory, _providers(served, local), _takes_token_ids(served, local)
    )
    # Above Route: each try is a whole request to one model, so one answer has one space.
    top = Fallback(top)
    # Above Fallback: one clock for the whole chain.
    top = Deadline(top, clock)
    # Above Deadline and all that answers: a hit is a request, too. Below Admit: what a key may not
    # ask for does not use up its limit.
    if rates is not None:
        top = Rate(top, rates)
    # Above everything that works or answers: a hit, too, needs permission.
    accounts = {name: tuple(stack.health) for name, stack in stacks.items()}
    top = Admit(top, directory.canonical, accounts)
    # Topmost: refusals and failures are counted too.
    space = _spaces(directory)
    top = Meter(top, book, count, prices, directory.canonical, clock, space)
    return Gateway(
        top,
        directory,
        accounts,
        stacks,
        prices,
        space,
        keeps_vectors=kept is not None,
        counts_cl100k=any(
            can_count(one.deployment.tokenizer) for many in served.values() for one in many
        ),
    )


def _directory(settings: Settings, catalog: Catalog, served: frozenset[str]) -> Directory:
    try:
        return Directory(catalog, aliases(settings), served)
    except ValueError as error:
        raise SettingsError(f"models: {error}") from None


def _spaces(directory: Directory) -> Callable[[EmbedParams], Space]:
    """The space of what was made with given parameters, of the usual ones without a look."""

    @lru_cache(256)
    def find(params: EmbedParams) -> Space:
        return space_of(directory.look_up(params.model).model, params)

    # Long options are not kept, so that callers cannot fill the memory.
    return lambda params: (find if len(params.options) <= 1024 else find.__wrapped__)(params)


def list_price(model: Model) -> int:
    """The first live offer's price in picodollars per token, 0 where none is known."""
    prices = (offer.price_picodollars_per_token for offer in model.live_offers)
    return next((price for price in prices if price is not None), 0)


def _providers(
    served: Mapping[str, Sequence[Served]], local: Embedder | None
) -> dict[str, tuple[str, ...]]:
    """Canonical model name to the providers that serve it."""
    found: dict[str, dict[str, None]] = {
        name: dict.fromkeys(one.provider.name for one in many) for name, many in served.items()
    }
    if local is not None:
        found[LOCAL_MODEL] = {"local": None, **found[LOCAL_MODEL]}
    return {name: tuple(providers) for name, providers in found.items()}


def _takes_token_ids(
    served: Mapping[str, Sequence[Served]], local: Embedder | None
) -> frozenset[str]:
    """Models whose every deployment takes cl100k ids as they are."""
    return frozenset(
        name
        for name, many in served.items()
        if all(one.takes_token_ids for one in many) and (local is None or name != LOCAL_MODEL)
    )
