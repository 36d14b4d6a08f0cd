"""The operator's own names, `[models.NAME]`: aliases, and models that no catalogue knows.

Raises SettingsError, naming the entry, wherever the settings make no sense.
"""

from __future__ import annotations

from embedway.catalog import Catalog, Dimensions, Model, Offer, is_model_id
from embedway.money import picodollars
from embedway.offers import kind_offer
from embedway.settings import ModelSettings, Overlong, Settings
from embedway.wrong_settings import SettingsError


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


def overlong_policies(settings: Settings, catalog: Catalog) -> dict[str, Overlong]:
    """What becomes of inputs that are too long, by canonical model name, where something does."""
    policies: dict[str, Overlong] = {}
    for name, own in settings.models.items():
        if own.on_overlong == "error":
            continue
        if own.model is not None:
            raise SettingsError(
                f'models."{name}".on_overlong: an alias shares the vectors of its model; set it '
                f'under models."{own.model}"'
            )
        found = catalog.find(name)
        policies[found.model.id if found else name] = own.on_overlong
    return policies


def hedged_models(settings: Settings, catalog: Catalog) -> frozenset[str]:
    """Canonical names of the models whose slow single texts are asked twice."""
    found = {name: catalog.find(own.model or name) for name, own in settings.models.items()}
    return frozenset(
        found_model.model.id if (found_model := found[name]) else name
        for name, own in settings.models.items()
        if own.hedge
    )


def _is_own(name: str, model: ModelSettings, catalog: Catalog) -> bool:
    """Whether `[models.NAME]` describes a model, and is not an alias."""
    said = ModelSettings(on_overlong=model.on_overlong, hedge=model.hedge)
    if model == said and catalog.find(name) is not None:
        return False  # only says how a model of the catalogue is asked
    if (model.model is None) == (model.dimensions is None):
        raise SettingsError(f'models."{name}": set either model, or dimensions')
    if model.dimensions is None:
        return False
    if not is_model_id(name):
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
        kind_offer(kind, dimensions, price)
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
