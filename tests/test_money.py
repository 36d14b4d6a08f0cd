"""Money leaves as exact decimal text."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.money import PICODOLLARS, usd_text


@pytest.mark.parametrize(
    ("picodollars", "text"),
    [
        (0, "0"),
        (1, "0.000000000001"),
        (120_000, "0.00000012"),
        (20_000, "0.00000002"),
        (PICODOLLARS, "1"),
        (10 * PICODOLLARS, "10"),
        (1_500_000_000_000, "1.5"),
        (-120_000, "-0.00000012"),
        (-PICODOLLARS, "-1"),
        (123_456_789_012_345_678_901, "123456789.012345678901"),
    ],
)
def test_text(picodollars, text):
    """Picodollars become plain decimal text without exponent or trailing zeros."""
    assert usd_text(picodollars) == text


@given(st.integers(-(10**30), 10**30))
def test_is_exact(picodollars):
    """The text is worth exactly what was put in, to the last picodollar."""
    text = usd_text(picodollars)

    assert Fraction(text) * 10**12 == picodollars
    assert "e" not in text.lower()
    assert "." not in text or not text.endswith(("0", "."))
