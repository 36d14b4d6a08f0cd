"""The catalogue says what the research said, and a damaged catalogue is refused."""

import json
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from embedway.catalog import Catalog, InputTypeField, Kind, Model, Offer, Retired
from embedway.catalog_file import CatalogError, load_catalog
from embedway.money import picodollars

Row = dict[str, Any]

CATALOG = load_catalog()
ROWS: list[Row] = json.loads((Path(__file__).parent / "data" / "models.json").read_text("utf-8"))
MODEL_ROWS = [row for row in ROWS if not row["id"].endswith("/*")]
KIND_ROWS = [row for row in ROWS if row["id"].endswith("/*")]

# The research's words for a provider, an overlong input and a length, and ours.
PROVIDERS = {"gemini": "google", "nvidia_nim": "nvidia"}
OVERLONG = {
    "reject_400": "reject",
    "error by default": "reject",
    "truncate=false by default => error": "reject",
    "truncate=NONE by default => error": "reject",
    "reject_400; truncate_prompt_tokens=-1 truncates": "reject",
    "error": "reject",
    "silently truncates (unverified)": "truncate",
    "silently truncates": "truncate",
    "truncates": "truncate",
    "long_text_mode truncate|mean": "truncate",
    "truncates unless autoTruncate:false": "reject_if_asked",
    "autoTruncate flag": "reject_if_asked",
    "truncate=END by default; NONE rejects": "reject_if_asked",
    "truncation=true by default; false rejects": "reject_if_asked",
    "truncationMode NONE|START|END": "reject_if_asked",
    "truncate param": "reject_if_asked",
    "truncate=true by default": "reject_if_asked",
    "auto_truncate=true by default": "reject_if_asked",
    "unknown": "unknown",
}
NORMALISED = {
    "only at 3072; normalise when reduced": "only_full",
    "at 3072 (measured); reduced sizes: verify": "only_full",
    "NO (measured norm 18.7)": "never",
    "approximately (bf16: 0.998-1.004)": "approximately",
    "approximately (measured)": "approximately",
    "default normalize=true (measured)": "always",
    "set normalize=true": "always",
    "embd_normalize default L2": "always",
    "default normalized=true (unverified)": "unknown",
    "assumed; verify": "unknown",
    "unknown after reduction": "unknown",
    "use_activation default (usually yes)": "unknown",
    "model dependent; NOT renormalised after dimensions (gateway must)": "only_full",
    "unknown": "unknown",
}


def row_id(row: Row) -> str:
    """How a row is called in the name of a test."""
    return f"{row['provider']}:{row['id']}"


def placed(row: Row) -> tuple[Model, Offer]:
    """The model and the offer that a row of the research became."""
    provider = PROVIDERS.get(row["provider"], row["provider"])
    found = [
        (model, offer)
        for model in CATALOG.models
        for offer in model.offers
        if offer.provider == provider
        and (offer.upstream_id == row["upstream_id"] or row["id"] == f"azure/{model.bare_name}")
    ]
    assert len(found) == 1
    return found[0]


def offers() -> Iterator[tuple[Model, Offer]]:
    """Every offer, with its model."""
    return ((model, offer) for model in CATALOG.models for offer in model.offers)


def model(name: str, catalog: Catalog = CATALOG) -> Model:
    """The model called *name*, which must exist."""
    found = catalog.find(name)
    assert found is not None
    return found.model


def offer(name: str, provider: str) -> Offer:
    """The offer of *provider*, which must exist."""
    found = model(name).offer(provider)
    assert found is not None
    return found


each_row = pytest.mark.parametrize("row", MODEL_ROWS, ids=row_id)
each_kind = pytest.mark.parametrize("row", KIND_ROWS, ids=row_id)


def test_every_row_has_one_offer_or_kind() -> None:
    """Each row of the research is one offer or one kind, and only the local model is ours."""
    assert len(ROWS) == 56
    from_rows = {(m.id, o.provider) for m, o in (placed(row) for row in MODEL_ROWS)}
    assert len(from_rows) == len(MODEL_ROWS)
    assert {(m.id, o.provider) for m, o in offers()} - from_rows == {
        ("local/wordllama-256", "local")
    }
    kinds = [row["provider"].replace("_", "-") for row in KIND_ROWS]
    assert [kind.name for kind in CATALOG.kinds] == [*kinds, "lm-studio"]  # that one's row is ours


@each_row
def test_dimensions_of_row(row: Row) -> None:
    """The dimensions are the row's; where two providers differ, they are what both take."""
    dimensions = placed(row)[0].dimensions
    allowed = row["dimensions_allowed"]
    assert dimensions.default == row["dimensions_default"]
    if isinstance(allowed, list):
        assert list(dimensions.allowed) == allowed
    elif row["id"] == "fireworks/nomic-ai/nomic-embed-text-v1.5":
        assert (min(dimensions.allowed), max(dimensions.allowed)) == (
            allowed["min"],
            allowed["max"],
        )
    else:
        assert (dimensions.minimum, dimensions.maximum) == (allowed["min"], allowed["max"])
        assert set(allowed.get("recommended", ())) <= set(dimensions.recommended)


@each_row
def test_limits_of_row(row: Row) -> None:
    """Every limit that a row knows is the limit of the offer, and no other is made up."""
    model, offer = placed(row)
    assert (offer.max_input_tokens or model.max_input_tokens) == row["max_input_tokens"]
    assert offer.max_tokens_per_request == row["max_tokens_per_request"]
    assert offer.max_input_characters == row.get("max_input_characters")
    if offer.is_shut_down and row["max_inputs_per_request"] is None:
        return  # the limit of the provider as a whole stands in its place
    assert offer.max_inputs == row["max_inputs_per_request"]


@each_row
def test_price_of_row(row: Row) -> None:
    """The price has the row's digits; the one added comes from the price table of a seed."""
    model, offer = placed(row)
    expected = row["price_per_1m_tokens_usd"]
    if (model.id, offer.provider) == ("google/text-embedding-004", "vertex"):
        expected = "0.025"
    assert offer.price_usd_per_million_tokens == expected
    assert offer.price_usd_per_million_characters == row.get("price_per_1m_characters_usd")


@each_row
def test_tokenizer_of_row(row: Row) -> None:
    """A tokenizer that anybody can run is named; else the offer says where the count is found."""
    model, offer = placed(row)
    named = row["tokenizer"]
    if named is None:
        assert model.tokenizer is None
    elif named.startswith(("hf", "tiktoken:", "mistral-common")):
        assert model.tokenizer is not None
        assert model.tokenizer.startswith(named.removeprefix("tiktoken:"))
    else:
        assert model.tokenizer is None
        assert offer.tokens_from is not None
        assert "/v1/tokenize" in named or offer.tokens_from in named
    assert offer.token_arrays == row["token_arrays"]


@each_row
def test_status_of_row(row: Row) -> None:
    """Status and every date in a row's status are told."""
    model, offer = placed(row)
    words = {"legacy": "legacy", "unverified": "unverified", "SHUT": "shut_down"}
    assert offer.status == words.get(row["status"].split()[0], "current")
    told = {offer.retires_after, offer.shutdown_date, model.released}
    assert {date.fromisoformat(d) for d in re.findall(r"\d{4}-\d\d-\d\d", row["status"])} <= told


@each_row
def test_behaviour_of_row(row: Row) -> None:
    """What a provider does with long inputs, lengths and types of numbers is as in the row."""
    model, offer = placed(row)
    assert offer.on_overlong == OVERLONG[row["over_long"]]
    normalised = NORMALISED.get(row["normalised"], "always")
    assert (offer.normalised or model.normalised) == normalised
    # Google's own SDK has since moved this one from :predict to :embedContent.
    moved = {"vertex/gemini-embedding-001": "embedContentConfig.outputDimensionality"}
    assert offer.dimensions_param == moved.get(row["id"], row["native_dimensions_param"])
    if "output_dtypes" in row:
        assert list(offer.output_dtypes) == row["output_dtypes"]


@each_row
def test_input_types_of_row(row: Row) -> None:
    """The field and the words of a provider's input types are the row's."""
    model, offer = placed(row)
    task = row["task_param"]
    if task is None or task["name"] == "prompt_template":
        assert offer.input_type is None or offer.input_type.param is None
        return
    assert offer.input_type is not None
    way = offer.input_type
    assert (way.param or "text prefix").endswith(task["name"])
    assert {way.query, way.document, *way.others} >= set(task["values"]) - {None}
    assert not task["values"] or set(task["values"]) >= {way.query, way.document, *way.others}
    assert model.input_type_in_space
    if task.get("required"):
        assert model.input_type_default == "document"


@each_kind
def test_kind_of_row(row: Row) -> None:
    """A self-hosted server is described as in its row."""
    found = CATALOG.kind(row["provider"].replace("_", "-"))
    assert found is not None
    assert found.price_usd_per_million_tokens == row["price_per_1m_tokens_usd"] == "0"
    assert found.max_inputs == row["max_inputs_per_request"]
    assert (found.dimensions_param or "") == (row["native_dimensions_param"] or "").split(" ")[0]
    assert found.token_arrays == row["token_arrays"]
    assert found.on_overlong == OVERLONG[row["over_long"]]
    assert found.normalised == NORMALISED.get(row["normalised"], "always")
    assert [url for url in found.source if url not in row["source"]] == []


@pytest.mark.parametrize(
    ("name", "provider", "dimensions", "per_token"),
    [
        ("openai/text-embedding-3-small", "openai", 1536, 20_000),
        ("openai/text-embedding-3-large", "openai", 3072, 130_000),
        ("openai/text-embedding-ada-002", "openai", 1536, 100_000),
        ("google/text-embedding-004", "vertex", 768, 25_000),
        ("cohere/embed-english-v3.0", "cohere", 1024, 100_000),
        ("cohere/embed-multilingual-v3.0", "cohere", 1024, 100_000),
        ("mistral/mistral-embed", "mistral", 1024, 100_000),
    ],
)
def test_seven_models_of_the_seeds(
    name: str, provider: str, dimensions: int, per_token: int
) -> None:
    """The seven models of the seeds have the seeds' dimensions and prices."""
    assert model(name).dimensions.default == dimensions
    assert model(name.partition("/")[2]) is model(name)
    assert model(name).live_offers[0].provider == provider
    assert offer(name, provider).price_picodollars_per_token == per_token


def test_text_embedding_004_is_half_dead() -> None:
    """text-embedding-004 is shut down on the Gemini API, with a successor, and alive on Vertex."""
    gone = offer("google/text-embedding-004", "google")
    assert gone.is_shut_down
    assert gone.shutdown_date == date(2026, 1, 14)
    assert gone.successor == "google/gemini-embedding-001"
    assert [o.provider for o in model("google/text-embedding-004").live_offers] == ["vertex"]


def test_local_model() -> None:
    """The local model is free, needs no network, and may be cut where it stands."""
    local = model("local/wordllama-256")
    assert (local.dimensions.default, local.allowed_text) == (256, "64, 128 or 256")
    assert local.shorter_from(local.offers[0]) == "cut"
    assert (local.max_input_tokens, local.normalised) == (65536, "always")
    assert (local.input_types, local.tokenizer) == ((), "wordllama")
    assert local.offers[0].price_picodollars_per_token == 0


def test_every_fact_has_a_source() -> None:
    """Every offer, kind and retired model names pages and the day they were read."""
    facts: list[Offer | Kind | Retired] = [offer for _, offer in offers()]
    facts += [*CATALOG.kinds, *CATALOG.retired]
    assert {fact.checked for fact in facts} == {date(2026, 11, 21)}
    assert all(url.startswith("https://") for fact in facts for url in fact.source)
    assert all(fact.source for fact in facts)


@pytest.mark.parametrize(
    "name",
    [
        "google/embedding-001",
        "gemini-embedding-exp-03-07",
        "gemini-embedding-exp",
        "cohere/embed-english-v2.0",
        "embed-english-light-v2.0",
        "embed-multilingual-v2.0",
    ],
)
def test_retired_models_are_known(name: str) -> None:
    """A retired model is no model any more, but its date and a living successor are known."""
    retired = CATALOG.find_retired(name)
    assert retired is not None
    assert CATALOG.find(name) is None
    assert retired.shutdown_date < retired.checked
    assert model(retired.successor).live_offers


def test_retired_is_not_for_living_models() -> None:
    """No model of the catalogue is called retired."""
    assert [m.id for m in CATALOG.models if CATALOG.find_retired(m.id)] == []
    assert CATALOG.find_retired("") is None


def test_shared_spaces() -> None:
    """Only models that their maker calls compatible share a space; all others stand alone."""
    spaces: dict[str, list[str]] = {}
    for m in CATALOG.models:
        spaces.setdefault(m.space_name, []).append(m.bare_name)
    assert {space: names for space, names in spaces.items() if len(names) > 1} == {
        "cohere/embed-v5.0": ["embed-v5.0-pro", "embed-v5.0-fast"],
        "voyage/voyage-4": ["voyage-4-large", "voyage-4", "voyage-4-lite"],
    }
    assert model("voyage/voyage-code-4").space_name == "voyage/voyage-code-4"


def test_one_space_whoever_serves_it() -> None:
    """Without an input type, all offers of a model give the same vector, or there is a default."""
    silent = [
        m.id
        for m in CATALOG.models
        if m.input_types and not m.input_type_default and len({o.input_type for o in m.offers}) > 1
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.02", 20_000),
        ("0.10", 100_000),
        ("0.135", 135_000),
        ("0.002", 2_000),
        ("0.000001", 1),
        ("0", 0),
        ("12", 12_000_000),
        ("100000000.000001", 100_000_000_000_001),
        (None, None),
    ],
)
def test_picodollars(text: str | None, expected: int | None) -> None:
    """A price per million becomes whole picodollars per unit, without rounding."""
    assert picodollars(text) == expected


@pytest.mark.parametrize(
    "text", ["0.0000001", "", ".5", "1.", "1e-3", "-1", "+1", "1,5", " 1", "1\n", "NaN", "0x1", "٣"]
)
def test_inexact_prices_are_refused(text: str) -> None:
    """What is not plain decimal text in whole picodollars is no price."""
    with pytest.raises(ValueError, match="whole picodollars"):
        picodollars(text)


def test_prices_are_exact() -> None:
    """Every price of the catalogue, in picodollars, is the decimal number that is written there."""
    checked = 0
    for _, o in offers():
        for text, price in (
            (o.price_usd_per_million_tokens, o.price_picodollars_per_token),
            (o.price_usd_per_million_characters, o.price_picodollars_per_character),
        ):
            assert (price is None) == (text is None)
            if text is not None:
                assert Decimal(text) * 10**6 == price
                checked += 1
    assert checked > len(CATALOG.models)


def test_price_of_the_seeds_example() -> None:
    """Two tokens of text-embedding-3-small cost 0.00000004 USD, and six 0.00000012 USD."""
    price = offer("openai/text-embedding-3-small", "openai").price_picodollars_per_token
    assert price is not None
    assert (2 * price, 6 * price) == (40_000, 120_000)


GOOD = """
checked = 2026-11-21
[providers.acme]
max_inputs = 7
input_type = "acme"
source = ["https://acme.example/docs"]
[input_types.acme]
param = "kind"
query = "q"
document = "d"
others = ["x"]
[[models]]
id = "acme/one"
name = "One"
description = "The first."
released = 2024-01-22
dimensions = { default = 8, allowed = [4, 8], recommended = [8] }
max_input_tokens = 100
input_types = ["query", "document"]
input_type_default = "document"
input_type_in_space = true
normalised = "always"
[[models.offers]]
provider = "acme"
price_usd_per_million_tokens = "0.02"
price_usd_per_million_characters = "0.5"
dimensions_param = "size"
[[models.offers]]
provider = "bolt"
max_inputs = 9
input_type = "acme"
dimensions_param = "size"
source = ["https://bolt.example/docs"]
checked = 2026-01-01
[[models]]
id = "bolt/one"
name = "One of Bolt"
description = "Another with the same bare name."
space = "bolt/family"
dimensions = { default = 2, minimum = 1, maximum = 3 }
max_input_tokens = 100
normalised = "never"
[[models.offers]]
provider = "bolt"
dimensions_param = "size"
source = ["https://bolt.example/docs"]
[[models.offers]]
provider = "cord"
dimensions_param = "length"
status = "shut_down"
shutdown_date = 2026-01-01
successor = "acme/one"
source = ["https://cord.example/docs"]
[[models]]
id = "bolt/team/two"
name = "Two"
description = "A slash in the bare name."
dimensions = { default = 2, allowed = [2] }
max_input_tokens = 100
normalised = "never"
[[models.offers]]
provider = "bolt"
source = ["https://bolt.example/docs"]
[[retired]]
id = "acme/zero"
provider = "acme"
shutdown_date = 2025-01-01
successor = "acme/one"
source = ["https://acme.example/zero"]
"""
BOX = """
[[kinds]]
name = "box"
price_usd_per_million_tokens = "0"
on_overlong = "reject"
normalised = "always"
source = ["https://box.example"]
"""
GOOD += BOX
LAST_OFFER = 'provider = "bolt"\nsource = ["https://bolt.example/docs"]\n'


def test_defaults_of_the_provider() -> None:
    """An offer takes what it does not say from its provider's row, and the day from the head."""
    catalog = load_catalog(GOOD)
    first, second = model("acme/one", catalog).offers
    assert (first.max_inputs, second.max_inputs) == (7, 9)
    assert (
        first.input_type
        == second.input_type
        == InputTypeField(param="kind", query="q", document="d", others=("x",))
    )
    assert (first.checked, second.checked) == (date(2026, 11, 21), date(2026, 1, 1))
    assert model("bolt/one", catalog).listed == date(2026, 11, 21)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("checked = 2026-11-21", "checked = ", "catalog: "),
        ("checked = 2026-11-21", "", "checked"),
        ("checked = 2026-11-21", "checked = 2026-11-21\nprices = 1", "prices"),
        ("checked = 2026-11-21", 'checked = "soon"', "checked"),
        ("max_inputs = 7", "max_inputs = 0", r"acme/one: .*max_inputs|acme/one: .*>= 1"),
        ("max_inputs = 7", "max_input = 7", "acme/one: .*max_input"),
        ('name = "One"', "", "acme/one: .*name"),
        ('name = "One"', 'name = "One"\nprice = "1"', "acme/one: .*price"),
        ('id = "acme/one"', 'id = "one"', "one: "),
        ('id = "acme/one"', 'id = "bolt/one"', "bolt/one: listed twice"),
        ('id = "acme/zero"', 'id = "acme/one"', "acme/one: listed twice"),
        ('id = "acme/zero"', 'id = "zero"', "zero: "),
        ('provider = "bolt"', 'provider = "acme"', "acme/one: acme: listed twice"),
        ("[providers.acme]", "[providers.acne]", "acme/one: "),
        ("[[models]]", "[providers.dull]\n[[models]]", "providers.dull: no model"),
        ("[input_types.acme]", "[input_types.acne]", "acme/one: no input_types.acme"),
        ('query = "q"', "", "acme/one: .*query"),
        ('param = "kind"', 'parameter = "kind"', "acme/one: .*parameter"),
        (
            "[[models]]",
            '[input_types.dull]\nquery = "q"\ndocument = "d"\n[[models]]',
            "input_types.dull: no offer",
        ),
        ("default = 8", "default = 5", "acme/one: dimensions: 5 is not allowed"),
        ("default = 2, minimum", "default = 4, minimum", "bolt/one: dimensions: 4"),
        ("recommended = [8]", "recommended = [6]", "acme/one: dimensions: 6"),
        ("allowed = [4, 8]", "allowed = [8, 4]", "acme/one: .*not ascending"),
        ("allowed = [4, 8]", "allowed = [4, 4, 8]", "acme/one: .*not ascending"),
        ("allowed = [4, 8]", "allowed = []", "acme/one: dimensions: either"),
        ("allowed = [4, 8]", "allowed = [0, 8]", "acme/one: .*>= 1"),
        ("allowed = [4, 8]", "allowed = [4, 8], minimum = 1, maximum = 8", "acme/one: .*either"),
        ("minimum = 1, maximum = 3", "minimum = 1", "bolt/one: dimensions: either"),
        ("minimum = 1, maximum = 3", "maximum = 3", "bolt/one: dimensions: either"),
        ("minimum = 1, maximum = 3", "minimum = 2, maximum = 2", "bolt/one: .*not below"),
        ('dimensions_param = "size"', "", "acme/one: acme: dimensions_param: nothing makes"),
        ("allowed = [4, 8]", "allowed = [8]", "acme/one: acme: .*one length only"),
        ('"0.02"', '"0.0000001"', "acme/one: acme: price: '0.0000001'"),
        ('"0.02"', "0.02", "acme/one: .*price_usd_per_million_tokens"),
        ('"0.5"', '"a lot"', "acme/one: acme: price: 'a lot'"),
        ('price_usd_per_million_tokens = "0"', 'price_usd_per_million_tokens = "-1"', "box: price"),
        ('input_type_default = "document"', 'input_type_default = "text"', "acme/one: .*text"),
        ('["query", "document"]', '["query"]', "acme/one: input_type_default: document"),
        ('input_types = ["query", "document"]', "", "acme/one: .*input_type_in_space"),
        ('input_types = ["query", "document"]', "", "acme/one: .*acme: input_type: .*disagree"),
        ('max_inputs = 9\ninput_type = "acme"', "", "acme/one: bolt: input_type: .*disagree"),
        ('space = "bolt/family"', 'revision = ""', "bolt/one: .*revision"),
        (
            'description = "The first."',
            'description = "The first."\nspace = "bolt/one"',
            "acme/one: space: bolt/one itself",
        ),
        ('status = "shut_down"', "", "bolt/one: cord: a shutdown_date and the status"),
        ("shutdown_date = 2026-01-01", "", "bolt/one: cord: a shutdown_date and the status"),
        (
            'status = "shut_down"\nshutdown_date = 2026-01-01',
            "",
            "bolt/one: cord: a successor, but not shut down",
        ),
        (
            'successor = "acme/one"\nsource = ["https://cord',
            'successor = "cord/x"\nsource = ["https://cord',
            "bolt/one: successor: cord/x",
        ),
        (
            'successor = "acme/one"\nsource = ["https://acme',
            'successor = "acme/two"\nsource = ["https://acme',
            "acme/zero: successor: acme/two",
        ),
        (
            'provider = "bolt"\nsource',
            'provider = "bolt"\nstatus = "shut_down"\nshutdown_date = 2026-01-01\nsource',
            "bolt/team/two: nobody offers it",
        ),
        ('source = ["https://cord.example/docs"]', "", "bolt/one: .*source"),
        ('["https://cord.example/docs"]', "[]", "bolt/one: "),
        ('["https://cord.example/docs"]', '["the docs"]', "bolt/one: "),
        ('normalised = "never"', 'normalised = "mostly"', "bolt/one: .*mostly"),
        ('name = "box"', "", "a kind without a name: .*name"),
        ("[[kinds]]", BOX + "[[kinds]]", "box: listed twice"),
        ("[[models.offers]]\n" + LAST_OFFER, 'offers = ["bolt"]\n', "bolt/team/two: offers: "),
        ('provider = "bolt"', 'provider = ["bolt"]', "acme/one: .*provider"),
        ('input_type = "acme"', "input_type = []", r"acme/one: no input_types.\[\]"),
        ("[[models]]", "[providers.dull]\ninput_type = []\n[[models]]", "providers.dull: no"),
    ],
)
def test_damage_is_refused(old: str, new: str, complaint: str) -> None:
    """A catalogue that contradicts itself is refused with a message that names the row."""
    assert old in GOOD
    with pytest.raises(CatalogError, match=complaint):
        load_catalog(GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    "text", ["", "models = 1", 'checked = 2026-11-21\nmodels = "all"', "\x00", "[[models]"]
)
def test_what_is_no_catalogue(text: str) -> None:
    """A text that is not TOML, or holds no models, is refused as a catalogue."""
    with pytest.raises(CatalogError, match=r"^catalog: "):
        load_catalog(text)


def test_all_damage_is_told_at_once() -> None:
    """Two contradictions are told in one message, so that both can be mended at once."""
    with pytest.raises(CatalogError, match=r"acme/one.*; bolt/one"):
        load_catalog(
            GOOD.replace("default = 8", "default = 5").replace("default = 2", "default = 9")
        )


def test_whole_id_before_bare_name() -> None:
    """A whole id means itself, even where it is also the bare part of an earlier id."""
    catalog = load_catalog(
        GOOD.replace("bolt/team/two", "bolt/acme/one").replace("acme/zero", "a/z")
    )
    found = catalog.find("acme/one")
    assert found is not None
    assert (found.model.id, found.others) == ("acme/one", ())
    assert model("bolt/acme/one", catalog).bare_name == "acme/one"


def test_bare_name_means_the_first() -> None:
    """An ambiguous bare name means the catalogue's first model, and the others are told."""
    found = load_catalog(GOOD).find("one")
    assert found is not None
    assert (found.model.id, found.others) == ("acme/one", ("bolt/one",))


def test_bare_name_may_hold_slashes() -> None:
    """The bare name is all after the first slash, and is found as such."""
    two = model("team/two", load_catalog(GOOD))
    assert (two.id, two.creator, two.bare_name) == ("bolt/team/two", "bolt", "team/two")


@pytest.mark.parametrize("m", CATALOG.models, ids=lambda m: m.id)
def test_every_model_is_found_by_both_names(m: Model) -> None:
    """Every model is found by its id and, since none are ambiguous today, by its bare name."""
    for name in (m.id, m.bare_name):
        found = CATALOG.find(name)
        assert found is not None
        assert (found.model, found.others) == (m, ())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "openai/",
        "Text-Embedding-3-Small",
        "OPENAI/text-embedding-3-small",
        "two",
        "openai",
    ],
)
def test_other_names_are_not_found(name: str) -> None:
    """Neither another case nor a part of a name finds a model."""
    assert CATALOG.find(name) is None
    assert load_catalog(GOOD).find(name) is None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("text-embedding-3-smal", "text-embedding-3-small"),
        ("openai/text-embeding-3-small", "openai/text-embedding-3-small"),
        ("Text-Embedding-3-LARGE", "text-embedding-3-large"),
        ("open-ai/text-embedding-3-large", "openai/text-embedding-3-large"),
        ("baai/bge-base-en-v1.5", "BAAI/bge-base-en-v1.5"),
        ("mistral_embed", "mistral-embed"),
        ("wordllama", "wordllama-256"),
        ("gpt-9", None),
        ("", None),
        ("text-embedding-3-small" * 50, None),
    ],
)
def test_nearest(name: str, nearest: str | None) -> None:
    """A slip is answered with a name that exists, bare for bare; a stranger with none."""
    assert CATALOG.nearest(name) == nearest
    assert nearest is None or CATALOG.find(nearest) is not None


def test_nearest_in_another_case() -> None:
    """A name that differs in case alone is near, and the answer has the right case."""
    catalog = load_catalog(GOOD.replace("bolt/team/two", "bolt/team/TWO"))
    assert catalog.nearest("team/two") == "bolt/team/TWO"


@pytest.mark.parametrize(
    ("name", "text", "yes", "no"),
    [
        ("text-embedding-ada-002", "1536", [1536], [1, 1535, 1537]),
        ("wordllama-256", "64, 128 or 256", [64, 128, 256], [0, 63, 65, 257, -64]),
        ("text-embedding-3-small", "1 to 1536", [1, 77, 1536], [0, -1, 1537]),
        ("gemini-embedding-001", "128 to 3072", [128, 768, 3072], [127, 3073]),
        ("titan-embed-text-v2", "256, 512 or 1024", [256, 1024], [255, 768]),
    ],
)
def test_allowed_dimensions(name: str, text: str, yes: list[int], no: list[int]) -> None:
    """A model allows the listed lengths or those of its range, both ends included."""
    m = model(name)
    assert m.allowed_text == text
    assert [n for n in yes + no if m.allows_dimensions(n)] == yes


def test_two_lengths_are_told_with_or() -> None:
    """Two allowed lengths read "4 or 8"."""
    assert model("acme/one", load_catalog(GOOD)).allowed_text == "4 or 8"


def test_where_shorter_vectors_come_from() -> None:
    """The provider's own field is preferred, then a cut here; a fixed length has neither."""
    cut = GOOD.replace("[4, 8],", "[4, 8], cut = true,").replace('dimensions_param = "size"', "", 1)
    one = model("acme/one", load_catalog(cut))
    assert [one.shorter_from(offer) for offer in one.offers] == ["cut", "native"]
    two = model("bolt/team/two", load_catalog(GOOD))
    assert two.shorter_from(two.offers[0]) is None


@pytest.mark.parametrize(
    ("word", "sent"),
    [
        ("query", "q"),
        ("document", "d"),
        ("q", "q"),
        ("d", "d"),
        ("x", "x"),
        ("y", None),
        ("", None),
    ],
)
def test_words_for_input_types(word: str, sent: str | None) -> None:
    """The standard words are translated, the provider's own are passed on, others are unknown."""
    way = model("acme/one", load_catalog(GOOD)).offers[0].input_type
    assert way is not None
    assert way.value(word) == sent


def test_created() -> None:
    """A model was created at the start of the day it was released, or else was listed, in UTC."""
    catalog = load_catalog(GOOD)
    assert model("acme/one", catalog).created == 1705881600
    assert model("bolt/one", catalog).created == 1795219200


def test_lookups_of_what_is_not_there() -> None:
    """Asking for an unknown kind, or a provider that does not offer the model, gives nothing."""
    assert CATALOG.kind("llama_cpp") is None
    assert model("mistral-embed").offer("openai") is None


def test_facts_cannot_be_changed() -> None:
    """Nobody can change a fact at run time."""
    with pytest.raises(AttributeError):
        model("mistral-embed").name = "x"  # type: ignore[misc]  # the point of the test
