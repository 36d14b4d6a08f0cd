"""The query of the usage routes: which requests count, and how they are grouped.

Raises InvalidRequest naming the parameter that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct

from embedway.errors import InvalidRequest
from embedway.store.usage import GROUPS, Group, UsageQuery

_Text = Annotated[str, Meta(min_length=1, max_length=256)]
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AttemptFilter(Struct, frozen=True, kw_only=True):
    """What requests and attempts have both."""

    since: _Text | None = None
    until: _Text | None = None
    key: _Text | None = None
    project: _Text | None = None
    model: _Text | None = None
    provider: _Text | None = None
    status: Annotated[str, Meta(pattern=r"^[1-5][0-9][0-9]\Z")] | None = None


class UsageFilter(AttemptFilter, frozen=True, kw_only=True):
    """What only requests of callers have, and the shape of the answer."""

    user: _Text | None = None
    tag: _Text | None = None
    by: _Text | None = None
    format: Literal["json", "csv"] | None = None


def read_selection(filter: AttemptFilter, canonical: Callable[[str], str]) -> UsageQuery:
    """The rows that are meant. canonical: the model of any of its names."""
    since = None if filter.since is None else _since_ms(filter.since)
    until = None if filter.until is None else _until_ms(filter.until)
    if since is not None and until is not None and since >= until:
        raise InvalidRequest("since must be before until.", param="since")
    return UsageQuery(
        since_ms=since,
        until_ms=until,
        key_id=filter.key,
        project=filter.project,
        model=None if filter.model is None else canonical(filter.model),
        provider=filter.provider,
        status=None if filter.status is None else int(filter.status),
        user=filter.user if isinstance(filter, UsageFilter) else None,
        tag=filter.tag if isinstance(filter, UsageFilter) else None,
    )


def read_groups(filter: UsageFilter) -> tuple[Group, ...]:
    """What to group by, in the order that it is named."""
    names = [] if filter.by is None else filter.by.split(",")
    known = tuple(group for name in names for group in GROUPS if group == name)
    if len(known) < len(names) or len(set(known)) < len(known):
        raise InvalidRequest(
            f"by is wrong: name some of {', '.join(GROUPS)}, each once, with commas between.",
            param="by",
        )
    return known


def is_csv_wanted(filter: UsageFilter, accept: str) -> bool:
    """By `format`; without it, by what the caller says that it takes."""
    if filter.format is not None:
        return filter.format == "csv"
    taken = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return "text/csv" in taken and "application/json" not in taken


def _since_ms(text: str) -> int:
    """The moment, or the beginning of the day."""
    return _milliseconds(text, "since", timedelta())


def _until_ms(text: str) -> int:
    """The moment, or the end of the day, which belongs to it."""
    return _milliseconds(text, "until", timedelta(days=1))


def _milliseconds(text: str, param: str, after_midnight: timedelta) -> int:
    """Since 1970."""
    try:
        if _DAY.fullmatch(text):
            day = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
            return (day + after_midnight - _EPOCH) // timedelta(milliseconds=1)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(
        f"{param} is {text[:64]!r}; send a day of UTC such as 2026-11-21, or a moment such as "
        "2026-11-21T08:00:00Z (in a query a plus sign is written %2B).",
        param=param,
    )
