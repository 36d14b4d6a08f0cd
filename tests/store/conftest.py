"""The databases that tests of the store run over: SQLite in a folder, and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from embedway.secret import Secret
from embedway.store.database import open_database
from tests.store.postgres_server import PostgresServer, require_postgres


@dataclass(frozen=True)
class Place:
    """Where one test's database is: a PostgreSQL's, or a file in *home*."""

    home: Path
    url: Secret | None

    @contextmanager
    def opened(self) -> Iterator[Engine]:
        """The database, closed at the end."""
        engine = open_database(self.home, self.url)
        try:
            yield engine
        finally:
            engine.dispose()


@pytest.fixture(scope="session")
def running_postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests; who stops or freezes it starts it again."""
    require_postgres()
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place without a database yet, of either kind."""
    if request.param == "sqlite":
        yield Place(tmp_path, None)
    else:
        with request.getfixturevalue("running_postgres").database() as url:
            yield Place(tmp_path, url)


@pytest.fixture
def engine(place: Place) -> Iterator[Engine]:
    """A fresh database of either kind."""
    with place.opened() as engine:
        yield engine


@contextmanager
def held(engine: Engine, table: str) -> Iterator[None]:
    """While another connection holds the lock that whoever writes to *table* needs."""
    with engine.connect() as other:
        if engine.dialect.name == "sqlite":
            other.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            other.execute(text(f"LOCK TABLE {table} IN EXCLUSIVE MODE"))
        yield
        other.commit()
