"""Settings and catalogue to one Embedder: the order of the layers, with the reason for each.

"Above" means: the request meets it earlier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedway.accounts import Served, served_models
from embedway.aws_credentials import AwsChain
from embedway.catalog import Catalog, Model
from embedway.clock import Clock
from embedway.directory import Directory
from embedway.layers.admit import Admit
from embedway.layers.balance import Balance
from embedway.layers.deadline import Deadline
from embedway.layers.fallback import Fallback
from embedway.layers.meter import Book, Count, Meter
from embedway.layers.route import Route
from embedway.layers.split import Split
from embedway.own_models import aliases, with_own_models
from embedway.provider import Send
from embedway.service_account import ServiceAccount
from embedway.settings import Settings
from embedway.types import Embedder, EmbedRequest, EmbedResponse
from embedway.upstream import Renewed, Upstream
from embedway.wrong_settings import SettingsError

LOCAL_MODEL = "local/wordllama-256"


@dataclass(frozen=True, eq=False)
class Gateway:
    """All layers over all models. `repr` prints how it is built."""

    stack: Embedder
    directory: Directory = field(repr=False)
    accounts: Mapping[str, tuple[str, ...]] = field(repr=False)
    """Canonical model name to the accounts that serve it, preferred first."""
    prices: Mapping[str, int] = field(repr=False)
    """Canonical model name to its list price in picodollars per token."""

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
) -> Gateway:
    """Put the layers together. Raises SettingsError if an account or alias makes no sense."""
    ends: dict[str, dict[str, Embedder]] = {}
    if local is not None:
        ends[LOCAL_MODEL] = {"local": local}
    catalog = with_own_models(settings, catalog)
    served = served_models(settings, catalog)
    for one in served:
        end = _end(one, send, clock)
        # Above the end: a part never asks for more than the deployment takes at once.
        end = Split(end, one.deployment.max_inputs)
        ends.setdefault(one.deployment.model, {})[one.deployment.name] = end
    directory = _directory(settings, catalog, frozenset(ends))
    prices = {model.id: list_price(model) for model in catalog.models}
    stacks = {
        name: Balance(name, accounts, _account_prices(name, served))
        for name, accounts in ends.items()
    }

    # Above every stack: from here on an alias and its model are one.
    stack: Embedder = Route(
        stacks, directory, _providers(served, ends), _takes_token_ids(served, ends)
    )
    # Above Route: each try is a whole request to one model, so one answer has one space.
    stack = Fallback(stack)
    # Above Fallback: one clock for the whole chain.
    stack = Deadline(stack, clock)
    # Above everything that works or answers: a hit, too, needs permission.
    stack = Admit(stack, directory.canonical)
    # Topmost: refusals and failures are counted too.
    stack = Meter(stack, book, count, prices, directory.canonical, clock)
    return Gateway(
        stack, directory, {name: tuple(accounts) for name, accounts in ends.items()}, prices
    )


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


def _account_prices(model: str, served: list[Served]) -> dict[str, int]:
    """What each account costs for *model*, in picodollars per token.

    Where characters are billed, a token is taken for four.
    """
    mine = [one.deployment for one in served if one.deployment.model == model]
    return {one.name: one.price or 4 * one.price_per_character for one in mine}


def _providers(
    served: list[Served], ends: Mapping[str, Mapping[str, Embedder]]
) -> dict[str, tuple[str, ...]]:
    """Canonical model name to the providers that serve it."""
    found: dict[str, dict[str, None]] = {name: {} for name in ends}
    if LOCAL_MODEL in ends:
        found[LOCAL_MODEL]["local"] = None
    for one in served:
        found[one.deployment.model][one.provider.name] = None
    return {name: tuple(providers) for name, providers in found.items()}


def _takes_token_ids(
    served: list[Served], ends: Mapping[str, Mapping[str, Embedder]]
) -> frozenset[str]:
    """Models whose every deployment takes cl100k ids as they are."""
    taking = Counter(one.deployment.model for one in served if one.takes_token_ids)
    return frozenset(name for name, count in taking.items() if count == len(ends[name]))
