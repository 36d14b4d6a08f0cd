"""`embedway cost`: what embedding texts would cost with each model, before any is sent."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import closing

from embedway.catalog_file import load_catalog
from embedway.cli.arguments import Parser, add_common, load
from embedway.cli.bids import Bid, all_bids
from embedway.cli.inputs import add_inputs, open_corpus
from embedway.cli.measure import CountTokens, Measured, measure
from embedway.cli.stop import OK
from embedway.cli.terminal import table
from embedway.money import usd_text
from embedway.own_models import with_own_models
from embedway.static_model import load_wordllama
from embedway.tokens import count_cl100k

_HEAD = ("MODEL", "PROVIDER", "COST $", "BILLED", "$ PER 1M", "PRICE OF", "TOO LONG")
_MILLION = 10**6


def add_arguments(parser: Parser) -> None:
    """Declare what is to be embedded."""
    parser.epilog = (
        "examples:\n"
        "  embedway cost docs.jsonl\n"
        "  embedway cost --files 'notes/**/*.md' --json\n\n"
        "Nothing is sent anywhere.\n\n"
        f"{parser.epilog}"
    )
    add_inputs(parser)
    add_common(parser, "print one JSON object")


def run(arguments: Namespace) -> int:
    """Print a line for each model and provider, the cheapest first."""
    settings = load(arguments).settings
    catalog = with_own_models(settings, load_catalog())
    with closing(open_corpus(arguments)) as texts:
        measured = measure(texts.rows(), _tokenizers())
        blank = texts.blank
    bids = all_bids(measured, catalog, settings)
    if arguments.json:
        print(json.dumps(_record(measured, blank, bids)))
    else:
        _print(measured, blank, bids)
    return OK


def _tokenizers() -> Mapping[str, CountTokens]:
    """Those that are here, under the catalogue's names."""
    local = load_wordllama()
    return {
        "cl100k_base": count_cl100k,
        "wordllama": lambda text: len(local.tokenize([text])[0]),
    }


def _record(measured: Measured, blank: int, bids: Sequence[Bid]) -> dict[str, object]:
    return {
        "texts": measured.rows,
        "unique": measured.unique,
        "blank": blank,
        "models": [bid.record() for bid in bids],
    }


def _print(measured: Measured, blank: int, bids: Sequence[Bid]) -> None:
    repeated = measured.rows - measured.unique
    parts = [
        f"{measured.rows:,} texts",
        *([f"{repeated:,} repeated, which cost nothing again"] if repeated else []),
        *([f"{blank:,} blank"] if blank else []),
    ]
    print(" · ".join(parts))
    print(table(_HEAD, list(map(_cells, bids)), right=(2, 3, 4, 6)))
    if not all(bid.is_exact for bid in bids):
        print("~ is an estimate, a token for four bytes: only the provider can count its tokens.")


def _cells(bid: Bid) -> tuple[str, ...]:
    if bid.characters is not None:
        billed = f"{bid.characters:,} characters"
    else:
        billed = f"{'~' if bid.is_estimated else ''}{bid.tokens:,} tokens"
    return (
        bid.model,
        bid.provider,
        f"{'' if bid.is_exact else '~'}{usd_text(bid.cost)}",
        billed,
        usd_text(bid.price * _MILLION),
        bid.checked.isoformat() if bid.checked else "your settings",
        f"{bid.too_long:,}" if bid.too_long else "",
    )
