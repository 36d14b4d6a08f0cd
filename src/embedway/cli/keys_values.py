"""What the options of `embedway keys` may hold, read from the words of the command line."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from embedway.budgets import Period, parse_budget
from embedway.clock import SystemClock
from embedway.networks import network_of
from embedway.store.keys import is_project

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_MOST = 10**9
"""Rates are 32-bit numbers in the database."""


def key_name(text: str) -> str:
    """The name of a key."""
    if not text.strip() or not text.isprintable() or len(text) > 100:
        raise ArgumentTypeError("a key's name has 1 to 100 printable characters")
    return text


def id_or_name(text: str) -> str:
    """Which key is meant. Of a whole key, or of its part that errors show, only the id is kept: no
    message may repeat the rest."""
    parts = text.split("_", 3)
    return parts[2] if len(parts) == 4 and parts[0] == "gw" else text


def project_name(text: str) -> str:
    """The name of a project."""
    if not is_project(text):
        raise ArgumentTypeError("a project's name has 1 to 64 of A-Z a-z 0-9 _ . -")
    return text


def names(text: str) -> tuple[str, ...]:
    """Names between commas, each once."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise ArgumentTypeError("names nothing")
    return found


def network(text: str) -> str:
    """An address or a network, in its usual form."""
    try:
        return str(network_of(text))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def budget(text: str) -> tuple[Period, int]:
    """A period, and picodollars."""
    try:
        return parse_budget(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    """How many at most: at least one."""
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= _MOST:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_MOST}")
    return int(text)


def overlap(text: str) -> timedelta:
    """A length of time such as 24h; 0 for none."""
    if text == "0":
        return timedelta(0)
    if (length := _length(text)) is None:
        raise ArgumentTypeError(f"{text!r} is neither like 30d, 12h or 90m nor 0")
    return length


def expiry(text: str) -> Callable[[float], int]:
    """A function from now (seconds since 1970) to the expiry in milliseconds since 1970."""
    if (length := _length(text)) is not None:
        if not length:
            raise ArgumentTypeError("must be in the future")
        return lambda now: int((now + length.total_seconds()) * 1000)
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither like 30d, 12h or 90m nor a date") from None
    end_ms = int((day + timedelta(days=1)).timestamp() * 1000)
    if end_ms <= SystemClock().now() * 1000:
        raise ArgumentTypeError("must be in the future")
    return lambda now: end_ms


def _length(text: str) -> timedelta | None:
    found = re.fullmatch(r"([0-9]{1,5})([mhd])", text)
    return int(found[1]) * _UNITS[found[2]] if found else None
