"""Static embeddings: a table of token vectors and a tokenizer. A text's vector is the mean of its
tokens' vectors, so that one fits in a few milliseconds of one core.

Any folder with a safetensors table and a `tokenizers` file will do. The default data is read out
of the installed `wordllama` package by explicit path: the package's own `load()` looks for the
tokenizer in a folder that the wheel does not have, and then goes to the network.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import Tokenizer

from embedway.vectors import Matrix

# Tokens are gathered and summed in runs of so many, which keeps a long text's memory at 1 MiB
# and its rounding error independent of its length.
_RUN_TOKENS = 1024


class StaticModel:
    """A table of shape (vocabulary, dimensions) in float32, and the tokenizer it belongs to."""

    def __init__(self, table: Matrix, tokenizer: Tokenizer) -> None:
        self.table = table
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._longest_token = max(map(len, tokenizer.get_vocab()))

    @property
    def dimensions(self) -> int:
        """The full width of a vector."""
        return int(self.table.shape[1])

    def least_tokens(self, text: str) -> int:
        """A lower bound of the tokens of *text* that costs nothing: no token is longer than the
        longest of the vocabulary. Lets a text be refused without tokenizing it."""
        return -(-len(text) // self._longest_token)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, no special tokens added."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def sum_tokens(self, tokens: Sequence[list[int]]) -> Matrix:
        """The sum of each list's token vectors; shape (texts, dimensions).

        Normalised, a sum is the same vector as a mean, and a division cheaper.
        """
        sums = np.empty((len(tokens), self.dimensions), np.float32)
        take = self.table.take
        for row, ids in enumerate(tokens):
            if len(ids) <= _RUN_TOKENS:
                np.add.reduce(take(ids, axis=0), axis=0, out=sums[row])
            else:
                sums[row] = self._long_sum(np.asarray(ids, np.int32))
        return sums

    def _long_sum(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        total = np.zeros(self.dimensions, np.float64)
        for start in range(0, len(ids), _RUN_TOKENS):
            total += self.table.take(ids[start : start + _RUN_TOKENS], axis=0).sum(axis=0)
        return total


def load_static_model(weights: Path, tokenizer: Path, tensor: str) -> StaticModel:
    """Read the tensor called *tensor* and the tokenizer file.

    Raises OSError if a file is missing, ValueError if the two do not belong together.
    """
    with safe_open(weights, framework="numpy") as file:
        table = np.ascontiguousarray(file.get_tensor(tensor), np.float32)
    loaded = Tokenizer.from_file(str(tokenizer))
    if loaded.get_vocab_size() > len(table):
        raise ValueError(f"{tokenizer.name} has more tokens than {weights.name} has rows")
    return StaticModel(table, loaded)


def load_wordllama() -> StaticModel:
    """The 256-dimensional model inside the installed `wordllama` package.

    Raises OSError if the package or one of its two files is missing.
    """
    # find_spec does not import the package, which would start its logging and its HTTP client.
    spec = importlib.util.find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package wordllama is not installed")
    folder = Path(spec.submodule_search_locations[0])
    return load_static_model(
        folder / "weights" / "l2_supercat_256.safetensors",
        folder / "tokenizers" / "l2_supercat_tokenizer_config.json",
        "embedding.weight",
    )
