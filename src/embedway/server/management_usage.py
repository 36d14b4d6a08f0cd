"""`/v1/management/usage`: what was asked, by whom, what it cost, and what providers were sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from embedway.money import usd_text
from embedway.runtime import Runtime
from embedway.server.management_answers import Methods, json_answer, list_answer, moment
from embedway.server.management_bodies import read_query
from embedway.server.management_filters import (
    AttemptFilter,
    UsageFilter,
    is_csv_wanted,
    read_groups,
    read_selection,
)
from embedway.server.spreadsheet import csv_text
from embedway.store.usage import (
    Group,
    UnknownAttempt,
    UsageQuery,
    UsageSum,
    attempt_sums,
    unknown_attempts_of,
    usage_sums,
)

_SUMS = UsageSum.__struct_fields__[1:]


class UsageRoutes:
    """The routes about the two books."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def table(self) -> dict[str, Methods]:
        """Path below the root to its methods."""
        return {
            "usage": {"GET": self._usage},
            "usage/attempts": {"GET": self._attempts},
            "usage/attempts/unknown": {"GET": self._unknown},
        }

    async def _usage(self, request: Request) -> Response:
        filter = read_query(request, UsageFilter)
        by, query = read_groups(filter), self._query(filter)
        is_csv = is_csv_wanted(filter, request.headers.get("accept", ""))
        groups, total = await asyncio.to_thread(self._add_up, query, by)
        rows = [one.record(by) for one in groups]
        if is_csv:
            return Response(csv_text((*by, *_SUMS), rows), media_type="text/csv")
        told = {"object": "list", "period": _period(query), "data": rows}
        return json_answer({**told, "summary": _summary(total)})

    def _add_up(
        self, query: UsageQuery, by: Sequence[Group]
    ) -> tuple[Sequence[UsageSum], UsageSum]:
        """The groups, and everything once: by tag, a request counts several times."""
        self._runtime.book.flush()
        database = self._runtime.database
        (total,) = usage_sums(database, query)
        return (usage_sums(database, query, by) if by else ()), total

    async def _attempts(self, request: Request) -> Response:
        query = self._query(read_query(request, AttemptFilter))
        sums = await asyncio.to_thread(attempt_sums, self._runtime.database, query)
        return json_answer({"period": _period(query), **sums.record()})

    async def _unknown(self, request: Request) -> Response:
        query = self._query(read_query(request, AttemptFilter))
        found = await asyncio.to_thread(unknown_attempts_of, self._runtime.database, query)
        return list_answer(map(_unknown_record, found))

    def _query(self, filter: AttemptFilter) -> UsageQuery:
        return read_selection(filter, self._runtime.gateway.directory.canonical)


def _period(query: UsageQuery) -> dict[str, Any]:
    return {"start": moment(query.since_ms), "end": moment(query.until_ms)}


def _summary(total: UsageSum) -> dict[str, Any]:
    return {
        "total_requests": total.requests,
        "total_errors": total.errors,
        "total_inputs": total.inputs,
        "total_tokens": total.tokens,
        "total_cost": usd_text(total.cost),
        "total_market_cost": usd_text(total.market_cost),
        "cache_savings": usd_text(total.saved),
        "effective_cost_per_request": usd_text(total.cost // max(1, total.requests)),
    }


def _unknown_record(attempt: UnknownAttempt) -> dict[str, Any]:
    record: dict[str, Any] = attempt.record()
    for name in ("created", "ended"):
        record[f"{name}_at"] = moment(record.pop(f"{name}_ms"))
    return record
