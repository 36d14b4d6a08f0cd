"""The true vector of a text and its tokens, computed from nothing but what was asked."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pybase64

from embedway.tokens import count_cl100k
from embedway.types import Input, Vector
from tests.fake_provider.vectors import count_tokens, expected_vector
from tests.sim.kinds import Kind

_NEARLY = 1e-6


@lru_cache(2**14)
def true_vector(value: Input, kind: Kind, width: int, task: str) -> Vector:
    """What a sound provider gives."""
    return expected_vector(value, kind.upstream, width, task)


@lru_cache(2**14)
def true_base64(value: Input, kind: Kind, width: int, task: str) -> str:
    """The same, as it is sent."""
    return pybase64.b64encode(true_vector(value, kind, width, task)).decode()


@lru_cache(2**14)
def _cut(value: Input, kind: Kind, dimensions: int, task: str) -> np.ndarray[Any, Any]:
    whole = np.frombuffer(true_vector(value, kind, kind.widths[0], task), "<f4")
    part = whole[:dimensions].astype(np.float64)
    return part / np.linalg.norm(part)


@lru_cache(2**12)
def true_tokens(value: Input, kind: Kind) -> int:
    """What the provider counts; where the gateway counts as well, both must agree."""
    if kind.is_counted and isinstance(value, str):
        return count_cl100k(value)
    return count_tokens(value)


def is_true(vector: Vector, value: Input, kind: Kind, dimensions: int, task: str) -> bool:
    """Whether it is the vector of that text; to the bit, where nothing had to be cut."""
    if not kind.is_cut or dimensions == kind.widths[0]:
        return vector == true_vector(value, kind, dimensions, task)
    found = np.frombuffer(vector, "<f4")
    return len(found) == dimensions and bool(
        np.abs(found - _cut(value, kind, dimensions, task)).max() < _NEARLY
    )
