"""Names to models, and where a name leads nowhere, what to do about it."""

import pytest
from msgspec.structs import replace

from embedway.catalog import Catalog
from embedway.catalog_file import load_catalog
from embedway.directory import Directory
from embedway.errors import ModelNotFound

CATALOG = load_catalog()
SMALL = "openai/text-embedding-3-small"
LOCAL = "local/wordllama-256"


@pytest.fixture(scope="module")
def directory():
    """Two served models, each with an alias."""
    return Directory(
        CATALOG, {"fast": SMALL, "team/fast": "wordllama-256"}, frozenset({SMALL, LOCAL})
    )


def refusal(directory, name):
    """The words of a ModelNotFound, whose other fields are checked here."""
    with pytest.raises(ModelNotFound) as caught:
        directory.look_up_served(name)
    error = caught.value
    assert (error.model, error.param, error.status) == (name, "model", 404)
    return error.message


@pytest.mark.parametrize("model", CATALOG.models, ids=lambda model: model.id)
def test_every_model(directory, model):
    """Each model is found under its whole name; under its bare name the first of the catalogue is,
    and the others of that name are told."""
    same = [other.id for other in CATALOG.models if other.bare_name == model.bare_name]

    whole, bare = directory.look_up(model.id), directory.look_up(model.bare_name)

    assert (whole.model, whole.others, whole.is_bare) == (model, (), False)
    if model.bare_name not in {other.id for other in CATALOG.models}:
        assert (bare.model.id, bare.others, bare.is_bare) == (same[0], tuple(same[1:]), True)
    assert directory.canonical(model.id) == model.id
    assert directory.canonical(model.bare_name) == same[0]


@pytest.mark.parametrize(("alias", "model"), [("fast", SMALL), ("team/fast", LOCAL)])
def test_aliases(directory, alias, model):
    """An alias is another name of its model, and is not bare."""
    entry = directory.look_up_served(alias)

    assert (entry.model.id, entry.is_bare, entry.others) == (model, False, ())
    assert directory.canonical(alias) == model


@pytest.mark.parametrize(
    ("aliases", "told"),
    [
        ({SMALL: LOCAL}, "is the name of a model"),
        ({"wordllama-256": SMALL}, "is the name of a model"),
        ({"fast": "openai/nothing"}, "stands for 'openai/nothing', which is no model"),
    ],
)
def test_bad_aliases(aliases, told):
    """An alias that hides a model, or leads nowhere, is refused at start."""
    with pytest.raises(ValueError, match=told):
        Directory(CATALOG, aliases, frozenset())


def test_listed(directory):
    """The served models are listed in the catalogue's order."""
    order = [model.id for model in CATALOG.models if model.id in (SMALL, LOCAL)]

    assert [model.id for model in directory.listed()] == order


def test_canonical_of_nothing(directory):
    """An unknown name is its own canonical name."""
    assert directory.canonical("made/up") == "made/up"


@pytest.mark.parametrize(
    "name", ["anthropic/claude-embed", "claude-3-haiku", "CLAUDE", "x/claude-2", "Anthropic/e"]
)
def test_anthropic(directory, name):
    """For Anthropic's models the refusal names those who do have embedding models."""
    message = refusal(directory, name)

    assert "Anthropic has no embedding models" in message
    for provider in ("OpenAI", "Google", "Cohere", "Mistral"):
        assert provider in message


@pytest.mark.parametrize("retired", CATALOG.retired, ids=lambda retired: retired.id)
def test_retired(directory, retired):
    """A model that nobody serves any more is refused with its date and its successor, under its
    whole and its bare name."""
    for name in (retired.id, retired.id.partition("/")[2]):
        message = refusal(directory, name)
        assert str(retired.shutdown_date) in message
        assert retired.successor in message
        assert "another space" in message


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("text-embedding-3-smal", "text-embedding-3-small"),
        ("openai/text-embedding-3-smal", SMALL),
        ("Text-Embedding-3-Small", "text-embedding-3-small"),
    ],
)
def test_slips(directory, name, near):
    """A slip is answered with the name that was meant."""
    assert f"Did you mean {near}?" in refusal(directory, name)


@pytest.mark.parametrize("name", ["zzzz", "", " ", "/", "a/b/c", "🦜", "x" * 10_000])
def test_unknown(directory, name):
    """Any other name is refused with where to look, and at a length that fits a message."""
    message = refusal(directory, name)

    assert "does not exist" in message
    assert "GET /v1/models" in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cohere/embed-english-v3.0", "CO_API_KEY for cohere"),
        ("mistral/mistral-embed", "MISTRAL_API_KEY for mistral"),
        ("text-embedding-3-large", "OPENAI_API_KEY for openai"),
    ],
)
def test_unserved(directory, name, told):
    """A model that no account serves is refused with the variable to set."""
    message = refusal(directory, name)

    assert f"No account of this gateway serves {directory.canonical(name)}." in message
    assert told in message


def test_shut_down_at_one_provider():
    """Where one of several providers shut a model down, the refusal says when, and who still has
    it."""
    directory = Directory(CATALOG, {}, frozenset())
    told = refusal(directory, "google/text-embedding-004")

    assert "google shut it down on 2026-01-14" in told
    assert "vertex" in told


def test_look_up_finds_the_unserved(directory):
    """A model that nobody serves here is a model all the same: a fallback may name it."""
    assert directory.look_up("mistral/mistral-embed").model.id == "mistral/mistral-embed"


def test_ambiguous_bare_names():
    """A bare name that several models have means the catalogue's first; the others are told."""
    first = CATALOG.models[0]
    twins = tuple(replace(first, id=f"{maker}/twin") for maker in ("a", "b", "c"))
    directory = Directory(Catalog(models=twins), {}, frozenset())

    entry = directory.look_up("twin")

    assert (entry.model.id, entry.others, entry.is_bare) == ("a/twin", ("b/twin", "c/twin"), True)
    assert directory.look_up("b/twin").others == ()
