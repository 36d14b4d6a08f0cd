"""Whether the vectors are right: known texts against known numbers, and the laws all must obey."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import numpy as np

from embedway.gateway import LOCAL_MODEL
from embedway.types import Vector
from embedway.vectors import as_array, fault, from_base64, to_base64, truncate

MODEL = LOCAL_MODEL
_TOLERANCE = 1e-6
_SHORTER = (64, 128)

GOLDEN: dict[str, tuple[float, ...]] = {
    # The first numbers of the vectors of MODEL in full length, by the package `wordllama`
    # 0.4.0.post1: embed(text, norm=True).
    "Sunny day at the beach": (0.003242195, 0.01860423, -0.003108654, 0.063306265),
    "Grüße aus Köln, 你好": (-0.074809991, 0.148041472, -0.038183257, -0.080705702),
    "def add(a, b):\n    return a + b": (0.007623516, -0.037614558, -0.160560235, 0.042402048),
}

Embed = Callable[[tuple[str, ...], int | None], Awaitable[tuple[Vector, ...]]]
"""Texts and dimensions (None: all) to vectors."""


async def find_faults(embed: Embed) -> list[str]:
    """What is wrong with the vectors that *embed* gives, in words; empty if all is well."""
    texts = tuple(GOLDEN)
    vectors = await embed((*texts, texts[0]), None)
    backwards = await embed(texts[::-1], None)
    shorter = {dimensions: await embed(texts, dimensions) for dimensions in _SHORTER}
    faults = [*_wrong_numbers(vectors[: len(texts)])]
    if vectors[0] != vectors[-1]:
        faults.append("the same text twice gives two vectors")
    if backwards[::-1] != vectors[: len(texts)]:
        faults.append("the order or the company of the texts changes their vectors")
    if any(from_base64(to_base64(vector).decode()) != vector for vector in vectors):
        faults.append("base64 does not give the same numbers back")
    for dimensions, cut in shorter.items():
        whole = [truncate(vector, dimensions) for vector in vectors[: len(texts)]]
        if not all(map(_is_close, cut, whole)):
            faults.append(f"{dimensions} dimensions are not the start of the whole, normalised")
    return faults


def _wrong_numbers(vectors: tuple[Vector, ...]) -> Iterator[str]:
    for (text, numbers), vector in zip(GOLDEN.items(), vectors, strict=True):
        start = as_array(vector)[: len(numbers)]
        if wrong := fault(vector, len(vector) // 4):
            yield f"the vector of {text!r} {wrong}"
        elif not np.allclose(start, numbers, rtol=0, atol=_TOLERANCE):
            yield f"the vector of {text!r} starts with {start.tolist()} instead of {list(numbers)}"


def _is_close(vector: Vector, expected: Vector) -> bool:
    return len(vector) == len(expected) and np.allclose(
        as_array(vector), as_array(expected), rtol=0, atol=_TOLERANCE
    )
