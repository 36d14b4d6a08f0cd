"""What is left of gateways that died: their attempts and reservations.

Each gateway says that it lives every few seconds. What a dead one had under way may have been
billed: it is charged as reserved, and its attempts are listed as `unknown`.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from embedway.store.database import ATTEMPTS, PROCESSES, RESERVATIONS, WINDOWS, WRITTEN_OFF

BEAT_S = 5.0
"""How often a gateway says that it lives."""
DEAD_AFTER_S = 30.0
"""How long after the last time it is taken for dead."""
_REMEMBERED_MS = 24 * 3600 * 1000
"""How long it is known what was charged of one that was dead: it may have been slow only, and then
says what its requests truly cost."""


def beat(connection: Connection, process: str, now_ms: int) -> None:
    """This process lives."""
    alive = update(PROCESSES).where(PROCESSES.c.id == process).values(seen_ms=now_ms)
    if not connection.execute(alive).rowcount:
        connection.execute(insert(PROCESSES).values(id=process, seen_ms=now_ms))


def leave(connection: Connection, process: str) -> None:
    """This process has ended well: nothing of it is under way."""
    connection.execute(delete(PROCESSES).where(PROCESSES.c.id == process))


def sweep(connection: Connection, now_ms: int) -> int:
    """Charge what dead processes had under way; returns how many attempts that were."""
    oldest = now_ms - int(DEAD_AFTER_S * 1000)
    alive = select(PROCESSES.c.id).where(PROCESSES.c.seen_ms >= oldest)
    _charge(connection, RESERVATIONS.c.process.not_in(alive))
    lost = connection.execute(
        update(ATTEMPTS)
        .where(ATTEMPTS.c.state == "reserved", ATTEMPTS.c.process.not_in(alive))
        .values(
            state="unknown",
            tokens=ATTEMPTS.c.reserved_tokens,
            cost=ATTEMPTS.c.reserved_cost,
            ended_ms=now_ms,
            code="lost",
        )
    ).rowcount
    connection.execute(delete(PROCESSES).where(PROCESSES.c.seen_ms < oldest))
    connection.execute(
        delete(RESERVATIONS).where(
            RESERVATIONS.c.process == WRITTEN_OFF,
            RESERVATIONS.c.created_ms < now_ms - _REMEMBERED_MS,
        )
    )
    return lost


def _charge(connection: Connection, is_lost: ColumnElement[bool]) -> None:
    lost = connection.execute(
        update(RESERVATIONS)
        .where(is_lost, RESERVATIONS.c.process != WRITTEN_OFF)
        .values(process=WRITTEN_OFF)
        .returning(RESERVATIONS.c.budget_id, RESERVATIONS.c.starts_ms, RESERVATIONS.c.amount)
    ).all()
    for budget_id, starts_ms, amount in sorted(map(tuple, lost)):
        connection.execute(
            update(WINDOWS)
            .where(WINDOWS.c.budget_id == budget_id, WINDOWS.c.starts_ms == starts_ms)
            .values(reserved=WINDOWS.c.reserved - amount, spent=WINDOWS.c.spent + amount)
        )
