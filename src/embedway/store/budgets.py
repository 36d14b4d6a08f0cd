"""The budgets of keys and projects, and how much of each is spent.

Only what is allowed is written here. What is spent and reserved is the ledger's to write, so that
no change of a budget loses or gives away a picodollar.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from embedway.budgets import PERIODS, Budget, OwnerKind, Period, Window, window_of
from embedway.clock import Clock
from embedway.store.database import BUDGETS, WINDOWS
from embedway.store.transactions import reading, writing

_WHAT = "the budgets"
_LAST = (
    select(WINDOWS.c.budget_id, func.max(WINDOWS.c.starts_ms).label("starts_ms"))
    .group_by(WINDOWS.c.budget_id)
    .subquery()
)
_NEWEST = select(WINDOWS).join(
    _LAST,
    and_(WINDOWS.c.budget_id == _LAST.c.budget_id, WINDOWS.c.starts_ms == _LAST.c.starts_ms),
)


class BudgetState(Struct, frozen=True):
    """A budget in one of its windows. Amounts are picodollars."""

    budget: Budget
    window: Window
    spent: int
    reserved: int
    """For requests under way."""

    @property
    def left(self) -> int:
        """What may still be asked for."""
        return max(0, self.budget.amount - self.spent - self.reserved)


class BudgetStore:
    """Sets, removes and shows budgets. Blocking: call it off the event loop."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        random_text: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._random_text = random_text

    def set(self, owner_kind: OwnerKind, owner: str, period: Period, amount: int) -> Budget:
        """Allow *amount* picodollars in each period, in place of what was allowed.

        owner: the key's id, or the project's name. What is spent stays spent; a budget that is new
        counts from now on. Raises StoreError.
        """
        row = {
            "id": self._random_text(8),
            "owner_kind": owner_kind,
            "owner": owner,
            "period": period,
            "amount": amount,
            "created_ms": int(self._clock.now() * 1000),
        }
        upsert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        statement = (
            upsert(BUDGETS)
            .values(row)
            .on_conflict_do_update(
                index_elements=("owner_kind", "owner", "period"), set_={"amount": amount}
            )
        )
        with writing(self._engine, _WHAT) as connection:
            connection.execute(statement)
            of_it = select(BUDGETS).where(_is(owner_kind, owner, period))
            return Budget(**connection.execute(of_it).mappings().one())

    def remove(self, owner_kind: OwnerKind, owner: str, period: Period) -> bool:
        """Take the budget away, with the count of what was spent of it; False if there is none.

        Raises StoreError.
        """
        with writing(self._engine, _WHAT) as connection:
            # Held, so that no window is opened for it meanwhile.
            of_it = select(BUDGETS.c.id).where(_is(owner_kind, owner, period)).with_for_update()
            id = connection.execute(of_it).scalar()
            if id is None:
                return False
            connection.execute(delete(WINDOWS).where(WINDOWS.c.budget_id == id))
            connection.execute(delete(BUDGETS).where(BUDGETS.c.id == id))
        return True

    def all(self) -> tuple[Budget, ...]:
        """Every budget: those of one owner together, the shortest period first.

        Raises StoreError.
        """
        with reading(self._engine, _WHAT) as connection:
            return _budgets(connection)

    def states(self, now_ms: int) -> tuple[BudgetState, ...]:
        """Every budget in the window that counts now, in the order of `all`. Raises StoreError."""
        with reading(self._engine, _WHAT) as connection:
            budgets = _budgets(connection)
            newest = {row.budget_id: row for row in connection.execute(_NEWEST)}
        return tuple(_state(budget, newest.get(budget.id), now_ms) for budget in budgets)


def _is(owner_kind: OwnerKind, owner: str, period: Period) -> ColumnElement[bool]:
    return and_(
        BUDGETS.c.owner_kind == owner_kind,
        BUDGETS.c.owner == owner,
        BUDGETS.c.period == period,
    )


def _budgets(connection: Connection) -> tuple[Budget, ...]:
    rows = connection.execute(select(BUDGETS)).mappings()
    return tuple(
        sorted(
            (Budget(**row) for row in rows),
            key=lambda one: (one.owner_kind, one.owner, PERIODS.index(one.period)),
        )
    )


def _state(budget: Budget, row: Row[Any] | None, now_ms: int) -> BudgetState:
    """A clock that goes back opens no window anew: the newest counts until it is over."""
    if row is None or (row.ends_ms is not None and row.ends_ms <= now_ms):
        return BudgetState(budget, window_of(budget.period, now_ms), 0, 0)
    return BudgetState(budget, Window(row.starts_ms, row.ends_ms), row.spent, row.reserved)
