"""The windows of budgets."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.budgets import PERIODS, Window, budget_text, parse_budget, window_of
from embedway.money import PICODOLLARS

YEARS_MS = st.integers(0, 4_102_444_800_000)


def at(text):
    """Milliseconds since 1970 of an ISO time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("period", "now", "starts", "ends"),
    [
        ("day", "2026-11-21T00:00:00", "2026-11-21T00:00:00", "2026-11-22T00:00:00"),
        ("day", "2024-02-28T23:59:59.999", "2024-02-28T00:00:00", "2024-02-29T00:00:00"),
        ("month", "2026-12-31T23:59:59.999", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("month", "2024-02-29T12:00:00", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
    ],
)
def test_windows_of_the_calendar(period, now, starts, ends):
    """Days and months are those of UTC."""
    assert window_of(period, at(now)) == Window(at(starts), at(ends))


def test_total_never_ends():
    """A total budget has one window."""
    assert window_of("total", at("2026-11-21T00:00:00")) == Window(0, None)


@given(YEARS_MS, st.sampled_from(["day", "month"]))
def test_windows_hold_their_time_and_meet(now_ms, period):
    """Every moment lies in its window, and the next window starts where it ends."""
    window = window_of(period, now_ms)
    assert window.ends_ms is not None
    assert window.starts_ms <= now_ms < window.ends_ms
    assert window_of(period, window.ends_ms).starts_ms == window.ends_ms
    assert window_of(period, window.ends_ms - 1) == window


@pytest.mark.parametrize(
    ("text", "period", "dollars"),
    [
        ("5usd/month", "month", 5),
        ("0.5usd/day", "day", 0.5),
        ("10usd", "total", 10),
        ("10/total", "total", 10),
        ("0usd/day", "day", 0),
    ],
)
def test_parse(text, period, dollars):
    """A budget is an amount and a period; without a period it is for all time."""
    assert parse_budget(text) == (period, dollars * PICODOLLARS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("5usd/week", "is not a budget, such as 5usd/month"),
        ("5usd/Month", "is not a budget"),
        ("5usd/", "is not a budget"),
        ("5usd/day/day", "is not a budget"),
        ("/day", "is not an amount"),
        ("", "is not an amount"),
        ("day", "is not an amount"),
        ("5eur/day", "'5eur' is not an amount in US dollars, such as 5usd"),
        ("-5usd/day", "is not an amount"),
        ("9000000usd/day", "more than the most"),
    ],
)
def test_no_budgets(text, told):
    """What is no budget is refused with what to write."""
    with pytest.raises(ValueError, match=told):
        parse_budget(text)


@given(st.sampled_from(PERIODS), st.integers(0, 4_000_000 * PICODOLLARS))
def test_text_of_a_budget(period, amount):
    """A budget that is written as text is read as what it was."""
    assert parse_budget(budget_text(period, amount)) == (period, amount)
