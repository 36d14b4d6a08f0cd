"""Vectors as clients hand them over: lists of numbers, or base64 of little-endian float32."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray


def from_base64(text: str) -> NDArray[np.float32]:
    """The numbers of one vector."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4")


def bits(vectors: Any) -> bytes:
    """The float32 bytes of vectors in either form; equal only if every bit is."""
    rows = [from_base64(v) if isinstance(v, str) else np.asarray(v, "<f4") for v in vectors]
    return np.stack(rows).tobytes()
