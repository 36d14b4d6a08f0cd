"""The one database: SQLite in the home folder, or a PostgreSQL. Engine, tables, and the settings of
SQLite; those of PostgreSQL are in `postgres.py`."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import SQLAlchemyError

from embedway.secret import Secret
from embedway.store.migrations import NewerDatabase, migrate
from embedway.wrong_settings import SettingsError

ANSWER_S = 3.0
"""How long PostgreSQL may take for one statement of a running gateway."""
_MIGRATION_S = 600.0
"""And for one of a migration, which may build an index, or wait for another process that does."""

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
    Column("providers", Text),
    Column("ips", Text),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", BigInteger),
    Column("concurrency", Integer),
    Column("last_used_ms", BigInteger),
    Column("previous_hash", LargeBinary),
    Column("previous_until_ms", BigInteger),
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
    Column("project", Text, nullable=False),
    Column("space", Text),
    Column("saved", BigInteger, nullable=False),
    Index("usage_by_key", "key_id"),
    Index("usage_by_time", "created_ms"),
)

_IS_OPEN = text("state = 'reserved'")

ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("inputs", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reserved_tokens", BigInteger, nullable=False),
    Column("reserved_cost", BigInteger, nullable=False),
    Column("tokens", BigInteger),
    Column("cost", BigInteger),
    Column("created_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("status", Integer),
    Column("code", Text),
    Index("attempts_by_request", "request_id"),
    Index("attempts_open", "process", sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN),
)

BUDGETS = Table(
    "budgets",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("owner_kind", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    UniqueConstraint("owner_kind", "owner", "period"),
)

WINDOWS = Table(
    "windows",
    METADATA,
    Column("budget_id", Text, primary_key=True),
    Column("starts_ms", BigInteger, primary_key=True),
    Column("ends_ms", BigInteger),
    Column("spent", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
)
"""What was spent of a budget, and what is reserved of it, in each of its periods. A total budget
has one window without an end."""

RESERVATIONS = Table(
    "reservations",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("budget_id", Text, primary_key=True),
    Column("starts_ms", BigInteger, nullable=False),
    Column("process", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)
"""What the requests under way have reserved, so that it is not lost with the process; and what was
charged of one that was taken for dead."""

WRITTEN_OFF = ""
"""In place of the process of such a reservation."""

PROCESSES = Table(
    "processes",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("seen_ms", BigInteger, nullable=False),
)
"""The gateways that write to this database, and when each last said so."""


Database = Engine
"""What others hold of an open database, without knowing SQLAlchemy."""


class StoreError(Exception):
    """The database cannot be used. The message says what to do; it holds no data."""


def open_database(home: Path, url: Secret | None = None, *, answer_s: float = ANSWER_S) -> Engine:
    """Open the PostgreSQL of *url*, else `embedway.db` in *home*; migrated as needed.

    home: made if it is missing. answer_s: how long PostgreSQL may take for one statement, in
    seconds; SQLite has no such limit.
    Raises StoreError, or SettingsError if the URL is wrong or the package for it is missing.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"the folder {home} cannot be made ({error.strerror}); set EMBEDWAY_HOME to another"
        ) from None
    if url is not None:
        return _open_server(url, answer_s)
    path = home / "embedway.db"
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", _set_up)
    advice = "Move it away, or set EMBEDWAY_HOME to another folder"
    try:
        _migrate(engine, str(path), advice)
    except StoreError:
        engine.dispose()
        raise
    return engine


def _open_server(url: Secret, answer_s: float) -> Engine:
    try:
        from embedway.store.postgres import open_postgres
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise SettingsError(
            "database_url needs a package more: pip install 'embedway[postgres]'"
        ) from None
    place = "the database of database_url"
    advice = "Check the URL, and that PostgreSQL runs and lets this machine in"
    patient = open_postgres(url, _MIGRATION_S)
    try:
        _migrate(patient, place, advice)
    finally:
        patient.dispose()
    return open_postgres(url, answer_s)


def _migrate(engine: Engine, place: str, advice: str) -> None:
    try:
        with engine.begin() as connection:
            _refuse_encoding(connection, place)
            migrate(connection)
    except NewerDatabase as error:
        raise StoreError(f"{place} {error}") from None
    except SQLAlchemyError as error:
        raise StoreError(f"{place} cannot be used: {reason(error)}. {advice}") from None


def _refuse_encoding(connection: Connection, place: str) -> None:
    """A PostgreSQL that takes not every text would lose lines of the books."""
    if connection.dialect.name == "sqlite":
        return
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise StoreError(f"{place} has the encoding {encoding}; make one with ENCODING 'UTF8'")


def reason(error: SQLAlchemyError) -> str:
    """What the driver says, in one line: those that follow may hold values of a row."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


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
