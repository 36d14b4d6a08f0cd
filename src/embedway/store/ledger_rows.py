"""What the ledger writes: attempts that begin and end, reservations of budgets and their end.

Each function works within a transaction of the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from msgspec.structs import asdict
from sqlalchemy import Connection, Engine, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from embedway.budgets import Budget, Window, window_of
from embedway.errors import BudgetExceeded
from embedway.ledger import AttemptBegun, AttemptEnded, Held, Reservation, UsageLine
from embedway.money import usd_text
from embedway.store.database import (
    ATTEMPTS,
    BUDGETS,
    RESERVATIONS,
    USAGE,
    WINDOWS,
    WRITTEN_OFF,
)
from embedway.store.prepared import Prepared
from embedway.store.usage_rows import usage_row

_OF_WINDOW = (WINDOWS.c.budget_id == bindparam("of")) & (WINDOWS.c.starts_ms == bindparam("since"))


class LedgerRows:
    """The statements, for one engine and one process."""

    def __init__(self, engine: Engine, process: str) -> None:
        self._process = process
        self._windows: dict[str, Window] = {}
        """The newest window of each budget."""

        prepared = partial(Prepared, engine)
        self._begin = prepared(insert(ATTEMPTS))
        self._end = prepared(
            update(ATTEMPTS)
            # One that was taken for lost may end all the same.
            .where(ATTEMPTS.c.id == bindparam("which"))
            .where((ATTEMPTS.c.state == "reserved") | (ATTEMPTS.c.state == "unknown"))
            .values({name: bindparam(f"new_{name}") for name in _ENDED})
        )
        self._usage = prepared(insert(USAGE))
        upsert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self._open_window = prepared(upsert(WINDOWS).on_conflict_do_nothing())
        limit = select(BUDGETS.c.amount).where(BUDGETS.c.id == WINDOWS.c.budget_id)
        self._hold = prepared(
            update(WINDOWS)
            .where(_OF_WINDOW)
            .where(
                WINDOWS.c.spent + WINDOWS.c.reserved + bindparam("more") <= limit.scalar_subquery()
            )
            .values(reserved=WINDOWS.c.reserved + bindparam("more"))
        )
        self._release = prepared(
            update(WINDOWS)
            .where(_OF_WINDOW)
            .values(
                reserved=WINDOWS.c.reserved - bindparam("held"),
                spent=WINDOWS.c.spent + bindparam("paid"),
            )
        )
        self._note = prepared(insert(RESERVATIONS))
        self._forget = prepared(
            delete(RESERVATIONS)
            .where(RESERVATIONS.c.request_id == bindparam("of_request"))
            .returning(
                RESERVATIONS.c.budget_id,
                RESERVATIONS.c.starts_ms,
                RESERVATIONS.c.process,
                RESERVATIONS.c.amount,
            )
        )

    def begin(self, connection: Connection, attempts: Iterable[AttemptBegun]) -> None:
        """Write down attempts that are about to be made."""
        rest = {name: None for name in ("tokens", "cost", "ended_ms", "status", "code")}
        self._begin.run_many(
            connection,
            [
                {**asdict(a), **rest, "process": self._process, "state": "reserved"}
                for a in attempts
            ],
        )

    def end(self, connection: Connection, attempts: Iterable[AttemptEnded]) -> None:
        """Write down what became of them."""
        self._end.run_many(
            connection,
            [
                {"which": a.id, **{f"new_{name}": getattr(a, name) for name in _ENDED}}
                for a in attempts
            ],
        )

    def add_usage(self, connection: Connection, lines: Iterable[UsageLine]) -> None:
        """Write down what callers did."""
        self._usage.run_many(connection, [usage_row(line) for line in lines])

    def find_windows(self, connection: Connection, wanted: Sequence[Reservation]) -> None:
        """Find, or open, the windows that these are held back in."""
        budgets = {budget.id: budget for one in wanted for budget in one.budgets}
        for _, budget in sorted(budgets.items()):
            self._find_window(connection, budget, max(one.created_ms for one in wanted))

    def lock(self, connection: Connection, moved: Sequence[Reservation]) -> None:
        """Hold the windows that these move money in against other processes, in one order for all
        of them, so that no two wait for each other. SQLite has one writer anyhow."""
        budgets = {budget.id for one in moved for budget in one.budgets}
        if budgets and connection.dialect.name == "postgresql":
            held = select(WINDOWS.c.budget_id).where(WINDOWS.c.budget_id.in_(sorted(budgets)))
            ordered = held.order_by(WINDOWS.c.budget_id, WINDOWS.c.starts_ms)
            connection.execute(ordered.with_for_update()).all()

    def reserve(
        self, connection: Connection, wanted: Reservation
    ) -> tuple[Held, ...] | BudgetExceeded:
        """Hold the amount back from every budget, or from none: then what the caller is told."""
        held: list[Held] = []
        for budget in sorted(wanted.budgets, key=lambda one: one.id):
            if budget.id not in self._windows:  # somebody has just removed it
                continue
            part = Held(budget.id, self._windows[budget.id].starts_ms)
            if not self._hold.run(
                connection,
                {"of": part.budget_id, "since": part.starts_ms, "more": wanted.amount},
            ):
                if self._is_gone(connection, budget):
                    continue
                self._give_back(connection, held, wanted.amount)
                return _exceeded(budget)
            held.append(part)
        self._note.run_many(
            connection,
            [
                {
                    "request_id": wanted.id,
                    "budget_id": part.budget_id,
                    "starts_ms": part.starts_ms,
                    "process": self._process,
                    "amount": wanted.amount,
                    "created_ms": wanted.created_ms,
                }
                for part in held
            ],
        )
        return tuple(held)

    def settle(self, connection: Connection, wanted: Reservation, cost: int) -> None:
        """The request cost so much. Nothing is done where it is settled already, or holds nothing
        back: a commit whose answer was lost is written again."""
        found = self._forget.rows(connection, {"of_request": wanted.id})
        for budget_id, starts_ms, process, amount in found:
            # Whoever took this process for dead has charged all that it held.
            held, paid = (0, cost - amount) if process == WRITTEN_OFF else (amount, cost)
            self._release.run(
                connection, {"of": budget_id, "since": starts_ms, "held": held, "paid": paid}
            )

    def _give_back(self, connection: Connection, held: Iterable[Held], amount: int) -> None:
        for part in held:
            self._release.run(
                connection,
                {"of": part.budget_id, "since": part.starts_ms, "held": amount, "paid": 0},
            )

    def _find_window(self, connection: Connection, budget: Budget, now_ms: int) -> None:
        """The budget's window of now; never one before the newest, whatever the clock says."""
        newest = self._windows.get(budget.id) or self._read_newest(connection, budget)
        if newest is None or (newest.ends_ms is not None and newest.ends_ms <= now_ms):
            newest = window_of(budget.period, now_ms)
            if self._is_gone(connection, budget):
                return
            self._open_window.run(
                connection,
                {
                    "budget_id": budget.id,
                    "starts_ms": newest.starts_ms,
                    "ends_ms": newest.ends_ms,
                    "spent": 0,
                    "reserved": 0,
                },
            )
        self._windows[budget.id] = newest

    def _is_gone(self, connection: Connection, budget: Budget) -> bool:
        """Whether somebody has just removed it."""
        there = select(BUDGETS.c.id).where(BUDGETS.c.id == budget.id)
        return connection.execute(there).first() is None

    def _read_newest(self, connection: Connection, budget: Budget) -> Window | None:
        newest = (
            select(WINDOWS.c.starts_ms, WINDOWS.c.ends_ms)
            .where(WINDOWS.c.budget_id == budget.id)
            .order_by(WINDOWS.c.starts_ms.desc())
            .limit(1)
        )
        row = connection.execute(newest).first()
        return None if row is None else Window(row[0], row[1])

    def forget_windows(self) -> None:
        """A transaction failed: what it opened is not there."""
        self._windows.clear()


_ENDED = ("state", "tokens", "cost", "ended_ms", "status", "code")


def _exceeded(budget: Budget) -> BudgetExceeded:
    whose = "key" if budget.owner_kind == "key" else f"project {budget.owner!r}"
    until = {
        "day": "It starts anew at midnight UTC.",
        "month": "It starts anew with the next month, UTC.",
        "total": "It does not start anew.",
    }[budget.period]
    per = "" if budget.period == "total" else f" a {budget.period}"
    return BudgetExceeded(
        f"The budget of this {whose}, ${usd_text(budget.amount)}{per}, does not cover what this "
        f"request may cost besides what is spent and reserved. {until} Send less, or ask the "
        "gateway's operator for more."
    )
