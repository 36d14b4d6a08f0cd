"""`/v1/management/projects`: whose keys there are, and what each project spends."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from embedway.budgets import window_of
from embedway.runtime import Runtime
from embedway.server.management_answers import Methods, list_answer
from embedway.server.management_budgets import budgets_by_owner, owner_budgets
from embedway.store.usage import UsageQuery, UsageSum, usage_sums

_NOTHING = UsageSum(
    group=(), requests=0, errors=0, inputs=0, tokens=0, cost=0, market_cost=0, saved=0
)


class ProjectRoutes:
    """The routes about projects."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def table(self) -> dict[str, Methods]:
        """Path below the root to its methods."""
        return {"projects": {"GET": self._list}}

    async def _list(self, request: Request) -> Response:
        return list_answer(await asyncio.to_thread(self._read))

    def _read(self) -> list[dict[str, Any]]:
        """A project is there as soon as a key, a budget or a request of this month names it."""
        now_ms = int(self._runtime.clock.now() * 1000)
        keys = self._runtime.keys.all()
        budgets = budgets_by_owner(self._runtime.budgets.states(now_ms), "project")
        self._runtime.book.flush()
        query = UsageQuery(since_ms=window_of("month", now_ms).starts_ms)
        sums = {
            str(one.group[0]): replace(one, group=())
            for one in usage_sums(self._runtime.database, query, ("project",))
        }
        active = Counter(key.project for key in keys if key.state(now_ms) == "active")
        names = {key.project for key in keys} | set(budgets) | set(sums)
        return [
            {
                "name": name,
                "object": "project",
                "keys": active[name],
                "budgets": owner_budgets(budgets.get(name, ())),
                "this_month": sums.get(name, _NOTHING).record(()),
            }
            for name in sorted(names)
        ]
