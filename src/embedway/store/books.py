"""The usage book: one row for each request of a caller.

`add` only appends to a queue. One thread writes what gathers within a moment in one transaction, so
that a commit is shared and the thread wakes once for many lines; whoever reads waits for the lines
before him and cuts that moment short.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from itertools import chain
from typing import Any, Protocol

import orjson
from sqlalchemy import Engine, Select, func, insert, select
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from embedway.ledger import UsageLine
from embedway.store.database import USAGE
from embedway.store.transactions import reading
from embedway.store.usage_rows import usage_values

_LINES_PER_COMMIT = 1000
_ROWS_AT_ONCE = 999 // len(USAGE.columns)
"""Rows of one statement, where so many wait. For each statement the driver lets go of the
interpreter and has to wait for it again. SQLite binds 999 values at least
(https://sqlite.org/limits.html)."""
_LIFE_SIGN_S = 1.0
_GATHER_S = 0.02
"""How long the writer waits for more lines: what a killed process may lose of this book."""
_NO_ROW_TO_BLAME = (OperationalError, InternalError, NoConnectionFree)
"""Locked for long, a full disk, a server that is away or may only be read: true of all rows."""
_RETRY_S = 1.0
_MOST_OWED = 100_000
"""Lines kept while the database is away: about 60 MB."""
_log = logging.getLogger("embedway.books")


class PaidLines(Protocol):
    """Where lines of requests that were paid go."""

    def add(self, line: UsageLine) -> None:
        """Write it soon. Never blocks, never fails."""
        ...

    def flush(self) -> None:
        """Wait until what was added before is written, or cannot be."""
        ...


class UsageBook:
    """Keeps usage lines. `close()` writes what is left.

    paid: takes the lines of requests that were paid, to be written with their attempts.
    """

    def __init__(self, engine: Engine, paid: PaidLines | None = None) -> None:
        self._engine, self._paid = engine, paid
        # Written as the driver takes it: SQLAlchemy's own way through an insert costs more than the
        # rest of the writing, and while it runs no request does.
        self._insert = str(insert(USAGE).compile(engine))
        row = self._insert.rpartition(" VALUES ")[2]
        self._insert_many = self._insert + f", {row}" * (_ROWS_AT_ONCE - 1)
        self._lines: deque[UsageLine] = deque()
        self._readers: deque[threading.Event] = deque()
        self._work = threading.Event()
        """There is something to write."""
        self._haste = threading.Event()
        """Somebody waits for it."""
        self._owed: list[tuple[Any, ...]] = []
        """Rows that wait for a database which is away. Only the thread touches them."""
        self._is_closed = False
        self.lost = 0
        """Lines that could not be written."""
        self._writer = threading.Thread(target=self._write_all, name="embedway-books", daemon=True)
        self._writer.start()

    def add(self, line: UsageLine) -> None:
        """Write *line* soon. Never blocks, never fails."""
        if line.cost and self._paid is not None:
            self._paid.add(line)
            return
        self._lines.append(line)
        if not self._work.is_set():  # waking the thread for every line would cost more than it does
            self._work.set()

    def find(self, id: str) -> UsageLine | None:
        """The line of that id. Blocking. Raises StoreError."""
        rows = self._read(select(USAGE).where(USAGE.c.id == id))
        return _line(rows[0]) if rows else None

    def last_error(self, provider: str) -> UsageLine | None:
        """The newest request that this account failed. Blocking. Raises StoreError."""
        failed = (USAGE.c.provider == provider) & USAGE.c.code.is_not(None)
        rows = self._read(select(USAGE).where(failed).order_by(USAGE.c.created_ms.desc()).limit(1))
        return _line(rows[0]) if rows else None

    def total_cost(self, key_id: str) -> int:
        """Picodollars billed to a key so far. Blocking. Raises StoreError."""
        total = func.sum(USAGE.c.cost).label("total")
        return int(self._read(select(total).where(USAGE.c.key_id == key_id))[0]["total"] or 0)

    def _read(self, statement: Select[Any]) -> list[dict[str, Any]]:
        self.flush()
        with reading(self._engine, "the usage book") as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def flush(self) -> None:
        """Wait until every line added before this call is written."""
        if self._paid is not None:
            self._paid.flush()
        done = threading.Event()
        self._readers.append(done)
        self._haste.set()
        self._work.set()
        while not done.wait(_LIFE_SIGN_S) and self._writer.is_alive():
            pass

    def close(self) -> None:
        """Write what is left and stop the thread."""
        self._is_closed = True
        self._haste.set()
        self._work.set()
        self._writer.join()

    def _write_all(self) -> None:
        is_open = True
        while is_open:
            self._work.wait(_RETRY_S if self._owed else None)
            self._haste.wait(_GATHER_S)
            # Cleared before anything is looked at: what comes from here on sets them again.
            self._work.clear()
            self._haste.clear()
            is_open = not self._is_closed
            readers = [self._readers.popleft() for _ in range(len(self._readers))]
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            owed, self._owed = self._owed, []
            rows = owed + [usage_values(line) for line in lines]
            for start in range(0, len(rows), _LINES_PER_COMMIT):
                self._write(rows[start : start + _LINES_PER_COMMIT])
            for reader in readers:
                reader.set()

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        try:
            with self._engine.begin() as connection:
                full = len(rows) - len(rows) % _ROWS_AT_ONCE
                for start in range(0, full, _ROWS_AT_ONCE):
                    values = tuple(chain.from_iterable(rows[start : start + _ROWS_AT_ONCE]))
                    connection.exec_driver_sql(self._insert_many, values)
                if full < len(rows):
                    connection.exec_driver_sql(self._insert, rows[full:])
        except _NO_ROW_TO_BLAME as error:
            self._keep(rows, error)
        except Exception as error:  # whatever it is, the thread must live on
            if len(rows) == 1:
                self._lose(rows, error)
                return
            for row in rows:  # one bad row must not take the others with it
                self._write([row])

    def _keep(self, rows: list[tuple[Any, ...]], error: Exception) -> None:
        """For when the database is back; what is more than can be kept is lost."""
        room = 0 if self._is_closed else _MOST_OWED - len(self._owed)
        if not self._owed and room:
            _log.warning("usage lines wait to be written: %s", type(error).__name__)
        self._owed += rows[:room]
        if rows[room:]:
            self._lose(rows[room:], error)

    def _lose(self, rows: list[tuple[Any, ...]], error: Exception) -> None:
        self.lost += len(rows)
        _log.error("%d usage lines were not written: %s", len(rows), type(error).__name__)


def _line(row: dict[str, Any]) -> UsageLine:
    return UsageLine(**{**row, "tags": tuple(orjson.loads(row["tags"]))})
