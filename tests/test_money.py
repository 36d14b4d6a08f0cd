"""Money leaves as exact decimal text."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.money import PICODOLLARS, parse_usd, usd_text


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


@pytest.mark.parametrize(
    ("text", "picodollars"),
    [
        ("5", 5 * PICODOLLARS),
        ("5usd", 5 * PICODOLLARS),
        ("5 USD", 5 * PICODOLLARS),
        ("0.5usd", PICODOLLARS // 2),
        ("0", 0),
        ("0.000000000001", 1),
        ("007.10usd", 7_100_000_000_000),
        ("4000000usd", 4_000_000 * PICODOLLARS),
    ],
)
def test_parse(text, picodollars):
    """An amount in dollars is read exactly, with or without the unit."""
    assert parse_usd(text) == picodollars


@pytest.mark.parametrize(
    "text",
    [
        "",
        "usd",
        "$5",
        "5eur",
        "5 u",
        "-5usd",
        "+5usd",
        "5,5usd",
        "1,000usd",
        "1e3",
        "1_000",
        ".5",
        "5.",
        "5.usd",
        "0.0000000000001",
        "nan",
        "inf",
        "0x5",
        " 5",
        "5 ",
        "5usd\n",
        "٥",
        "4000000.000000000001",
        "999999999",
        "9999999999",
    ],
)
def test_no_amounts(text):
    """Nothing else is an amount: no sign, no exponent, no rounding, nothing that does not fit."""
    with pytest.raises(ValueError, match=r"is not an amount in US dollars|is more than the most"):
        parse_usd(text)


@given(st.integers(0, 4_000_000 * PICODOLLARS))
def test_read_again(picodollars):
    """What is written as text is read as what it was."""
    assert parse_usd(usd_text(picodollars)) == picodollars
