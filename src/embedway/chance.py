"""Randomness as a parameter: what is passed in wherever callers must not all do the same."""

from __future__ import annotations

import random
from collections.abc import Callable

Chance = Callable[[], float]
"""A number from 0 to less than 1, another one at each call."""


def system_chance(draw: Chance = random.random) -> float:
    """The machine's. For spreading waits and choices, never for secrets."""
    return draw()
