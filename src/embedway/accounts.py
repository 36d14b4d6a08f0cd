"""What the configured accounts serve: settings and catalogue to deployments.

Raises SettingsError, naming the account, wherever the settings make no sense.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from urllib.parse import urlsplit

from msgspec import Struct

from embedway.addresses import is_public
from embedway.catalog import Catalog, Model, Offer
from embedway.offers import plain_offer
from embedway.provider import AccessKey, Deployment, Provider
from embedway.providers import PROVIDERS
from embedway.settings import AccountSettings, Settings
from embedway.tokens import can_count
from embedway.wrong_settings import SettingsError

_VERTEX_HOSTS = {
    "global": "https://aiplatform.googleapis.com",
    "us": "https://aiplatform.us.rep.googleapis.com",
    "eu": "https://aiplatform.eu.rep.googleapis.com",
}
"""Vertex's locations that are no single region have hosts of their own."""


class Served(Struct, frozen=True):
    """A deployment with what it needs to be asked."""

    provider: Provider
    deployment: Deployment
    takes_token_ids: bool
    counts_each: bool
    """Whether the tokens of each text are known also when it travels with others: they can be
    counted here, the provider says them, or nothing is billed by them."""
    max_input_tokens: int
    credentials_file: str | None = None
    """A service account whose tokens stand in for the credential."""


def served_models(settings: Settings, catalog: Catalog) -> list[Served]:
    """Every account's deployments, in the order of the settings."""
    return [
        served
        for name, account in settings.providers.items()
        for served in _serve(name, account, catalog)
    ]


def _serve(name: str, account: AccountSettings, catalog: Catalog) -> Iterator[Served]:
    provider = provider_of(name, account)
    base_url = base_url_of(name, account, provider)
    if account.secret_access_key is not None and not account.access_key_id:
        raise SettingsError(f"providers.{name}.access_key_id must be set with its secret")
    for model, upstream_model in _models(name, account, provider, catalog):
        offer = model.offer(provider.name) or plain_offer(model, provider.name, catalog)
        deployment = Deployment(
            name=name,
            model=model.id,
            upstream_model=upstream_model,
            dimensions=model.dimensions.default,
            price=offer.price_picodollars_per_token or 0,
            price_per_character=_price_per_character(offer),
            base_url=base_url,
            credential=account.api_key or account.access_token,
            takes_dimensions=offer.dimensions_param is not None,
            max_inputs=account.max_inputs or offer.max_inputs or 2048,
            max_request_tokens=offer.max_tokens_per_request,
            concurrency=account.concurrency,
            requests_per_minute=account.requests_per_minute,
            tokens_per_minute=account.tokens_per_minute,
            tokenizer=model.tokenizer,
            input_type=offer.input_type,
            normalised=offer.normalised or model.normalised,
            region=account.region,
            project=account.project,
            location=account.location,
            api_version=account.api_version,
            access_key=_access_key(account),
            is_private=account.private,
        )
        yield Served(
            provider,
            deployment,
            offer.token_arrays,
            _counts_each(deployment, offer),
            offer.max_input_tokens or model.max_input_tokens,
            account.credentials_file,
        )


def _counts_each(deployment: Deployment, offer: Offer) -> bool:
    """Vertex says the tokens of each text, or bills characters, which need no tokenizer."""
    is_free = not deployment.price and not deployment.price_per_character
    is_told = offer.tokens_from == "statistics.token_count" or deployment.price_per_character > 0
    return is_free or is_told or can_count(deployment.tokenizer)


def _price_per_character(offer: Offer) -> int:
    """Characters are billed only where no price per token is known."""
    if offer.price_picodollars_per_token is not None:
        return 0
    return offer.price_picodollars_per_character or 0


def _access_key(account: AccountSettings) -> AccessKey | None:
    if account.secret_access_key is None:
        return None
    return AccessKey(
        id=account.access_key_id,
        secret=account.secret_access_key,
        session_token=account.session_token,
    )


def provider_of(name: str, account: AccountSettings) -> Provider:
    """The adapter of the account's kind."""
    kind = account.kind or name
    if (provider := PROVIDERS.get(kind)) is None:
        close = difflib.get_close_matches(kind, PROVIDERS, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(PROVIDERS)}"
        raise SettingsError(f"providers.{name}: there is no provider {kind!r}; set kind; {hint}")
    return provider


def base_url_of(name: str, account: AccountSettings, provider: Provider) -> str:
    """Where the account's requests go, without a slash at the end."""
    url = account.base_url or provider.base_url
    if url is None:
        raise SettingsError(f"providers.{name}.base_url must be set")
    for field in ("region", "location"):
        if f"{{{field}}}" in url:
            if not (value := getattr(account, field)):
                raise SettingsError(f"providers.{name}.{field} must be set")
            if field == "location" and value in _VERTEX_HOSTS:
                url = _VERTEX_HOSTS[value]
            url = url.replace(f"{{{field}}}", value)
    parts = urlsplit(url)
    is_bare = "@" not in parts.netloc and not parts.query and not parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_bare:
        raise SettingsError(f"providers.{name}.base_url must be like https://host/path")
    if not account.private and (parts.scheme == "http" or _is_private(parts.hostname)):
        raise SettingsError(
            f"providers.{name}.base_url: plain http and private addresses need private = true "
            "on the same account"
        )
    return url.rstrip("/")


def _is_private(host: str) -> bool:
    """Whether *host* is an address, and not one of the public internet."""
    try:
        return not is_public(host)
    except ValueError:
        return host == "localhost"


def _models(
    name: str, account: AccountSettings, provider: Provider, catalog: Catalog
) -> Iterator[tuple[Model, str]]:
    """The account's models with the names it knows them by."""
    if not account.models:
        yield from _offered(name, provider, catalog)
    for ours, theirs in account.models.items():
        if (found := catalog.find(ours)) is None:
            near = catalog.nearest(ours)
            raise SettingsError(
                f"providers.{name}.models: {ours!r} is no model of the catalogue"
                f"{f'; did you mean {near}?' if near else ''} "
                f'(a model of your own needs [models."{ours}"] with its dimensions)'
            )
        yield found.model, theirs


def _offered(name: str, provider: Provider, catalog: Catalog) -> Iterator[tuple[Model, str]]:
    """What the catalogue says the provider offers."""
    if provider.ask_introduction is not None:
        return  # the server itself tells, once it is asked (`introductions.py`)
    offers = [(model, model.offer(provider.name)) for model in catalog.models]
    ready = [(model, o.upstream_id) for model, o in offers if o and not o.is_shut_down]
    if not any(upstream for _, upstream in ready):
        raise SettingsError(
            f"providers.{name}.models must say which models the account serves, "
            "as our name = the account's name"
        )
    for model, upstream in ready:
        if upstream:
            yield model, upstream
