from __future__ import annotations

import base64
import contextlib
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from embedway.cached import Cached, Label
from embedway.types import Space
from embedway.vector_files import (
    Entry,
    Unsound,
    read_head,
    read_line,
    restore,
    write_head,
    write_line,
)
from embedway.vectors import fault, from_numbers
from tests.fakes import FakeClock
from tests.memory_store import MemoryStore

NUMBERS = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8
)
VECTORS = NUMBERS.map(from_numbers).filter(lambda v: fault(v, len(v) // 4) is None)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=9)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Any vector that a store may list."""
    vector, model = draw(VECTORS), draw(TEXTS)
    space = Space(f"m{model}", len(vector) // 4, draw(TEXTS), draw(TEXTS))
    cached = Cached(
        vector=vector,
        tokens=draw(st.integers(0, 2**32 - 1)),
        origin=draw(st.binary(min_size=8, max_size=8)),
        created_s=draw(st.integers(0, 2**62 - 1)),
        is_estimated=draw(st.booleans()),
        is_truncated=draw(st.booleans()),
    )
    key = draw(st.binary(min_size=16, max_size=16))
    return key, Label(model, str(space), draw(TEXTS)), cached


def make_entry(number: int = 0, **changes: Any) -> Entry:
    """The vector [number, 1] of two dimensions."""
    cached = Cached(vector=from_numbers([number, 1]), tokens=3, origin=bytes(8), created_s=1000)
    key = number.to_bytes(16, "big")
    return key, Label("m/a", "m/a@2", "default"), replace(cached, **changes)


@settings(deadline=None)
@given(entries())
def test_a_line_says_all(entry: Entry) -> None:
    """What is read from a line is what was written, bit for bit, with the vector in it or beside
    it."""
    assert read_line(write_line(entry)) == entry
    assert read_head(write_head(entry), entry[2].vector) == entry


def test_a_line_is_plain() -> None:
    """A line can be read without us: hexadecimal digests, words, and base64 of float32."""
    line = orjson.loads(write_line(make_entry(7, is_truncated=True)))
    vector = np.frombuffer(base64.b64decode(line.pop("vector")), "<f4")
    assert vector.tolist() == [7.0, 1.0]
    assert len(line.pop("check")) == 16
    assert line == {
        "key": "00000000000000000000000000000007",
        "model": "m/a",
        "space": "m/a@2",
        "project": "default",
        "dimensions": 2,
        "tokens": 3,
        "created_s": 1000,
        "origin": "0000000000000000",
        "flags": ["is_truncated"],
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"key": "00"}, "key"),
        ({"key": "0" * 31 + "G"}, "key"),
        ({"key": "f" * 32}, "its check is wrong"),
        ({"model": "m/b"}, "its check is wrong"),
        ({"project": "other"}, "its check is wrong"),
        ({"tokens": 4}, "its check is wrong"),
        ({"tokens": -1}, "tokens"),
        ({"tokens": 2**32}, "tokens"),
        ({"tokens": True}, "tokens"),
        ({"created_s": 1001}, "its check is wrong"),
        ({"created_s": 2**63}, "created_s"),
        ({"origin": "1" * 16}, "its check is wrong"),
        ({"flags": ["is_estimated"]}, "its check is wrong"),
        ({"flags": ["is_great"]}, "its flags are others than"),
        ({"check": "0" * 16}, "its check is wrong"),
        ({"space": "m/a@3"}, "its space is not one of 2 dimensions"),
        ({"space": "m/a"}, "its space is not one of 2 dimensions"),
        ({"space": "m/b@2"}, "its check is wrong"),
        ({"dimensions": 3}, "its vector has 2 dimensions instead of 3"),
        ({"dimensions": 0}, "dimensions"),
        ({"vector": "AAAAAAAAAAA"}, "its vector"),
        ({"vector": "AAAAAAAAAAA="}, "its vector is all zeros"),
        ({"vector": "AADAfwAAgD8="}, "its vector holds NaN or infinity"),
        ({"vector": "AACAPwAAgD8="}, "its check is wrong"),
        ({"vector": "????"}, "its vector is no base64"),
        ({"vector": None}, "vector"),
        ({"more": 1}, "more"),
    ],
)
def test_a_changed_line_is_refused(change: dict[str, Any], told: str) -> None:
    """A line whose values do not fit each other, or are not those that were written, is no kept
    vector, and the error names what is wrong."""
    line = orjson.loads(write_line(make_entry()))
    with pytest.raises(Unsound, match=told):
        read_line(orjson.dumps({**line, **change}))


@pytest.mark.parametrize("line", [b"", b"[]", b"{", b"\xff", b"{}", b"[" * 100_000])
def test_what_is_no_line_is_refused(line: bytes) -> None:
    """Whatever else stands in a file is refused, not a bug."""
    with pytest.raises(Unsound):
        read_line(line)
    with pytest.raises(Unsound):
        read_head(line, from_numbers([1.0]))


@settings(deadline=None)
@given(bit=st.integers(0, 8 * len(write_line(make_entry())) - 17))
def test_no_flipped_bit_gets_through(bit: int) -> None:
    """A line with one bit turned round is refused, or still says the same."""
    line = bytearray(write_line(make_entry()))
    line[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(Unsound):
        assert read_line(bytes(line)) == make_entry()


async def test_restored() -> None:
    """All that is young enough is in the store afterwards with its label, and counted; *tell*
    hears of every row."""
    store, told = MemoryStore(FakeClock(now=2000.0), ttl_s=100.0), []
    given_ = [make_entry(n, created_s=1950 if n % 3 else 1900) for n in range(600)]
    restored = await restore(store, given_, oldest_s=1900.0, tell=told.append)
    assert (restored.stored, restored.expired, restored.lost) == (400, 200, 0)
    assert sum(told) == 600
    assert store.kept == {k: (label, c) for k, label, c in given_ if c.created_s == 1950}


async def test_lost() -> None:
    """What the store did not take is not counted as stored."""
    store = MemoryStore(FakeClock())
    store.drops = True
    restored = await restore(store, [make_entry(1), make_entry(2)], oldest_s=-1.0)
    assert (restored.stored, restored.lost) == (0, 2)


async def test_the_same_key_twice() -> None:
    """Of two rows with one key the later one stays, and none counts as lost."""
    store = MemoryStore(FakeClock())
    later = make_entry(1, tokens=9)
    restored = await restore(store, [make_entry(1), later], oldest_s=-1.0)
    assert (restored.stored, restored.lost) == (2, 0)
    assert store.kept[later[0]][1] == later[2]
