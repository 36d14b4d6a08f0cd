"""Moments on the command line: `7d` ago, or a day of UTC."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Moment = Callable[[float], int]
"""From now, in seconds since 1970, to milliseconds since 1970."""

_UNITS = {"m": 60, "h": 3600, "d": 86_400}


def start(text: str) -> Moment:
    """So long ago, or the beginning of the day, as argparse wants its types."""
    return _moment(text, timedelta())


def end(text: str) -> Moment:
    """So long ago, or the end of the day."""
    return _moment(text, timedelta(days=1))


def _moment(text: str, after_midnight: timedelta) -> Moment:
    if match := re.fullmatch(r"([0-9]{1,5})([mhd])", text):
        seconds = int(match[1]) * _UNITS[match[2]]
        return lambda now: int((now - seconds) * 1000)
    try:
        moment = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + after_midnight
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"{text!r} is neither like 7d, 12h or 90m (ago) nor a date such as 2026-11-21"
        ) from None
    milliseconds = int(moment.timestamp()) * 1000
    return lambda now: milliseconds
