"""Token ids to text, estimates, and totals divided exactly."""

from itertools import pairwise

import bpe_openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.tokens import count_cl100k, decode_cl100k, estimate_tokens, share_tokens

CL100K = bpe_openai.get_encoding("cl100k_base")
LENGTHS = st.lists(st.integers(1, 10_000), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([9906, 11, 1917, 0], "Hello, world!"),
        ([9906], "Hello"),
        ([], ""),
        ([100257], "<|endoftext|>"),
    ],
)
def test_decode(ids, text):
    """Ids stand for the text they were made from."""
    assert decode_cl100k(ids) == text


@given(st.text(max_size=60))
def test_decode_reverses_encoding(text):
    """Decoding the ids of any text gives that text, and their number is its count."""
    ids = CL100K.encode_ordinary(text)

    assert decode_cl100k(ids) == text
    assert count_cl100k(text) == len(ids)


def test_cut_character():
    """Ids that were cut inside a character give U+FFFD for it and keep what is whole."""
    ids = CL100K.encode_ordinary("ab 🦜")
    cut = [decode_cl100k(ids[:length]) for length in range(1, len(ids))]

    assert any(text.endswith("\ufffd") for text in cut)
    assert all(text.startswith("ab") for text in cut)


@pytest.mark.parametrize("bad", [-1, 100256, 100261, 100277, 2**31 - 1, 2**40])
def test_decode_refuses(bad):
    """An id outside the vocabulary is refused, wherever it stands and whatever its size."""
    with pytest.raises(ValueError, match="not in the cl100k vocabulary"):
        decode_cl100k([9906, bad, 11])


@pytest.mark.parametrize(
    ("text", "tokens"), [("a", 1), ("abcd", 1), ("abcde", 2), ("🦜", 1), ("é" * 4, 2), ("", 1)]
)
def test_estimate(text, tokens):
    """An estimate is a quarter of the bytes, rounded up, and at least one."""
    assert estimate_tokens(text) == tokens


@given(st.integers(0, 10**9), LENGTHS)
def test_shares(total, lengths):
    """Shares add up to the total exactly, and none is a token away from its exact share."""
    shares = share_tokens(total, lengths)

    assert sum(shares) == total
    assert len(shares) == len(lengths)
    for share, length in zip(shares, lengths, strict=True):
        assert abs(share * sum(lengths) - total * length) < sum(lengths)


@given(st.integers(0, 10**9), LENGTHS)
def test_longer_texts_pay_more(total, lengths):
    """A text never pays less than a shorter one of the same request."""
    paid = sorted(zip(lengths, share_tokens(total, lengths), strict=True))

    assert all(one[1] <= other[1] for one, other in pairwise(paid) if one[0] < other[0])


@pytest.mark.parametrize(
    ("total", "lengths", "shares"),
    [
        (10, [1, 1, 1], [4, 3, 3]),
        (0, [5, 7], [0, 0]),
        (7, [3], [7]),
        (0, [], []),
        (1, [1, 1, 5], [0, 0, 1]),
    ],
)
def test_share_table(total, lengths, shares):
    """What is left after rounding down goes to the largest remainders, the first one first."""
    assert share_tokens(total, lengths) == shares


def test_nobody_to_share_among():
    """Tokens that nobody used cannot be divided."""
    with pytest.raises(ValueError, match="nobody"):
        share_tokens(1, [])


def test_a_text_without_end_is_counted():
    """A text longer than the vocabulary's package counts at once is counted all the same."""
    assert count_cl100k("word " * 300_000) == pytest.approx(300_000, abs=60)
    assert count_cl100k("x, " * 200_000) == pytest.approx(400_000, abs=60)
    assert count_cl100k("\U0001f9ff" * 300_000) > 300_000
