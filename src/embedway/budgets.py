"""What may be spent, and in which window of time. Windows are those of UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from msgspec import Struct

from embedway.money import parse_usd, usd_text

OwnerKind = Literal["key", "project"]
Period = Literal["day", "month", "total"]
PERIODS: tuple[Period, ...] = get_args(Period)


class Budget(Struct, frozen=True, kw_only=True):
    """The most that a key, or all keys of a project, may spend in each period."""

    id: str
    owner_kind: OwnerKind
    owner: str
    """The key's id, or the project's name."""
    period: Period
    amount: int
    """Picodollars."""
    created_ms: int


class Window(Struct, frozen=True):
    """One period of a budget: milliseconds since 1970, UTC. The end is not part of it."""

    starts_ms: int
    ends_ms: int | None
    """None: it never ends."""


def window_of(period: Period, now_ms: int) -> Window:
    """The window that *now_ms* lies in: the day, the month, or all of time."""
    if period == "total":
        return Window(0, None)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    end = start + timedelta(days=1)
    if period == "month":
        start = start.replace(day=1)
        end = (start + timedelta(days=32)).replace(day=1)
    return Window(int(start.timestamp()) * 1000, int(end.timestamp()) * 1000)


def parse_budget(text: str) -> tuple[Period, int]:
    """The period and the picodollars of "5usd/month", "0.5usd/day" or "10usd", which is a total.

    Raises ValueError.
    """
    amount, mark, word = text.partition("/")
    for period in PERIODS:
        if period == (word if mark else "total"):
            return period, parse_usd(amount)
    raise ValueError(
        f"{text!r} is not a budget, such as 5usd/month, 0.5usd/day or 10usd (for all time)"
    )


def budget_text(period: Period, amount: int) -> str:
    """What `parse_budget` reads, from a period and picodollars."""
    return f"{usd_text(amount)}usd" + ("" if period == "total" else f"/{period}")
