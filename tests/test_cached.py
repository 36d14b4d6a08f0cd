"""The stored form of a vector: read back bit for bit, and any damage to it is found."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from embedway.cached import KEY_BYTES, Cached, Damaged, Label, Selection, pack, unpack
from embedway.vectors import fault, from_numbers

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
KEYS = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
CACHED = st.builds(
    Cached,
    vector=st.lists(FLOATS, min_size=1, max_size=40)
    .map(from_numbers)
    .filter(lambda vector: fault(vector, len(vector) // 4) is None),
    tokens=st.integers(0, 2**32 - 1),
    origin=st.binary(min_size=8, max_size=8),
    created_s=st.integers(0, 2**64 - 1),
    is_estimated=st.booleans(),
    is_truncated=st.booleans(),
)
KEY = bytes(range(KEY_BYTES))
VALUE = pack(
    KEY,
    Cached(
        vector=from_numbers([0.6, 0.8, 0.0]), tokens=3, origin=b"deployed", created_s=1_800_000_000
    ),
)


@given(KEYS, CACHED)
def test_read_back(key, cached):
    """What was packed is unpacked, bit for bit, with all that stands beside the vector."""
    value = pack(key, cached)

    assert unpack(key, value) == cached
    assert len(value) == 56 + len(cached.vector)


@given(KEYS, CACHED, CACHED)
def test_nothing_is_left_out(key, one, other):
    """Values that differ in anything are packed differently."""
    assert (pack(key, one) == pack(key, other)) == (one == other)
    for changes in ({"is_estimated": not one.is_estimated}, {"is_truncated": not one.is_truncated}):
        assert pack(key, replace(one, **changes)) != pack(key, one)


@pytest.mark.parametrize("position", range(len(VALUE)))
def test_any_byte(position):
    """A change of any one byte, to any other, is found."""
    for change in range(1, 256):
        spoilt = bytearray(VALUE)
        spoilt[position] ^= change
        with pytest.raises(Damaged):
            unpack(KEY, bytes(spoilt))


@pytest.mark.parametrize("size", range(len(VALUE)))
def test_any_cut(size):
    """A value that is cut anywhere is found, at either end."""
    for part in (VALUE[:size], VALUE[len(VALUE) - size :]):
        with pytest.raises(Damaged):
            unpack(KEY, part)


@given(KEYS, CACHED, st.data())
def test_any_damage(key, cached, data):
    """Whatever piece of a value is replaced, moved or repeated, it is found."""
    value = pack(key, cached)
    start = data.draw(st.integers(0, len(value)))
    end = data.draw(st.integers(start, len(value)))
    piece = data.draw(st.binary(max_size=60) | st.just(value) | st.just(bytes(end - start)))
    spoilt = value[:start] + piece + value[end:]
    assume(spoilt != value)
    with pytest.raises(Damaged):
        unpack(key, spoilt)


@given(KEYS, KEYS, CACHED)
def test_mixed_up(key, other, cached):
    """A value is refused under any key but its own."""
    assume(key != other)
    with pytest.raises(Damaged, match="another key"):
        unpack(other, pack(key, cached))


@given(st.binary(max_size=200))
@example(bytes(56))
@example(VALUE[:12] + bytes(100))
def test_any_bytes(value):
    """No other bytes are taken for a value, and none of them raises anything but Damaged."""
    with pytest.raises(Damaged):
        unpack(KEY, value)


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ([0.0, 0.0], "its vector is all zeros"),
        ([float("nan"), 1.0], "its vector holds NaN or infinity"),
        ([1.0, float("-inf")], "its vector holds NaN or infinity"),
    ],
)
def test_wrong_when_stored(numbers, why):
    """A vector that was wrong already when it was stored is refused as well."""
    value = pack(
        KEY, Cached(vector=from_numbers(numbers), tokens=1, origin=b"deployed", created_s=1)
    )
    with pytest.raises(Damaged, match=why):
        unpack(KEY, value)


PARTS = st.sampled_from(("a", "b", "A", ""))


@given(
    st.builds(Label, PARTS, PARTS, PARTS),
    st.builds(
        Selection, model=st.none() | PARTS, space=st.none() | PARTS, project=st.none() | PARTS
    ),
)
def test_selections(label, selection):
    """A selection holds a label if each part it names is the label's; naming none holds all."""
    differs = [
        part
        for part in ("model", "space", "project")
        if getattr(selection, part) is not None and getattr(selection, part) != getattr(label, part)
    ]
    assert selection.holds(label) == (not differs)
    assert Selection().holds(label)
