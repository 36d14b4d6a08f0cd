"""What the configured accounts serve: settings and catalogue to deployments.

Raises SettingsError, naming the account, wherever the settings make no sense.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from embedway.catalog import Catalog, Dimensions, Kind, Model, Offer
from embedway.money import picodollars
from embedway.origins import SettingsError
from embedway.provider import AccessKey, Deployment, Provider
from embedway.providers import PROVIDERS
from embedway.secret import Secret
from embedway.settings import AccountSettings, ModelSettings, Settings

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
    credentials_file: str | None = None
    """A service account whose tokens stand in for the credential."""


def with_own_models(settings: Settings, catalog: Catalog) -> Catalog:
    """The catalogue with the operator's own models (those with `dimensions`) at its end."""
    own = tuple(
        _own_model(name, model, settings, catalog)
        for name, model in settings.models.items()
        if _is_own(name, model, catalog)
    )
    return Catalog(models=catalog.models + own, retired=catalog.retired, kinds=catalog.kinds)


def aliases(settings: Settings) -> dict[str, str]:
    """The operator's own names for models of the catalogue."""
    return {name: own.model for name, own in settings.models.items() if own.model is not None}


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
        offer = model.offer(provider.name) or _plain_offer(model, provider, catalog)
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
        yield Served(provider, deployment, offer.token_arrays, account.credentials_file)


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
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
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
        return not ipaddress.ip_address(host).is_global
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
    offers = [(model, model.offer(provider.name)) for model in catalog.models]
    ready = [(model, o.upstream_id) for model, o in offers if o and not o.is_shut_down]
    if provider.ask_introduction is not None:
        return  # the server itself tells, once it is asked (`introductions.py`)
    if not any(upstream for _, upstream in ready):
        raise SettingsError(
            f"providers.{name}.models must say which models the account serves, "
            "as our name = the account's name"
        )
    for model, upstream in ready:
        if upstream:
            yield model, upstream


def _plain_offer(model: Model, provider: Provider, catalog: Catalog) -> Offer:
    """An offer the catalogue does not list: a self-hosted or passed-on model. It costs nothing
    where it runs on the operator's own machines, and else what its creator's offer costs."""
    kind = catalog.kind(provider.name)
    if kind is None:
        first = model.offers[0]
        return Offer(
            provider=provider.name,
            price_usd_per_million_tokens=first.price_usd_per_million_tokens,
            dimensions_param="dimensions" if first.dimensions_param else None,
            source=first.source,
            checked=first.checked,
        )
    marked = [one.input_type for one in model.offers if one.input_type is not None]
    words = next((field for field in marked if field.param is None), None)
    if marked and words is None:
        raise SettingsError(
            f"{model.id} makes other vectors for queries than for documents, and nothing is known "
            f"of how {kind.name} is told; serve it under a name of your own "
            '([models."..."] with its dimensions)'
        )
    return replace(_kind_offer(kind, model.dimensions), input_type=words)


def _kind_offer(kind: Kind, dimensions: Dimensions, price: str | None = None) -> Offer:
    is_fixed = len(dimensions.allowed) == 1
    return Offer(
        provider=kind.name,
        price_usd_per_million_tokens=price or kind.price_usd_per_million_tokens,
        max_inputs=kind.max_inputs,
        dimensions_param=None if is_fixed else kind.dimensions_param,
        normalised=kind.normalised,
        source=kind.source,
        checked=kind.checked,
    )


def _is_own(name: str, model: ModelSettings, catalog: Catalog) -> bool:
    """Whether `[models.NAME]` describes a model, and is not an alias."""
    if (model.model is None) == (model.dimensions is None):
        raise SettingsError(f'models."{name}": set either model, or dimensions')
    if model.dimensions is None:
        return False
    if "/" not in name.strip("/"):
        raise SettingsError(f'models."{name}": a model of your own is named like "rack/bge-m3"')
    if catalog.find(name) is not None:
        raise SettingsError(f'models."{name}": the catalogue has a model of that name')
    try:
        picodollars(model.price_usd_per_million_tokens)
    except ValueError as error:
        raise SettingsError(f'models."{name}".price_usd_per_million_tokens: {error}') from None
    return True


def _own_model(name: str, model: ModelSettings, settings: Settings, catalog: Catalog) -> Model:
    width = model.dimensions or 1
    dimensions = Dimensions(default=width, allowed=(width,))
    if model.matryoshka:
        dimensions = Dimensions(default=width, minimum=1, maximum=width, cut=True)
    price = model.price_usd_per_million_tokens
    listed = catalog.models[0].listed
    kinds = {
        account.kind or account_name
        for account_name, account in settings.providers.items()
        if name in account.models
    }
    if not kinds:
        raise SettingsError(f'models."{name}": no account serves it; add it to one\'s models')
    offers = [
        _kind_offer(kind, dimensions, price)
        if (kind := catalog.kind(kind_name))
        else Offer(
            provider=kind_name, price_usd_per_million_tokens=price, source=(), checked=listed
        )
        for kind_name in sorted(kinds)
    ]
    return Model(
        id=name,
        name=name.partition("/")[2],
        description="A model of this gateway's operator.",
        listed=listed,
        dimensions=dimensions,
        max_input_tokens=model.max_input_tokens,
        normalised="unknown",
        offers=tuple(offers),
    )


def credential_hint(account: AccountSettings) -> str:
    """What may be shown of an account's credential."""
    secret: Secret | None = account.api_key or account.access_token or account.secret_access_key
    return secret.hint() if secret else ""
