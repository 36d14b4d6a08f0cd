from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from embedway.catalog_file import load_catalog
from embedway.money import picodollars, usd_text
from embedway.tokens import count_cl100k, estimate_tokens
from tests.cli.running import Ended, Run

SMALL = "openai/text-embedding-3-small"
TEXTS = ["The quick brown fox jumps over the lazy dog.", "Grüße aus Köln", "  two\twords "]


@pytest.fixture
def file(work: Path) -> str:
    """Texts, one of them twice, and a blank line."""
    path = work / "texts.txt"
    path.write_text("\n".join([*TEXTS, TEXTS[0], "", ""]), "utf-8")
    return path.name


def bids(ended: Ended) -> dict[tuple[str, str], dict[str, Any]]:
    """What was printed, by model and provider."""
    assert ended.code == 0
    return {(bid["model"], bid["provider"]): bid for bid in json.loads(ended.out)["models"]}


def test_every_price_of_the_catalogue(run: Run, file: str) -> None:
    """Every offer that has a price and is still served is there once, the cheapest first, with the
    catalogue's price and the day on which it was read."""
    models = json.loads(run("cost", file, "--json").out)["models"]
    offers = {
        (model.id, offer.provider): (
            offer.price_usd_per_million_tokens or offer.price_usd_per_million_characters,
            offer.checked.isoformat(),
        )
        for model in load_catalog().models
        for offer in model.live_offers
        if (offer.price_usd_per_million_tokens or offer.price_usd_per_million_characters)
    }
    assert len(models) == len(offers)
    for bid in models:
        price, day = offers[bid["model"], bid["provider"]]
        assert price is not None
        assert picodollars(bid["price_usd_per_million"]) == picodollars(price)
        assert bid["price_checked"] == day
    costs = [float(bid["cost"]) for bid in models]
    assert costs == sorted(costs)


def test_counts(run: Run, file: str) -> None:
    """A text that comes again costs nothing again, and blank lines are passed over."""
    answer = json.loads(run("cost", file, "--json").out)
    assert (answer["texts"], answer["unique"], answer["blank"]) == (4, 3, 1)


def test_exact_tokens(run: Run, file: str) -> None:
    """Where the tokenizer is here, the cost is what will be billed, to the last picodollar."""
    tokens = sum(map(count_cl100k, TEXTS))
    bid = bids(run("cost", file, "--json"))[SMALL, "openai"]
    assert (bid["tokens"], bid["tokens_are_estimated"], bid["is_exact"]) == (tokens, False, True)
    assert bid["cost"] == usd_text(tokens * 20_000)
    assert bid["price_unit"] == "token"


def test_estimated_tokens(run: Run, file: str) -> None:
    """Where only the provider can count, the cost is an estimate, and says so."""
    tokens = sum(map(estimate_tokens, TEXTS))
    bid = bids(run("cost", file, "--json"))["cohere/embed-v4.0", "cohere"]
    assert (bid["tokens"], bid["tokens_are_estimated"], bid["is_exact"]) == (tokens, True, False)
    assert bid["cost"] == usd_text(tokens * 120_000)
    lines = run("cost", file).out.splitlines()
    (row,) = [line for line in lines if re.match(r"cohere/embed-v4.0 +cohere ", line)]
    assert f"~{usd_text(tokens * 120_000)}" in row
    assert f"~{tokens} tokens" in row
    assert lines[-1].startswith("~ is an estimate")


def test_the_model_in_the_process(run: Run, file: str) -> None:
    """The local model counts with its own tokenizer, and is free."""
    bid = bids(run("cost", file, "--json"))["local/wordllama-256", "local"]
    done = run("embed", file, "-o", "out.jsonl", "--json")
    assert bid["tokens"] == json.loads(done.out)["tokens"]
    assert (bid["cost"], bid["is_exact"]) == ("0", True)


def test_characters(run: Run, file: str) -> None:
    """Where characters are billed they are counted exactly, without white space."""
    characters = sum(len("".join(text.split())) for text in TEXTS)
    bid = bids(run("cost", file, "--json"))["google/text-embedding-005", "vertex"]
    assert (bid["characters"], bid["price_unit"], bid["is_exact"]) == (
        characters,
        "character",
        True,
    )
    assert bid["cost"] == usd_text(characters * 25_000)
    assert f" {characters} characters " in run("cost", file).out


def test_too_long(run: Run) -> None:
    """Texts that a model does not take whole are counted, by its own limit."""
    long = "word " * 600
    found = bids(run("cost", f"{long}", "a short text", "--json"))
    assert found["BAAI/bge-base-en-v1.5", "together"]["too_long"] == 1
    assert found[SMALL, "openai"]["too_long"] == 0


def test_an_operators_own_price(run: Run, work: Path, file: str) -> None:
    """A model of the operator's own is there with his price, which has no date."""
    (work / "embedway.toml").write_text(
        '[providers.rack]\nkind = "openai"\napi_key = "x"\nbase_url = "https://rack.example/v1"\n'
        'models = { "rack/own" = "own" }\n'
        '[models."rack/own"]\ndimensions = 8\nmax_input_tokens = 100\n'
        'price_usd_per_million_tokens = "0.5"\n'
    )
    bid = next(bid for name, bid in bids(run("cost", file, "--json")).items() if "rack/own" in name)
    assert (bid["price_usd_per_million"], bid["price_checked"]) == ("0.5", None)
    (row,) = [line for line in run("cost", file).out.splitlines() if line.startswith("rack/own")]
    assert row.endswith("your settings")


def test_for_people(run: Run, file: str) -> None:
    """People read what was found first, then a table with prices and their days."""
    head, names, free, *rows = run("cost", file).out.splitlines()
    assert head == "4 texts · 1 repeated, which cost nothing again · 1 blank"
    columns = ["MODEL", "PROVIDER", "COST $", "BILLED", "$ PER 1M", "PRICE OF", "TOO LONG"]
    assert re.split("  +", names) == columns
    assert free.startswith("local/wordllama-256")
    assert all(re.search(r"  20\d\d-\d\d-\d\d", row) for row in rows[:-1])


def test_piped(run: Run) -> None:
    """Texts can be piped in."""
    answer = json.loads(run("cost", "--json", stdin=b"one\ntwo\n").out)
    assert answer["texts"] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("none.jsonl",), "none.jsonl: no such file"),
        (("-",), "nothing to embed: the input is empty"),
        (("--files", "*.none"), "--files *.none: no file matches"),
    ],
)
def test_nothing_to_embed(run: Run, words: tuple[str, ...], told: str) -> None:
    """Where there is no text there is no price, but one line that says why."""
    ended = run("cost", *words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"embedway: {told}")
