"""Answers with status 200 that would give wrong vectors if anybody believed them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.fake_provider.exchange import NOT_GIVEN, Asked, Item, Shape
from tests.fake_provider.faults import Fault, answers, html, wrong


@dataclass(frozen=True)
class Payload:
    """One of them. words: what the refusal must say. needs: which shapes can answer so."""

    fault: Fault
    words: str
    texts: int = 3
    needs: Callable[[Shape, Asked], bool] = lambda shape, asked: True


def _has_index(shape: Shape, asked: Asked) -> bool:
    return shape.has_index


def _is_base64(shape: Shape, asked: Asked) -> bool:
    return asked.is_base64


def _set_last(vector: Callable[[Any], Any]) -> Fault:
    """The last item has another vector."""

    def spoil(items: list[Item]) -> list[Item]:
        items[-1].vector = vector(items[-1].vector)
        return items

    return wrong(spoil)


def _set_index(index: Any, place: int = -1) -> Fault:
    def spoil(items: list[Item]) -> list[Item]:
        items[place].index = index
        return items

    return wrong(spoil)


def _filled(number: float) -> Callable[[bytes], list[float]]:
    return lambda vector: [number] * (len(vector) // 4)


def _first_is(value: Any) -> Callable[[bytes], list[Any]]:
    return lambda vector: [value, *np.frombuffer(vector, "<f4").tolist()[1:]]


def _all_shorter(items: list[Item]) -> list[Item]:
    for item in items:
        item.vector = item.vector[:-4]
    return items


WRONG_PAYLOADS: dict[str, Payload] = {
    "one too few": Payload(wrong(lambda items: items[:-1]), "vectors for|cannot be read"),
    "one for three": Payload(wrong(lambda items: items[:1]), "1 vectors for 3"),
    "none": Payload(wrong(lambda items: []), "0 vectors for|cannot be read", 1),
    "one too many": Payload(wrong(lambda items: [*items, items[0]]), "4 vectors for 3|index"),
    "an index twice": Payload(_set_index(0), "index", needs=_has_index),
    "an index missing": Payload(_set_index(NOT_GIVEN), "index", needs=_has_index),
    "an index of nobody": Payload(_set_index(7), "index", needs=_has_index),
    "a negative index": Payload(_set_index(-1), "index", needs=_has_index),
    "all shorter": Payload(wrong(_all_shorter), "dimensions instead of"),
    "one longer": Payload(_set_last(lambda vector: vector + b"\0\0\x80\x3f"), "dimensions instead"),
    "empty vector": Payload(_set_last(lambda vector: []), "0 dimensions instead of|cannot be read"),
    "NaN": Payload(_set_last(_first_is(float("nan"))), "cannot be read|NaN"),
    "NaN in base64": Payload(
        _set_last(lambda vector: b"\0\0\xc0\x7f" + vector[4:]), "NaN", needs=_is_base64
    ),
    "infinity": Payload(_set_last(_first_is(float("inf"))), "cannot be read|infinity"),
    "too large for float32": Payload(_set_last(_first_is(1e300)), "NaN or infinity"),
    "null for a number": Payload(_set_last(_first_is(None)), "cannot be read"),
    "text for a number": Payload(_set_last(_first_is("0.1")), "cannot be read"),
    "null for a vector": Payload(_set_last(lambda vector: None), "cannot be read|no embedding"),
    "text for a vector": Payload(_set_last(lambda vector: "not base64!"), "cannot be read"),
    "all zeros": Payload(_set_last(_filled(0.0)), "all zeros"),
    "base64 of wrong length": Payload(
        _set_last(lambda vector: vector[:-1]), "dimensions instead of", needs=_is_base64
    ),
    "an error with status 200": Payload(
        answers(b'{"error":{"message":"overloaded","type":"server_error","code":500}}'),
        "cannot be read",
    ),
    "a page of HTML": Payload(html(), "cannot be read"),
    "cut JSON": Payload(Fault(body=lambda body: body[: len(body) // 2]), "cannot be read"),
    "nothing": Payload(Fault(body=lambda body: b""), "cannot be read"),
    "null": Payload(Fault(body=lambda body: b"null"), "cannot be read"),
    "UTF-16": Payload(answers('{"data":[],"embeddings":[]}'.encode("utf-16")), "cannot be read"),
    "nested too deeply": Payload(
        answers(b'{"data":' + b"[" * 20_000 + b"]" * 20_000 + b"}"), "cannot be read"
    ),
}
"""By name. The words are of upstream.py's refusal: it tells what is wrong."""


def reverse(items: list[Item]) -> list[Item]:
    """The wrong order, each with its right index."""
    return items[::-1]
