"""Vectors as bytes: little-endian float32, and the few things done to them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
import pybase64
from numpy.typing import NDArray

from embedway.types import Vector

Matrix = NDArray[np.float32]
"""Shape (texts, dimensions), float32."""

FLOAT32 = np.dtype("<f4")


def as_array(vector: Vector) -> NDArray[np.float32]:
    """A read-only view of the numbers; shape (dimensions,). Nothing is copied."""
    return np.frombuffer(vector, FLOAT32)


def from_numbers(numbers: Any) -> Vector:
    """Pack a sequence of numbers; one that is too large for float32 becomes infinity.

    Raises ValueError or TypeError if one is not a number.
    """
    with np.errstate(over="ignore"):  # `fault` finds the infinity; numpy would warn on stderr
        return np.asarray(numbers, dtype=FLOAT32).tobytes()


def pack_rows(matrix: Matrix) -> list[Vector]:
    """One vector per row of *matrix*."""
    rows = np.ascontiguousarray(matrix, FLOAT32)
    data, width = rows.tobytes(), 4 * rows.shape[1]
    return [data[start : start + width] for start in range(0, len(data), width)]


def to_base64(vector: Vector) -> bytes:
    """OpenAI's base64 form: the standard alphabet over the little-endian bytes, as ASCII."""
    return pybase64.b64encode(vector)


def from_base64(text: str) -> Vector:
    """The bytes of OpenAI's base64 form. Raises ValueError on any foreign character."""
    return pybase64.b64decode(text, validate=True)


def normalise(matrix: Matrix) -> Matrix:
    """Divide each row by its L2 norm. A row of zeros stays zero.

    The norm is summed in float64, so that the result does not depend on the order of the sum.
    """
    norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    norms[norms == 0.0] = 1.0
    scaled: Matrix = (matrix / norms[:, np.newaxis]).astype(np.float32)
    return scaled


def truncate(vector: Vector, dimensions: int) -> Vector:
    """The first *dimensions* numbers, L2-normalised again (Matryoshka models only)."""
    return pack_rows(normalise(as_array(vector[: 4 * dimensions]).reshape(1, -1)))[0]


def weighted_mean(vectors: Sequence[Vector], weights: Sequence[int]) -> Vector:
    """The mean of *vectors*, each as often as its weight says, of length 1.

    Summed in float64. The result is all zeros if they cancel each other out.
    """
    total = np.zeros(len(vectors[0]) // 4, np.float64)
    for vector, weight in zip(vectors, weights, strict=True):
        total += weight * as_array(vector).astype(np.float64)
    norm = float(np.linalg.norm(total))
    return (total / (norm or 1.0)).astype(FLOAT32).tobytes()


def fault(vector: Vector, dimensions: int) -> str | None:
    """What makes *vector* wrong, in words, or None if it is sound.

    Sound: *dimensions* numbers long, all finite, not all zero.
    """
    if len(vector) != 4 * dimensions:
        return f"has {len(vector) / 4:g} dimensions instead of {dimensions}"
    numbers = as_array(vector)
    # One dot product answers both questions: a NaN or infinity anywhere makes it not finite.
    with np.errstate(all="ignore"):
        square = float(np.dot(numbers, numbers))
    if not isfinite(square) and not bool(np.isfinite(numbers).all()):
        return "holds NaN or infinity"
    if square == 0.0 and not numbers.any():
        return "is all zeros"
    return None
