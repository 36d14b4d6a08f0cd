"""Offers that the catalogue does not list: models on servers of the operator's own, or behind
another gateway."""

from __future__ import annotations

from msgspec.structs import replace

from embedway.catalog import Catalog, Dimensions, Kind, Model, Offer
from embedway.wrong_settings import SettingsError


def plain_offer(model: Model, provider: str, catalog: Catalog) -> Offer:
    """An offer the catalogue does not list: a self-hosted or passed-on model. It costs nothing
    where it runs on the operator's own machines, and else what its creator's offer costs."""
    kind = catalog.kind(provider)
    if kind is None:
        first = model.offers[0]
        return Offer(
            provider=provider,
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
    return replace(kind_offer(kind, model.dimensions), input_type=words)


def kind_offer(kind: Kind, dimensions: Dimensions, price: str | None = None) -> Offer:
    """What a self-hosted server offers of a model of that width."""
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
