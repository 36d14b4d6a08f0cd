"""What things are called in Redis, and the small forms besides vectors that are kept there.

A vector's name is a prefix, a digest of each part of its label, and its key: a pattern over names
then says what a selection means, even where the labels' own words were evicted.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import msgspec

from embedway.cached import KEY_BYTES, Key, Label, Selection

_SCHEMA = b"embedway:1:"
"""A number for the form of names and values: another form would be another number."""
_VALUES = _SCHEMA + b"v:"
_LABELS = _SCHEMA + b"l:"
PURGES = _SCHEMA + b"purges"
"""The stream of what was purged."""
RATES = "embedway:1:rates"
"""Before the names of keys' windows, which the package `limits` makes and fills."""
PLACES = "embedway:1:places:"
"""Before the names of the keys whose requests are under way."""

Place = bytes
"""The digests of a label's parts, in a fixed width."""
_PART_BYTES = 16
NAME_BYTES = len(_VALUES) + 3 * _PART_BYTES + KEY_BYTES
"""The length of a vector's name."""
_MARKS_A_MS = 10**6
"""Marks are whole numbers: a line's milliseconds and its number among those of the same one."""


@lru_cache(maxsize=1024)
def place_of(label: Label) -> Place:
    """Where the vectors of a label are."""
    return b"".join(map(_part, (label.model, label.space, label.project)))


def _part(text: str) -> bytes:
    # Hexadecimal: nothing in it means anything in a pattern.
    return hashlib.blake2b(text.encode(), digest_size=_PART_BYTES // 2).hexdigest().encode()


def pattern_of(selection: Selection) -> bytes:
    """A pattern that fits the names of the vectors that are meant, and no others."""
    parts = (selection.model, selection.space, selection.project)
    places = (b"?" * _PART_BYTES if part is None else _part(part) for part in parts)
    return b"".join((_VALUES, *places, b"*"))


def value_name(place: Place, key: Key) -> bytes:
    """The name of a vector."""
    return _VALUES + place + key


def label_name(place: Place) -> bytes:
    """The name under which a label's own words stand."""
    return _LABELS + place


def split_name(name: bytes) -> tuple[Place, Key]:
    """Place and key of a vector's name."""
    return name[len(_VALUES) : -KEY_BYTES], name[-KEY_BYTES:]


def read_label(place: Place, value: bytes | None) -> Label | None:
    """The label of that place; None if it is gone, or was written by somebody else."""
    try:
        label = msgspec.json.decode(value or b"", type=Label)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return label if place_of(label) == place else None


def read_selection(value: bytes | None) -> Selection:
    """What a line of the stream says was purged."""
    try:
        return msgspec.json.decode(value or b"", type=Selection)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Selection()  # written by somebody else: it may have meant anything


def mark_of(line: bytes) -> int:
    """The mark of a line of the stream."""
    milliseconds, _, number = line.partition(b"-")
    return int(milliseconds) * _MARKS_A_MS + int(number)


def line_after(mark: int) -> str:
    """The first line that can come after a mark."""
    milliseconds, number = divmod(mark + 1, _MARKS_A_MS)
    return f"{milliseconds}-{number}"
