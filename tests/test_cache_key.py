"""Which questions are one question, and which are not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from embedway.cache_key import CacheKeys, origin_of, scope_of
from embedway.cached import KEY_BYTES, ORIGIN_BYTES
from embedway.catalog_file import load_catalog
from embedway.store.keys import is_project
from tests.fakes import make_grant, make_params

MODEL = load_catalog().models[0]

# Texts that a careless key would take for one another. The last ones try to be the frames around
# the parts of a key, or the other kind of input.
ALIKE = (
    "a", "A", "a ", " a", "a\n", "a\x00", "", "\x00", "é", "e\u0301", "ﬁ", "fi", "Å", "\u212b",
    "\ud800", "\udfff", "\ud83d\ude00", "😀", "\ufffd", "1 2", "[1, 2]", "(1, 2)", "1,2", "12",
    "text:a", "tokens:", "0:", "1:a", "1:a1:b", "\x01\0\0\0\0\0\0\0",
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(ALIKE),
    st.text(st.characters(exclude_categories=()), max_size=20),
)
IDS = st.lists(st.sampled_from((0, 1, 2, 12, 255, 256, 2**31 - 1)), max_size=4).map(tuple)
INPUTS = st.one_of(TEXTS, IDS)
WORDS = st.sampled_from(("a", "b", "ab", "1:a", "a1:b", "é", "e\u0301", "A", "*", "text:"))

QUESTIONS = st.fixed_dictionaries(
    {
        "scope": st.one_of(WORDS, st.just("")),
        "model": WORDS,
        "revision": st.one_of(st.none(), WORDS),
        "space": st.one_of(st.none(), WORDS),
        "dimensions": st.one_of(st.none(), st.sampled_from((1, 2, 8, 12, 1536))),
        "input_type": st.one_of(st.none(), WORDS),
        "options": st.sampled_from((b"", b"{}", b'{"a":{"b":1}}', b'{"a":{"b":2}}', b'{"b":{}}')),
        "value": INPUTS,
    }
)


def key_of(question):
    """The key of a question given by its parts."""
    model = replace(
        MODEL, id=question["model"], revision=question["revision"], space=question["space"]
    )
    params = make_params(
        question["model"],
        dimensions=question["dimensions"],
        input_type=question["input_type"],
        options=question["options"],
    )
    return CacheKeys(model, params, question["scope"]).of(question["value"])


def meaning(question):
    """The question, without what its parts stand for by default."""
    return {**question, "space": question["space"] or question["model"]}


@given(QUESTIONS, QUESTIONS)
def test_a_key_for_each_question(one, other):
    """Two questions have the same key exactly if all their parts are the same."""
    assert (key_of(one) == key_of(other)) == (meaning(one) == meaning(other))
    assert len(key_of(one)) == KEY_BYTES


@given(QUESTIONS, st.data())
def test_every_part_decides(question, data):
    """A question that differs in one part only has another key."""
    part = data.draw(st.sampled_from(sorted(question)))
    other = {**question, part: data.draw(QUESTIONS)[part]}

    assert (key_of(question) == key_of(other)) == (meaning(question) == meaning(other))


def test_inputs_that_look_alike():
    """No two inputs that differ in case, blanks, normal form, surrogates or kind have one key."""
    keys = CacheKeys(MODEL, make_params(), "default")
    inputs = [*ALIKE, (), (1, 2), (12,), (2, 1), (1,), (0,), (0, 0), (2**31 - 1,)]

    assert len({keys.of(value) for value in inputs}) == len(inputs)


@given(st.text(max_size=20))
def test_normal_forms(text):
    """Normal forms of one text have one key only where they are the same characters."""
    keys = CacheKeys(MODEL, make_params(), "default")
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        changed = unicodedata.normalize(form, text)
        assert (keys.of(changed) == keys.of(text)) == (changed == text)


def test_revisions():
    """Two revisions of a model have two keys, also if their names in the space are alike."""
    plain = replace(MODEL, revision="1-l2", normalised="always")
    ours = replace(MODEL, revision="1", normalised="never")
    one, other = (CacheKeys(model, make_params(), "default") for model in (plain, ours))

    assert one.label == other.label
    assert one.of("a") != other.of("a")


@given(INPUTS, INPUTS)
def test_nothing_is_left_from_another_input(first, second):
    """A key does not depend on what was asked before."""
    keys = CacheKeys(MODEL, make_params(), "default")
    keys.of(first)

    assert keys.of(second) == CacheKeys(MODEL, make_params(), "default").of(second)


def test_keys_last():
    """The keys of vectors that are kept are the same in every version: another number here means
    that all that is kept is lost."""
    model = replace(MODEL, id="openai/small", revision=None, space=None, normalised="always")
    keys = CacheKeys(model, make_params(model.id, dimensions=8), "default")

    assert keys.of("a text").hex() == "201daecfa7cd7f3ad372cb357a95b773"
    assert keys.of((1, 2)).hex() == "23663adf57b453a969cabdce58767338"


@pytest.mark.parametrize("scope", ["project", "key", "global"])
def test_who_shares(scope):
    """The keys of a project share vectors by default; with "key" nobody does, with "global" all."""
    grants = [
        make_grant(key_id=key_id, project=project) for key_id in "ab" for project in ("x", "y")
    ]
    shared = {scope_of(grant, scope) for grant in grants}

    assert shared == {
        "project": {"x", "y"},
        "key": {"key:a", "key:b"},
        "global": {"*"},
    }[scope]  # fmt: skip


@given(st.text(max_size=8), st.text(max_size=8))
def test_scopes_are_apart(project, key_id):
    """No project can be called what stands for a key or for everybody, so that what one setting
    has kept apart is not shared under another one."""
    grant = make_grant(key_id=key_id, project=project)
    scopes = [scope_of(grant, "project"), scope_of(grant, "key"), scope_of(grant, "global")]

    assert len(set(scopes)) == 3 or not is_project(project)


def test_only_who_shares_counts():
    """A grant's other fields, such as its name and what it allows, do not part vectors."""
    one = make_grant(project="x")
    other = make_grant(project="x", key_id="k2", name="else", is_admin=True, models=("m",))

    assert scope_of(one, "project") == scope_of(other, "project")


PARTS = st.lists(st.sampled_from(("", "a", "b", "ab", "1:a", "0:", "é")), max_size=4)


@given(PARTS, PARTS)
def test_an_origin_for_each_deployment(one, other):
    """Two deployments have the same origin exactly if all that describes them is the same."""
    assert (origin_of(*one) == origin_of(*other)) == (one == other)
    assert len(origin_of(*one)) == ORIGIN_BYTES
