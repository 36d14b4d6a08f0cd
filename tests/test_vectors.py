"""Vectors are little-endian float32 bytes, whatever is done to them."""

import base64
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.vectors import (
    as_array,
    fault,
    from_base64,
    from_numbers,
    normalise,
    pack_rows,
    to_base64,
    truncate,
    weighted_mean,
)

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = st.lists(FLOATS, min_size=1, max_size=40)
UNITS = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40)


def pack(*values):
    """Little-endian float32, packed by the standard library."""
    return struct.pack(f"<{len(values)}f", *values)


@given(VECTORS)
def test_packing(values):
    """Numbers are packed as little-endian float32, and read back bit for bit."""
    vector = from_numbers(values)

    assert vector == pack(*values)
    assert as_array(vector).tobytes() == vector
    assert not as_array(vector).flags.writeable


@pytest.mark.parametrize("wrong", [["a"], [[1.0], [1.0, 2.0]], [{}], [b"1x"]])
def test_packing_refuses(wrong):
    """What is no number cannot be packed."""
    with pytest.raises((ValueError, TypeError)):
        from_numbers(wrong)


@given(VECTORS)
def test_base64(values):
    """The base64 form is the standard one over the bytes, and is read back to the same bytes."""
    vector = from_numbers(values)
    text = to_base64(vector)

    assert text == base64.b64encode(pack(*values))
    assert from_base64(text.decode()) == vector


@pytest.mark.parametrize("text", ["é", "AA*A", "AAA", "AA\nAA", "AAAA=", "A", " AAAA", "AA-_"])
def test_base64_refuses(text):
    """Any foreign character or wrong padding is refused, since a lenient reader would shift all
    that follows."""
    with pytest.raises(ValueError, match=r"."):
        from_base64(text)


@given(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=0, max_size=9))
def test_rows(rows):
    """Each row of a matrix becomes one vector, in order."""
    matrix = np.array(rows, np.float32).reshape(-1, 3)

    assert pack_rows(matrix) == [pack(*row) for row in rows]


def test_rows_of_a_slice():
    """A matrix whose rows do not lie side by side in memory is packed row by row all the same."""
    matrix = np.arange(12, dtype=np.float64).reshape(3, 4)[:, :2]

    assert pack_rows(matrix) == [pack(0, 1), pack(4, 5), pack(8, 9)]


@given(st.lists(UNITS.filter(lambda row: math.hypot(*row) > 1e-3), min_size=1, max_size=4))
def test_normalise(rows):
    """A normalised row has length one and the direction it had."""
    width = min(map(len, rows))
    matrix = np.array([row[:width] for row in rows], np.float32)
    matrix[~(np.abs(matrix) > 1e-3).any(axis=1)] = 1.0
    unit = normalise(matrix)

    assert unit.dtype == np.float32
    assert np.allclose(np.linalg.norm(unit.astype(np.float64), axis=1), 1.0, atol=1e-6)
    assert np.allclose(unit * np.linalg.norm(matrix, axis=1, keepdims=True), matrix, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "unit"),
    [
        ([0.0, 0.0], [0.0, 0.0]),
        ([3e38, 3e38], [math.sqrt(0.5)] * 2),
        ([1e-38, 0.0], [1.0, 0.0]),
        ([-3.0, 4.0], [-0.6, 0.8]),
    ],
)
def test_normalise_extremes(row, unit):
    """Zeros stay zeros, and neither huge nor tiny numbers overflow on the way."""
    assert normalise(np.array([row], np.float32))[0] == pytest.approx(unit)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_truncate(dimensions):
    """A shorter vector is the first numbers of the longer one, made a unit vector again."""
    values = np.array([1.0, -2.0, 3.0, 4.0], np.float32)
    kept = values[:dimensions]

    shorter = truncate(values.tobytes(), dimensions)

    assert len(shorter) == 4 * dimensions
    assert as_array(shorter) == pytest.approx(kept / np.linalg.norm(kept))


@pytest.mark.parametrize(
    ("vector", "dimensions", "words"),
    [
        (pack(1.0, 0.0), 2, None),
        (pack(1e-40, 0.0), 2, None),  # its square is no float32, yet it is not zero
        (pack(3e38, 3e38), 2, None),  # its square is infinite, yet it is finite
        (pack(1.0), 2, "has 1 dimensions instead of 2"),
        (pack(1.0, 2.0, 3.0), 2, "has 3 dimensions instead of 2"),
        (b"", 2, "has 0 dimensions instead of 2"),
        (b"12345", 1, "has 1.25 dimensions instead of 1"),
        (pack(1.0, math.nan), 2, "holds NaN or infinity"),
        (pack(math.inf, 1.0), 2, "holds NaN or infinity"),
        (pack(-math.inf, math.inf), 2, "holds NaN or infinity"),
        (pack(0.0, -0.0), 2, "is all zeros"),
    ],
)
def test_fault(vector, dimensions, words):
    """A vector is sound if it has the length asked for, and finite numbers that are not all 0."""
    assert fault(vector, dimensions) == words


@given(VECTORS)
def test_fault_agrees_with_the_definition(values):
    """Finite vectors of the right length are faulty only if all their numbers are zero."""
    vector = from_numbers(values)

    assert (fault(vector, len(values)) is None) == any(as_array(vector))


@pytest.mark.parametrize("number", [1e39, -1e39, 1e308])
def test_too_large_for_float32(number):
    """A number beyond float32 becomes infinity without a warning, and is then found."""
    assert fault(from_numbers([number, 1.0]), 2) == "holds NaN or infinity"


@given(
    st.integers(1, 12).flatmap(
        lambda width: st.lists(
            st.tuples(st.lists(FLOATS, min_size=width, max_size=width), st.integers(0, 2**31)),
            min_size=1,
            max_size=6,
        )
    )
)
def test_weighted_mean(drawn):
    """The mean counts each vector by its weight, and has the length 1."""
    vectors = [from_numbers(row) for row, _ in drawn]
    weights = [weight for _, weight in drawn]
    total = np.array(weights, np.float64) @ np.array([row for row, _ in drawn], np.float64)
    largest = np.abs(total).max()
    exact = total / largest if largest else total  # a square of tiny numbers would be zero
    summed = sum(weight * np.abs(row).max() for row, weight in drawn)

    mean = as_array(weighted_mean(vectors, weights))

    if largest > 1e-6 * summed:  # else they cancel each other out, down to rounding errors
        assert mean == pytest.approx(exact / np.linalg.norm(exact), abs=1e-6)
        assert float(np.linalg.norm(mean.astype(np.float64))) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("vectors", "weights"),
    [([pack(1, 0), pack(-1, 0)], [3, 3]), ([pack(0, 0)], [1]), ([pack(1, 2)], [0])],
)
def test_no_mean(vectors, weights):
    """Vectors that cancel each other out have a mean of zeros, which is found to be no vector."""
    assert fault(weighted_mean(vectors, weights), 2) == "is all zeros"


def test_mean_of_one():
    """The mean of one vector is its direction, whatever its weight."""
    assert as_array(weighted_mean([pack(3, -4)], [17])) == pytest.approx([0.6, -0.8])
