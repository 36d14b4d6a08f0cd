"""Money: whole picodollars inside, decimal text outside. Never a float in between."""

from __future__ import annotations

import re
from functools import lru_cache

PICODOLLARS = 10**12
"""Picodollars in a US dollar. Six tokens at $0.02 a million are 0.12 microdollars, so that
anything coarser would round (facts measured with the seeds' own example)."""
_MOST_USD = 4_000_000
"""Databases keep picodollars in 64 bits: what is spent and what is reserved fit together."""


@lru_cache(maxsize=4096)
def usd_text(picodollars: int) -> str:
    """A plain decimal text in USD, without exponent or trailing zeros: 120000 is "0.00000012"."""
    sign = "-" if picodollars < 0 else ""
    whole, fraction = divmod(abs(picodollars), PICODOLLARS)
    digits = f"{fraction:012d}".rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


@lru_cache(maxsize=1024)
def picodollars(usd_per_million: str | None) -> int | None:
    """The price of one unit in 1e-12 USD, from the USD price of a million as decimal text.

    Raises ValueError if it is not plain decimal text or not a whole number of picodollars.
    """
    if usd_per_million is None:
        return None
    if not re.fullmatch(r"[0-9]+(\.[0-9]{1,6})?", usd_per_million):
        raise ValueError(f"{usd_per_million!r} is not a price in whole picodollars")
    whole, _, fraction = usd_per_million.partition(".")
    return int(whole + fraction.ljust(6, "0"))


def parse_usd(text: str) -> int:
    """Picodollars of an amount such as "5", "0.25" or "5usd". Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})(?:\.([0-9]{1,12}))?(?: ?(?:usd|USD))?", text)
    if found is None:
        raise ValueError(
            f"{text!r} is not an amount in US dollars, such as 5usd or 0.25usd "
            "(at most 12 decimal places)"
        )
    amount = int(found[1]) * PICODOLLARS + int((found[2] or "").ljust(12, "0"))
    if amount > _MOST_USD * PICODOLLARS:
        raise ValueError(f"{text!r} is more than the most that fits, {_MOST_USD}usd")
    return amount
