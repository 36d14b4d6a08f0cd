"""What the vectors must be, by the `wordllama` package's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wordllama
from numpy.typing import NDArray
from wordllama import WordLlama

TOLERANCE = 1e-6


class Reference:
    """The package's own model, and what it says of a text."""

    def __init__(self) -> None:
        # It looks for its tokenizer in a cache only; its own folder is laid out like one.
        folder = Path(wordllama.__file__).parent
        self._models: dict[int, Any] = {
            dimensions: WordLlama.load(
                trunc_dim=dimensions, cache_dir=folder, disable_download=True
            )
            for dimensions in (64, 128, 256)
        }

    def vectors(self, texts: Sequence[str], dimensions: int = 256) -> NDArray[np.float32]:
        """One unit vector a text, as rows."""
        rows: NDArray[np.float32] = self._models[dimensions].embed(list(texts), norm=True)
        return rows

    def long_vectors(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The same for texts of thousands of tokens, over which the package's float32 sum drifts
        by some 1e-5: its tokens and its table, summed in float64."""
        model = self._models[256]
        means = [model.embedding[e.ids].mean(axis=0, dtype=float) for e in map(self._encode, texts)]
        rows: NDArray[np.float64] = np.stack([mean / np.linalg.norm(mean) for mean in means])
        return rows

    def _encode(self, text: str) -> Any:
        return self._models[256].tokenize(text)[0]

    def check(self, vectors: Any, texts: Sequence[str], dimensions: int = 256) -> None:
        """Fail unless *vectors* are those of *texts*, in that order."""
        rows = np.asarray(vectors, np.float64)
        assert rows.shape == (len(texts), dimensions)
        assert np.abs(rows - self.vectors(texts, dimensions)).max() <= TOLERANCE
        assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() <= TOLERANCE
