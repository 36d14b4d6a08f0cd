"""Statements made once, as their driver takes them: SQLAlchemy's own way through each of them costs
more than the database does, and while it runs no request does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, UpdateBase


class Prepared:
    """One statement for one engine."""

    def __init__(self, engine: Engine, statement: UpdateBase) -> None:
        compiled: Any = statement.compile(engine)
        self._sql = str(compiled)
        self._order: tuple[str, ...] | None = None
        if compiled.positional:
            self._order = tuple(compiled.positiontup)
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Run it once; the number of rows it met."""
        return connection.exec_driver_sql(self._sql, self._bound(values)).rowcount

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Any]:
        """Run it once; what it returns."""
        return connection.exec_driver_sql(self._sql, self._bound(values)).all()

    def run_many(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run it for each of these."""
        bound = [self._bound(row) for row in rows]
        if bound:
            connection.exec_driver_sql(self._sql, bound)

    def _bound(self, values: Mapping[str, Any]) -> Any:
        given = {**self._fixed, **values}
        return given if self._order is None else tuple([given[name] for name in self._order])
