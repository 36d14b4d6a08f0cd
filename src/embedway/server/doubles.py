"""A name that stands twice in one object: parsers disagree on which one counts (RFC 8259,
section 4), so such a body is refused.

Inputs hold no names. A long one is cut out first, so that the look takes microseconds whatever
the length of the body.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw, Struct
from msgspec.structs import astuple

from embedway.errors import InvalidRequest

_SHORT_BYTES = 512
"""A body up to here is looked through as it is, which is quicker than to find its inputs."""
_NAME = re.compile(rb'"([^"\\]*)"\s*:')


class _Inputs(Struct):
    """Where the inputs stand; the AI SDK calls them `values`."""

    input: Raw = Raw(b"")
    values: Raw = Raw(b"")


_find_inputs = msgspec.json.Decoder(_Inputs).decode


def refuse_doubles(body: bytes, decoded: Struct | None = None) -> None:
    """Raise InvalidRequest naming the first name that stands twice in its object.

    body: an object in sound JSON. decoded: what was read from it, None where nothing was.
    """
    if decoded is not None and _names_at_most(body) == _fields_of(decoded):
        return
    rest = body if len(body) <= _SHORT_BYTES else _without_inputs(body)
    names = _NAME.findall(rest)
    # A name may be written with escapes; and many stand twice rightly, in different objects.
    if len(set(names)) < len(names) or b"\\" in rest:
        with suppress(RecursionError):  # deeper than the standard library reads
            json.loads(rest, object_pairs_hook=_pairs)


def _names_at_most(body: bytes) -> int:
    """Behind each name stands a colon; others stand in texts."""
    return body.count(b":")


def _fields_of(decoded: Struct) -> int:
    """How many different names the body has at least."""
    values = astuple(decoded)
    return len(values) - values.count(None)


def _without_inputs(body: bytes) -> bytes:
    found = _find_inputs(body)
    for raw in (found.input, found.values):
        if length := memoryview(raw).nbytes:
            # A Raw is a view of the body: the distance of their addresses is its position.
            start = _address(raw) - _address(body)
            body = b"%b0%b" % (body[:start], body[start + length :])
    return body


def _address(data: bytes | Raw) -> int:
    return int(np.frombuffer(data, np.uint8).__array_interface__["data"][0])


def _pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(items)
    if len(seen) < len(items):
        names = [name for name, _ in items]
        double = next(name for name in names if names.count(name) > 1)[:200]
        raise InvalidRequest(f"The field {double} stands twice in the body.", param=double)
    return seen
