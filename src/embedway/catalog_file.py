"""Reads `catalog.toml` and checks it: a row that contradicts itself stops the start."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from importlib import resources
from typing import Any, TypeVar

from msgspec import Struct, ValidationError, convert

from embedway.catalog import Catalog, Kind, Model, Offer, Retired
from embedway.money import picodollars


class CatalogError(ValueError):
    """The catalogue contradicts itself or cannot be read; the message names the row."""


class CatalogFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file as written: what is common to many offers stands in it once."""

    checked: date  # when the sources were read, unless a row says otherwise
    input_types: dict[str, dict[str, Any]] = {}  # InputTypeField, by the name that offers use
    providers: dict[str, dict[str, Any]] = {}  # true of every offer of the provider that is silent
    models: list[dict[str, Any]]
    retired: list[dict[str, Any]] = []
    kinds: list[dict[str, Any]] = []


def load_catalog(text: str | None = None) -> Catalog:
    """Read and check the catalogue in *text*, or else the one that comes with the package.

    Raises CatalogError, naming the row, if the text is not TOML, has an unknown or missing field,
    or contradicts itself.
    """
    if text is None:
        text = resources.files("embedway").joinpath("catalog.toml").read_text("utf-8")
    try:
        file = convert(tomllib.loads(text), CatalogFile, builtin_types=(date,))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise CatalogError(f"catalog: {error}") from error
    catalog = Catalog(
        models=tuple(_row(_with_defaults(row, file), Model) for row in file.models),
        retired=tuple(_row({"checked": file.checked, **row}, Retired) for row in file.retired),
        kinds=tuple(_row({"checked": file.checked, **row}, Kind) for row in file.kinds),
    )
    if faults := [*_faults(catalog), *_unused(file)]:
        raise CatalogError(f"catalog: {'; '.join(faults)}")
    return catalog


Row = TypeVar("Row", Model, Retired, Kind)


def _row(row: dict[str, Any], kind: type[Row]) -> Row:
    try:
        return convert(row, kind, builtin_types=(date,))
    except ValidationError as error:
        name = row.get("id") or row.get("name") or f"a {kind.__name__.lower()} without a name"
        raise CatalogError(f"catalog: {name}: {error}") from error


def _with_defaults(model: dict[str, Any], file: CatalogFile) -> dict[str, Any]:
    """*model* with what its offers left to the provider's row and to the head of the file."""
    offers = []
    for offer in _offer_rows(model):
        full = {
            "checked": file.checked,
            **file.providers.get(_word(offer, "provider"), {}),
            **offer,
        }
        if "input_type" in full:
            way = _word(full, "input_type")
            if way not in file.input_types:
                raise CatalogError(f"catalog: {model.get('id')}: no input_types.{way}")
            full["input_type"] = file.input_types[way]
        offers.append(full)
    return {"listed": file.checked, **model, "offers": offers}


def _offer_rows(model: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        return convert(model.get("offers", []), list[dict[str, Any]], builtin_types=(date,))
    except ValidationError as error:
        raise CatalogError(f"catalog: {model.get('id')}: offers: {error}") from error


def _word(row: dict[str, Any], field: str) -> str:
    """The row's *field*, made text so that a wrong type can be looked up, and then refused."""
    return str(row.get(field))


def _unused(file: CatalogFile) -> Iterator[str]:
    """Rows that nothing refers to: most likely a name is misspelt."""
    offers = [offer for model in file.models for offer in _offer_rows(model)]
    rows = [*offers, *file.providers.values()]
    for name in file.providers.keys() - {_word(offer, "provider") for offer in offers}:
        yield f"providers.{name}: no model is offered by it"
    for name in file.input_types.keys() - {_word(row, "input_type") for row in rows}:
        yield f"input_types.{name}: no offer uses it"


def _faults(catalog: Catalog) -> Iterator[str]:
    """What contradicts something else, row by row."""
    models = {model.id: model for model in catalog.models}
    yield from _doubles([*(model.id for model in catalog.models), *(r.id for r in catalog.retired)])
    yield from _doubles([kind.name for kind in catalog.kinds])
    for model in catalog.models:
        faults = [*_dimension_faults(model), *_input_type_faults(model)]
        if not model.live_offers:
            faults.append("nobody offers it: it belongs to retired")
        faults += _doubles([offer.provider for offer in model.offers])
        if (owner := models.get(model.space_name, model)).space_name != model.space_name:
            faults.append(f"space: {owner.id} itself is not in the space that bears its name")
        for offer in model.offers:
            faults += [f"{offer.provider}: {fault}" for fault in _offer_faults(offer, model)]
            if offer.successor is not None:
                faults += _successor_faults(offer.successor, models)
        yield from (f"{model.id}: {fault}" for fault in faults)
    for retired in catalog.retired:
        yield from (f"{retired.id}: {f}" for f in _successor_faults(retired.successor, models))
    for kind in catalog.kinds:
        yield from (f"{kind.name}: {f}" for f in _price_faults(kind.price_usd_per_million_tokens))


def _doubles(names: list[str]) -> Iterator[str]:
    return (f"{name}: listed twice" for name in sorted({n for n in names if names.count(n) > 1}))


def _successor_faults(successor: str, models: Mapping[str, Model]) -> Iterator[str]:
    if successor not in models or not models[successor].live_offers:
        yield f"successor: {successor} is not a model one could move to"


def _price_faults(*prices: str | None) -> Iterator[str]:
    for price in prices:
        try:
            picodollars(price)
        except ValueError as error:
            yield f"price: {error}"


def _dimension_faults(model: Model) -> Iterator[str]:
    dimensions = model.dimensions
    low, high = dimensions.minimum, dimensions.maximum
    if (low is None) != (high is None) or (low is None) != bool(dimensions.allowed):
        yield "dimensions: either allowed, or minimum and maximum"
        return
    if low is not None and high is not None and low >= high:
        yield "dimensions: minimum is not below maximum"
    if list(dimensions.allowed) != sorted(set(dimensions.allowed)):
        yield "dimensions: allowed is not ascending"
    for count in (dimensions.default, *dimensions.recommended):
        if not dimensions.allows(count):
            yield f"dimensions: {count} is not allowed"


def _input_type_faults(model: Model) -> Iterator[str]:
    default = model.input_type_default
    if default is not None and default not in model.input_types:
        yield f"input_type_default: {default} is not among input_types"
    if model.input_type_in_space and not model.input_types:
        yield "input_type_in_space: there are no input_types"


def _offer_faults(offer: Offer, model: Model) -> Iterator[str]:
    yield from _price_faults(
        offer.price_usd_per_million_tokens, offer.price_usd_per_million_characters
    )
    if (offer.status == "shut_down") != (offer.shutdown_date is not None):
        yield "a shutdown_date and the status shut_down belong together"
    if offer.successor is not None and not offer.is_shut_down:
        yield "a successor, but not shut down"
    if bool(model.input_types) != (offer.input_type is not None):
        yield "input_type: the model and the offer disagree on whether there is one"
    fixed = len(model.dimensions.allowed) == 1
    if fixed and offer.dimensions_param is not None:
        yield "dimensions_param: the model has one length only"
    if not fixed and model.shorter_from(offer) is None:
        yield "dimensions_param: nothing makes the shorter vectors"
