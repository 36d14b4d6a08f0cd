"""`embedway models`: what can be asked for here, and what else the catalogue knows."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from embedway.catalog import Model
from embedway.catalog_file import load_catalog
from embedway.cli.arguments import Parser, add_common, load
from embedway.cli.served import Served, look_around
from embedway.cli.stop import OK
from embedway.cli.terminal import table
from embedway.own_models import aliases
from embedway.settings import CREDENTIAL_NAMES, Settings

_HEAD = ("MODEL", "DIMENSIONS", "MAX TOKENS", "$ PER 1M TOKENS", "PROVIDERS", "STATE")


def add_arguments(parser: Parser) -> None:
    """Declare `--all`."""
    parser.add_argument(
        "--all", action="store_true", help="the whole catalogue, also what nobody here serves"
    )
    add_common(parser, "print a JSON array")


def run(arguments: Namespace) -> int:
    """Print the models, one a line, then the aliases."""
    settings, catalog = load(arguments).settings, load_catalog()
    served = look_around(settings, catalog)
    models = served.directory.catalog.models if arguments.all else served.directory.listed()
    records = [_record(model, served, settings) for model in models]
    if arguments.json:
        print(json.dumps(records))
        return OK
    print(table(_HEAD, list(map(_cells, records)), right=(2, 3)))
    for name, model in aliases(settings).items():
        print(f"{name} stands for {served.directory.canonical(model)}")
    hidden = len(served.directory.catalog.models) - len(models)
    if hidden:
        print(f"{hidden} more in the catalogue: embedway models --all")
    return OK


def _record(model: Model, served: Served, settings: Settings) -> dict[str, Any]:
    accounts = served.accounts.get(model.id, ())
    prices = {
        offer.provider: offer.price_usd_per_million_tokens
        for offer in model.live_offers
        if offer.price_usd_per_million_tokens is not None
    }
    return {
        "id": model.id,
        "dimensions": model.dimensions.default,
        "allowed_dimensions": model.allowed_text,
        "max_input_tokens": model.max_input_tokens,
        "usd_per_million_tokens": next(iter(prices.values()), None),
        "providers": accounts or tuple(offer.provider for offer in model.live_offers),
        "state": "ready" if accounts else _why_not(model),
        "aliases": tuple(
            name
            for name, target in aliases(settings).items()
            if served.directory.canonical(target) == model.id
        ),
    }


def _why_not(model: Model) -> str:
    """What keeps the model from being served here."""
    variables = [CREDENTIAL_NAMES.get(offer.provider, ())[:1] for offer in model.live_offers]
    names = [name for found in variables for name in found]
    return f"set {names[0]}" if names else "no account"


def _cells(record: dict[str, Any]) -> tuple[str, ...]:
    price = record["usd_per_million_tokens"]
    return (
        record["id"],
        record["allowed_dimensions"],
        f"{record['max_input_tokens']:,}",
        "?" if price is None else "free" if not price.strip("0.") else price,
        ", ".join(record["providers"]),
        record["state"],
    )
