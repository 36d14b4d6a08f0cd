"""`/v1/management/budgets`: what keys and projects may spend, and how much of it is left."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypeVar, get_args

from starlette.requests import Request
from starlette.responses import Response

from embedway.budgets import PERIODS, OwnerKind, Period
from embedway.errors import InvalidRequest, NotFound, PermissionDenied
from embedway.money import usd_text
from embedway.runtime import Runtime
from embedway.server.management_answers import Methods, json_answer, list_answer, moment
from embedway.server.management_bodies import read_object
from embedway.server.management_money_schemas import BudgetBody
from embedway.server.management_terms import read_amount, read_project
from embedway.store.budgets import BudgetState
from embedway.types import Grant

_KINDS: tuple[OwnerKind, ...] = get_args(OwnerKind)
_Word = TypeVar("_Word", bound=str)


class BudgetRoutes:
    """The routes about budgets."""

    def __init__(self, runtime: Runtime) -> None:
        self._budgets, self._keys, self._clock = runtime.budgets, runtime.keys, runtime.clock
        self._max_body_bytes = runtime.settings.server.max_body_bytes

    def table(self) -> dict[str, Methods]:
        """Path below the root to its methods."""
        return {
            "budgets": {"GET": self._list},
            "budgets/{owner_kind}/{owner}/{period}": {"PUT": self._set, "DELETE": self._remove},
        }

    async def _list(self, request: Request) -> Response:
        return list_answer(_record(state) for state in await self._states())

    async def _set(self, request: Request) -> Response:
        name = _named(request)
        body = await read_object(request, BudgetBody, self._max_body_bytes)
        amount = read_amount(body.amount, "amount")
        await self._check_owner(*name[:2])
        await self._check_grantor(request, name, amount)
        await asyncio.to_thread(self._budgets.set, *name, amount)
        for state in await self._states():
            if (state.budget.owner_kind, state.budget.owner, state.budget.period) == name:
                return json_answer(_record(state))
        raise _missing(*name)  # another admin was quicker to remove it

    async def _remove(self, request: Request) -> Response:
        name = _named(request)
        await self._check_grantor(request, name, None)
        if not await asyncio.to_thread(self._budgets.remove, *name):
            raise _missing(*name)
        told = dict(zip(("owner_kind", "owner", "period"), name, strict=True))
        return json_answer({"object": "budget", **told, "deleted": True})

    async def _states(self) -> tuple[BudgetState, ...]:
        return await asyncio.to_thread(self._budgets.states, int(self._clock.now() * 1000))

    async def _check_grantor(
        self, request: Request, name: tuple[OwnerKind, str, Period], amount: int | None
    ) -> None:
        """Who has a budget himself gives no key more, also not his own. None: without a budget."""
        kind, _, period = name
        grantor: Grant = request.scope["grant"]
        own = amounts(budgets_by_owner(await self._states(), "key").get(grantor.key_id, ()))
        if kind == "key" and period in own and (amount is None or amount > own[period]):
            raise PermissionDenied(
                f"amount: no key can be given more than its grantor has; its own {period} budget "
                f"is ${usd_text(own[period])}.",
                param="amount",
            )

    async def _check_owner(self, kind: OwnerKind, owner: str) -> None:
        """A slip would make a budget that holds nobody back."""
        if kind == "project":
            read_project(owner)
        elif not any(key.id == owner for key in await asyncio.to_thread(self._keys.find, owner)):
            raise NotFound(
                f"There is no key of the id {owner[:64]!r}; GET /v1/management/api-keys lists "
                "them.",
                param="owner",
            )


def budgets_by_owner(
    states: Iterable[BudgetState], kind: OwnerKind
) -> dict[str, tuple[BudgetState, ...]]:
    """The budgets of each key, or of each project."""
    found: dict[str, tuple[BudgetState, ...]] = defaultdict(tuple)
    for state in states:
        if state.budget.owner_kind == kind:
            found[state.budget.owner] += (state,)
    return dict(found)


def amounts(states: Iterable[BudgetState]) -> dict[Period, int]:
    """One owner's budgets, in picodollars."""
    return {state.budget.period: state.budget.amount for state in states}


def owner_budgets(states: Iterable[BudgetState]) -> dict[str, Any]:
    """One owner's, by period; null where there is none."""
    return {**dict.fromkeys(PERIODS), **{one.budget.period: _use(one) for one in states}}


def _record(state: BudgetState) -> dict[str, Any]:
    budget = state.budget
    return {
        "id": budget.id,
        "object": "budget",
        "owner_kind": budget.owner_kind,
        "owner": budget.owner,
        "period": budget.period,
        **_use(state),
    }


def _use(state: BudgetState) -> dict[str, Any]:
    is_endless = state.window.ends_ms is None
    return {
        "amount": usd_text(state.budget.amount),
        "spent": usd_text(state.spent),
        "reserved": usd_text(state.reserved),
        "remaining": usd_text(state.left),
        "starts_at": None if is_endless else moment(state.window.starts_ms),
        "ends_at": moment(state.window.ends_ms),
    }


def _named(request: Request) -> tuple[OwnerKind, str, Period]:
    """Which budget the path names."""
    asked = request.path_params
    return (
        _one_of(_KINDS, asked["owner_kind"], "owner_kind"),
        asked["owner"],
        _one_of(PERIODS, asked["period"], "period"),
    )


def _one_of(words: tuple[_Word, ...], word: str, param: str) -> _Word:
    for known in words:
        if known == word:
            return known
    raise InvalidRequest(f"{param} is {word[:64]!r}; it is one of {', '.join(words)}.", param=param)


def _missing(kind: OwnerKind, owner: str, period: Period) -> NotFound:
    return NotFound(
        f"There is no {period} budget of the {kind} {owner[:64]!r}; "
        "GET /v1/management/budgets lists them.",
        param="period",
    )
