"""The vectors of the fake: each says for itself which text, model, dimensions and task it is of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

LENGTH_UNLESS_ONE = 18.7
"""What Titan v1 has been measured to give; no other length is known."""


def expected_vector(
    text: str | Sequence[int],
    model: str,
    dimensions: int,
    task: str = "",
    length: float = 1.0,
) -> bytes:
    """The vector of *text* as little-endian float32.

    text: as the provider reads it, with the words that an adapter put before it; or token ids.
    model, task: in the provider's own words. length: the L2 norm, exact to float32.
    Shorter vectors are no beginnings of longer ones: dimensions that got lost on the way show.
    """
    words = text if isinstance(text, str) else list(text)
    seed = hashlib.sha256(repr((words, model, dimensions, task)).encode("utf-8", "surrogatepass"))
    drawn = np.frombuffer(hashlib.shake_256(seed.digest()).digest(2 * dimensions), "<i2")
    numbers = (drawn | 1).astype(np.float64)  # odd, so that none is zero
    return bytes((numbers * (length / np.linalg.norm(numbers))).astype("<f4").tobytes())


def count_tokens(text: str | Sequence[int]) -> int:
    """The fake's count: words and one more for a text, the ids themselves for a list of them."""
    return len(text.split()) + 1 if isinstance(text, str) else len(text)
