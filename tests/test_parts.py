"""The planner cuts where the limits say, and nowhere else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedway.parts import Limits, plan, size_of

INPUTS = st.lists(
    st.one_of(
        st.text(alphabet=st.sampled_from("ab é世🙂\n"), max_size=30),
        st.lists(st.integers(0, 100), min_size=1, max_size=12).map(tuple),
    ),
    min_size=1,
    max_size=25,
)
LIMITS = st.builds(
    Limits,
    inputs=st.integers(1, 12),
    tokens=st.none() | st.integers(1, 40),
    bytes=st.none() | st.integers(1, 120),
    tokenizer=st.sampled_from([None, "cl100k_base", "unheard-of"]),
)


def fits(inputs, limits):
    """Whether they may go in one request."""
    if len(inputs) > limits.inputs:
        return False
    if limits.bytes is not None and sum(map(size_of, inputs)) > limits.bytes:
        return False
    return limits.tokens is None or sum(map(limits.weigh, inputs)) <= limits.tokens


@settings(max_examples=400, deadline=None)
@given(INPUTS, LIMITS)
def test_plan(inputs, limits):
    """Parts follow each other and hold every input once; each fits, unless it is one input alone,
    and none could take the next input as well."""
    parts = plan(inputs, limits)

    assert [i for part in parts for i in part] == list(range(len(inputs)))
    for part in parts:
        assert len(part) == 1 or fits(inputs[part.start : part.stop], limits)
    for part in parts[:-1]:
        assert not fits(inputs[part.start : part.stop + 1], limits)


@pytest.mark.parametrize(
    ("text", "tokenizer", "tokens"),
    [
        ("hello world", "cl100k_base", 2),
        ("hello world", None, 4),
        ("hello world", "unheard-of", 4),
        ("", None, 0),
        ("世界", None, 2),
        ((1, 2, 3), "cl100k_base", 3),
        ((1, 2, 3), None, 3),
    ],
)
def test_weight(text, tokenizer, tokens):
    """Tokens are counted where the tokenizer is here, and else taken for three bytes each."""
    assert Limits(inputs=1, tokenizer=tokenizer).weigh(text) == tokens


def test_a_text_too_long_to_count():
    """A text longer than any model takes is weighed by its bytes, which takes no time."""
    text = "word " * 400_000

    assert Limits(inputs=1, tokenizer="cl100k_base").weigh(text) == 2_000_000 // 3 + 1


@pytest.mark.parametrize(
    ("value", "size"),
    [("abc", 3), ("é", 2), ("世", 3), ("\ud800", 3), ((1, 2), 14), ("", 0)],
)
def test_size(value, size):
    """A text has its bytes of UTF-8, and a token id about seven in JSON."""
    assert size_of(value) == size


@pytest.mark.parametrize(
    ("limits", "must"),
    [
        (Limits(inputs=1), False),
        (Limits(inputs=1, tokens=9, tokenizer="cl100k_base"), True),
        (Limits(inputs=1, tokens=10, tokenizer="cl100k_base"), False),
        (Limits(inputs=1, tokens=9), False),
        (Limits(inputs=1, tokens=9, tokenizer="unheard-of"), False),
        (Limits(inputs=1, tokenizer="cl100k_base"), False),
    ],
)
def test_when_to_count(limits, must):
    """Nothing is counted where it cannot matter: no token is shorter than a byte."""
    assert limits.must_count(["12345", "67890"]) is must
