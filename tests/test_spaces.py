"""In which space a vector lives."""

import pytest
from msgspec.structs import replace

from embedway.catalog_file import load_catalog
from embedway.spaces import space_of
from tests.fakes import make_params

SMALL = load_catalog().models[0]
RAW = b'{"tei":{"normalize":false}}'


def space(model=SMALL, **params):
    """The space of a model's vectors, as callers see it."""
    return str(space_of(model, make_params(model.id, **params)))


def changed(**changes):
    """The first model of the catalogue, with changes."""
    return replace(SMALL, **changes)


def test_dimensions_are_part_of_a_space():
    """Vectors of two widths are in two spaces; none asked for is the model's own width."""
    full = SMALL.dimensions.default

    assert space() == space(dimensions=full) == f"{SMALL.space_name}@{full}"
    assert space(dimensions=full - 1) == f"{SMALL.space_name}@{full - 1}"


def test_the_input_type_counts_where_it_changes_the_vector():
    """The input type is part of the space only of models whose vectors depend on it."""
    told, not_told = changed(input_type_in_space=True), changed(input_type_in_space=False)

    assert space(told, input_type="query") != space(told, input_type="document")
    assert space(not_told, input_type="query") == space(not_told, input_type="document")


def test_models_that_share_a_space():
    """Two models that share a space name share the space."""
    one, other = changed(id="a/one", space="a/both"), changed(id="a/other", space="a/both")

    assert space(one) == space(other)
    assert space(changed(id="a/one", space=None)) != space(changed(id="a/other", space=None))


@pytest.mark.parametrize("revision", [None, "2026-11-01"])
@pytest.mark.parametrize(
    ("normalised", "width", "options", "length"),
    [
        ("always", None, b"", None),
        ("always", 8, b"", None),
        ("unknown", 8, b"", None),
        ("never", None, b"", "l2"),
        ("never", 8, b"", "l2"),
        ("only_full", None, b"", None),
        ("only_full", SMALL.dimensions.default, b"", None),
        ("only_full", 8, b"", "l2"),
        ("never", None, RAW, "raw"),
        ("only_full", 8, RAW, "raw"),
        ("always", None, RAW, "raw"),
    ],
)
def test_who_made_the_length_one(revision, normalised, width, options, length):
    """The space tells the model's revision, and whether the length was made 1 here, or left as it
    came because the caller wants it so."""
    model = changed(normalised=normalised, revision=revision)

    found = space_of(model, make_params(model.id, dimensions=width, options=options))

    assert found.revision == "-".join(part for part in (revision, length) if part)


def test_revisions_are_never_mixed():
    """Two revisions of a model are two spaces, also where the length is made 1 here."""
    for normalised in ("always", "never", "only_full", "unknown"):
        one = changed(normalised=normalised, revision="1")
        other = changed(normalised=normalised, revision="2")
        for options in (b"", RAW):
            assert space(one, dimensions=8, options=options) != space(
                other, dimensions=8, options=options
            )
