"""JSON as the shapes write it: packed vectors as numbers or base64, and NaN where a fault wants
it, which no strict writer would let out."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from tests.fake_provider.exchange import NOT_GIVEN, Answer


def numbers(vector: Any) -> Any:
    """The vector as a list of numbers; what is not packed stays as it is."""
    if not isinstance(vector, bytes):
        return vector
    return np.frombuffer(vector[: len(vector) // 4 * 4], "<f4").tolist()


def packed(vector: Any, *, is_base64: bool) -> Any:
    """The vector as base64, if that was asked for, or else as numbers."""
    if is_base64 and isinstance(vector, bytes):
        return base64.b64encode(vector).decode()
    return numbers(vector)


def json_answer(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None, **traits: Any
) -> Answer:
    """An answer of JSON; fields that are NOT_GIVEN are left out."""
    value = _given(value)
    body = orjson.dumps(value) if _is_plain(value) else json.dumps(value).encode()
    return Answer(status, {"content-type": "application/json", **(headers or {})}, body, **traits)


def _given(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _given(inner) for name, inner in value.items() if inner is not NOT_GIVEN}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_given(inner) for inner in value]
    return value


def _is_plain(value: Any) -> bool:
    """Whether orjson writes it as it is: it turns NaN into null and knows no integer over 2^64."""
    if isinstance(value, dict):
        return all(_is_plain(inner) for inner in value.values())
    if isinstance(value, list):
        return all(_is_plain(inner) for inner in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) < 2**63
