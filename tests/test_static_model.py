"""The model in this process is wordllama's, number for number."""

import importlib
import logging
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from embedway.static_model import load_static_model, load_wordllama
from embedway.vectors import normalise
from tests.texts import long_texts, varied_texts

TEXTS = varied_texts()


@pytest.fixture(scope="module")
def wordllama():
    """wordllama's own class. Importing it calls `logging.basicConfig`, which is undone here."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    module = importlib.import_module("wordllama")
    root.handlers[:], root.level = handlers, level
    return module


@pytest.fixture(scope="module")
def load_theirs(wordllama):
    """Loads wordllama's own model out of its own package, without the network."""

    def load(**options):
        folder = Path(wordllama.__file__).parent
        return wordllama.WordLlama.load(cache_dir=folder, disable_download=True, **options)

    return load


@pytest.fixture(scope="module")
def ours():
    """Our reading of the model."""
    return load_wordllama()


@pytest.fixture(scope="module")
def our_sums(ours):
    """The sums of all texts' token vectors, and their token ids."""
    tokens = ours.tokenize(TEXTS)
    return ours.sum_tokens(tokens), tokens


def embed(model, texts):
    """wordllama's own answer, one text at a time: it cannot tell a text from its padding's share
    of the memory otherwise."""
    return np.concatenate([model.embed(text, norm=True) for text in texts])


@pytest.fixture(scope="module")
def theirs(load_theirs):
    """wordllama's own vectors of all texts."""
    return embed(load_theirs(), TEXTS)


def test_texts_are_varied():
    """The thousand texts are long and short, of many scripts, with doubles, and never empty."""
    points = {ord(character) // 0x80 for text in TEXTS for character in text}

    assert len(TEXTS) == 1000
    assert len(set(TEXTS)) < 950
    assert min(map(len, TEXTS)) == 1
    assert max(len(text.split()) for text in TEXTS) >= 200
    assert len(points) > 200


def test_equals_wordllama(our_sums, theirs):
    """The vector of every text equals wordllama's own normalised one to a millionth."""
    sums, _ = our_sums

    assert theirs.shape == (1000, 256)
    assert np.abs(normalise(sums) - theirs).max() < 1e-6


def test_long_texts(ours, load_theirs):
    """For texts of 5,000 words ours is the exact vector to a millionth, while wordllama's, which
    sums all tokens in float32, is a few millionths off; the two agree as far as that allows."""
    texts = long_texts()
    tokens = ours.tokenize(texts)
    exact = normalise(np.array([ours.table[ids].astype(np.float64).sum(axis=0) for ids in tokens]))
    vectors, theirs = normalise(ours.sum_tokens(tokens)), embed(load_theirs(), texts)

    assert min(map(len, tokens)) >= 5000
    assert np.abs(vectors - exact).max() < 1e-6
    assert np.abs(vectors - theirs).max() < 5e-5


@pytest.mark.parametrize("dimensions", [64, 128, 256])
def test_shorter_vectors(our_sums, load_theirs, dimensions):
    """A shorter vector is the first numbers of the sum, normalised: what wordllama gives when it
    is told to truncate."""
    sums, _ = our_sums
    sample = random.Random(7).sample(range(1000), 200)
    expected = embed(load_theirs(trunc_dim=dimensions), [TEXTS[at] for at in sample])
    whole = normalise(sums[sample])[:, :dimensions]

    cut = normalise(sums[sample, :dimensions])

    assert np.abs(cut - expected).max() < 1e-6
    assert np.abs(cut - normalise(whole)).max() < 1e-6


def test_token_counts(our_sums, load_theirs):
    """Tokens are counted as wordllama's own tokenizer counts them, without any padding."""
    _, tokens = our_sums
    tokenizer = load_theirs().tokenizer
    tokenizer.no_padding()
    expected = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]

    assert tokens == expected
    assert min(map(len, tokens)) >= 1


def test_company_does_not_matter(ours, our_sums):
    """A text's vector does not depend on the texts that it is embedded with, bit for bit."""
    sums, _ = our_sums
    sample = random.Random(8).sample(range(1000), 60)

    alone = [ours.sum_tokens(ours.tokenize([TEXTS[at]]))[0] for at in sample]

    assert np.array_equal(np.array(alone), sums[sample])


def test_least_tokens(ours, our_sums):
    """The bound that costs nothing is never above the true count."""
    _, tokens = our_sums

    for text, ids in zip(TEXTS, tokens, strict=True):
        assert ours.least_tokens(text) <= len(ids)


def test_least_tokens_of_the_densest_text(ours):
    """The bound holds for the text that has the most characters a token."""
    longest = max(ours._tokenizer.get_vocab(), key=len).replace("▁", " ").strip() or " " * 15
    text = longest * 50

    assert 0 < ours.least_tokens(text) <= len(ours.tokenize([text])[0])


def test_runs_of_the_sum(ours):
    """A text longer than one run of the sum has the sum of all its tokens, and jumps nowhere
    around the length of a run."""
    ids = np.random.default_rng(3).integers(0, len(ours.table), 5000).tolist()
    for length in (1, 1023, 1024, 1025, 2048, 2049, 5000):
        exact = ours.table[ids[:length]].astype(np.float64).sum(axis=0, keepdims=True)
        assert np.abs(normalise(ours.sum_tokens([ids[:length]])) - normalise(exact)).max() < 1e-6


def test_package_is_not_imported():
    """The model is read from wordllama's files without importing it, its HTTP client, or its
    logging."""
    code = (
        "import sys, logging; from embedway.static_model import load_wordllama;"
        "model = load_wordllama(); assert model.dimensions == 256;"
        "assert not {'wordllama', 'requests', 'urllib3'} & set(sys.modules), 'imported';"
        "assert not logging.getLogger().handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def make_files(folder, rows=3, words=("a", "b", "c")):
    """A small table of vectors and a tokenizer for it."""
    table = np.arange(rows * 4, dtype=np.float16).reshape(rows, 4)
    save_file({"table": table}, folder / "w.safetensors")
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_padding(length=8)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(folder / "t.json"))
    return folder / "w.safetensors", folder / "t.json"


def test_any_folder(tmp_path):
    """Any table and tokenizer make a model; the tokenizer's own padding and cutting are off, and
    half precision becomes float32."""
    model = load_static_model(*make_files(tmp_path), "table")

    assert model.dimensions == 4
    assert model.table.dtype == np.float32
    assert model.tokenize(["a b c", "b"]) == [[0, 1, 2], [1]]
    assert model.sum_tokens([[0, 1, 2], [1]]).tolist() == [[12, 15, 18, 21], [4, 5, 6, 7]]


def test_files_that_do_not_belong_together(tmp_path):
    """A tokenizer with more tokens than the table has rows is refused at start."""
    with pytest.raises(ValueError, match=r"t\.json has more tokens than w\.safetensors has rows"):
        load_static_model(*make_files(tmp_path, rows=2), "table")


@pytest.mark.parametrize("missing", ["w.safetensors", "t.json"])
def test_missing_files(tmp_path, missing):
    """A missing file is told as one."""
    weights, tokenizer = make_files(tmp_path)
    (tmp_path / missing).unlink()

    with pytest.raises(Exception, match=r"(?i)no such file"):
        load_static_model(weights, tokenizer, "table")


def test_package_is_missing(monkeypatch):
    """Without the package the message names it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(FileNotFoundError, match="wordllama is not installed"):
        load_wordllama()
