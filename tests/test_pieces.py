"""Long inputs in pieces that are not too long."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.pieces import cut, first_piece
from embedway.tokens import count_cl100k
from tests.texts import SCRIPTS, long_texts

COUNTS = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "bytes": lambda text: len(text.encode()),
    "fours": lambda text: -(-len(text) // 4),
    # A word that is parted has more tokens than the whole word, as with a real vocabulary.
    "vocabulary": lambda text: sum(
        1 if word in ("word", "internationalization") else -(-len(word) // 7)
        for word in text.split()
    ),
    "blanks": lambda text: len(text.split()) + 3 * text[-1:].isspace(),
}
WORDS = st.sampled_from(("a", "word", "internationalization", "é", "😀", " ", "  ", "\n", "x" * 30))
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(WORDS, max_size=30).map(" ".join),
    st.lists(WORDS, max_size=30).map("".join),
)
COUNT = pytest.mark.parametrize("count", list(COUNTS.values()), ids=list(COUNTS))


@COUNT
@given(text=TEXTS, max_tokens=st.integers(1, 12))
def test_pieces(count, text, max_tokens):
    """The pieces joined are the whole text, none is empty, and none is too long unless it is one
    character."""
    pieces = cut(text, max_tokens, count)

    assert "".join(pieces) == text
    assert all(pieces)
    assert all(count(piece) <= max_tokens or len(piece) == 1 for piece in pieces)


@COUNT
@given(text=TEXTS, max_tokens=st.integers(1, 12))
def test_first_piece(count, text, max_tokens):
    """The first piece is a beginning of the text, is not too long unless it is one character, and
    with one character more it would be."""
    piece = first_piece(text, max_tokens, count)

    assert text.startswith(piece)
    assert count(piece) <= max_tokens or len(piece) == 1
    assert piece == text or count(text[: len(piece) + 1]) > max_tokens


@COUNT
@given(text=TEXTS.filter(bool))
def test_what_fits_is_whole(count, text):
    """A text of just as many tokens as are allowed is one piece, however many its beginnings have
    alone."""
    max_tokens = max(1, count(text))

    assert cut(text, max_tokens, count) == [text]
    assert first_piece(text, max_tokens, count) == text


@given(st.lists(st.integers(0, 9), max_size=30).map(tuple), st.integers(1, 12))
def test_token_ids(ids, max_tokens):
    """A list of token ids is cut into full lists and a rest, without counting."""
    pieces = cut(ids, max_tokens, pytest.fail)

    assert sum(pieces, ()) == ids
    assert [len(piece) for piece in pieces[:-1]] == [max_tokens] * (len(pieces) - 1)
    assert len(pieces) == math.ceil(len(ids) / max_tokens)
    assert first_piece(ids, max_tokens, pytest.fail) == ids[:max_tokens]


@pytest.mark.parametrize("text", long_texts(words=2000), ids=list(SCRIPTS))
def test_with_a_real_vocabulary(text):
    """Texts of every script are cut into pieces that are nearly full, between words where there
    are any."""
    pieces = cut(text, 100, count_cl100k)

    assert "".join(pieces) == text
    counts = [count_cl100k(piece) for piece in pieces]
    assert max(counts) <= 100
    assert min(counts[:-1]) >= 70
    assert all(piece[-1].isspace() for piece in pieces[:-1])
    first = first_piece(text, 100, count_cl100k)
    assert 98 <= count_cl100k(first) <= 100


def test_counts_little():
    """Whatever the length of a text, what is counted at a time is about what fits: a tokenizer
    holds up all threads, and refuses a million characters."""
    asked = []

    def count(text):
        asked.append(len(text))
        return len(text) // 5

    text = "word " * 200_000
    assert "".join(cut(text, 1000, count)) == text
    assert max(asked) <= 4 * 5000
    assert len(asked) < 12 * 210

    asked.clear()
    assert len(first_piece(text, 1000, count)) == 5004
    assert max(asked) <= 4 * 5000


def test_between_words():
    """A piece ends after a blank if one is near its end, and within a word if none is."""
    assert cut("aaaaa bbb ccc", 12, len) == ["aaaaa bbb ", "ccc"]
    assert cut("a " + "b" * 20, 10, len)[0] == "a bbbbbbbb"
