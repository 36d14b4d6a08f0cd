"""The one database: SQLite in the home folder. Engine, tables, and the settings of SQLite."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.exc import SQLAlchemyError

from embedway.store.migrations import migrate

METADATA = MetaData()

KEYS = Table(
    "keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("models", Text),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
    Column("project", Text, nullable=False),
    Column("allows_fallbacks", Boolean, nullable=False),
    Column("space", Text),
)

USAGE = Table(
    "usage",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text),
    Column("inputs", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("market_cost", BigInteger, nullable=False),
    Column("latency_ms", Integer, nullable=False),
    Column("status", Integer, nullable=False),
    Column("code", Text),
    Column("user", Text),
    Column("tags", Text, nullable=False),
    Column("trace", Text),
    Column("app", Text),
    Column("is_byok", Boolean, nullable=False),
    Index("usage_by_key", "key_id"),
)


class StoreError(Exception):
    """The database cannot be used. The message says what to do; it holds no data."""


def open_database(home: Path) -> Engine:
    """Open `embedway.db` in *home*, made and migrated as needed. Raises StoreError."""
    path = home / "embedway.db"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"the folder {home} cannot be made ({error.strerror}); set EMBEDWAY_HOME to another"
        ) from None
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", _set_up)
    try:
        with engine.begin() as connection:
            migrate(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        cause = getattr(error, "orig", None) or error
        raise StoreError(
            f"{path} cannot be used: {cause}. Move it away, or set EMBEDWAY_HOME to another folder"
        ) from None
    return engine


def _set_up(connection: Any, _: object) -> None:
    # WAL lets readers and the writer work side by side; NORMAL keeps every committed row when the
    # process is killed (https://sqlite.org/wal.html). Another process, such as the command line,
    # may hold the write lock for a moment.
    for pragma in ("busy_timeout=5000", "journal_mode=WAL", "synchronous=NORMAL"):
        try:
            connection.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            # A new file, and another process is making it a WAL file this moment; SQLite does not
            # wait for that. The mode is the file's, so that it holds here as well.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
