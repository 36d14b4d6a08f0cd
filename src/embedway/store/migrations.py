"""The schema's history: numbered functions, applied once each, never edited after a release.

They are written for SQLite and PostgreSQL alike.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, inspect, select, text

_LOCK = 0x656D62656477
"""Of PostgreSQL's advisory locks, which have numbers: "embedw"."""


class NewerDatabase(Exception):
    """The database is of a newer release. The message goes on where the database was named."""


def m001_keys_and_usage(connection: Connection) -> None:
    """The first tables."""
    connection.execute(
        text(
            "CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
            f"hash {_binary(connection)} NOT NULL, models TEXT, "
            "created_ms BIGINT NOT NULL, expires_ms BIGINT, "
            "revoked_ms BIGINT)"
        )
    )
    connection.execute(
        text(
            "CREATE TABLE usage (id TEXT PRIMARY KEY, created_ms BIGINT NOT NULL, "
            "key_id TEXT NOT NULL, model TEXT NOT NULL, provider TEXT, inputs INTEGER NOT NULL, "
            "tokens BIGINT NOT NULL CHECK (tokens >= 0), cost BIGINT NOT NULL CHECK (cost >= 0), "
            "market_cost BIGINT NOT NULL CHECK (market_cost >= 0), latency_ms INTEGER NOT NULL, "
            'status INTEGER NOT NULL, code TEXT, "user" TEXT, tags TEXT NOT NULL, trace TEXT, '
            "app TEXT, is_byok BOOLEAN NOT NULL)"
        )
    )
    connection.execute(text("CREATE INDEX usage_by_key ON usage (key_id)"))


def m002_projects_of_keys(connection: Connection) -> None:
    """Keys belong to a project; those that were there share one."""
    connection.execute(text("ALTER TABLE keys ADD COLUMN project TEXT NOT NULL DEFAULT 'default'"))


def m003_spaces_of_keys(connection: Connection) -> None:
    """A key may forbid fallbacks, or be pinned to one vector space."""
    connection.execute(
        text("ALTER TABLE keys ADD COLUMN allows_fallbacks BOOLEAN NOT NULL DEFAULT TRUE")
    )
    connection.execute(text("ALTER TABLE keys ADD COLUMN space TEXT"))


def m004_books_and_budgets(connection: Connection) -> None:
    """What keys may do besides; what attempts cost; how much may be spent, and by whom."""
    for column in (
        "providers TEXT",
        "ips TEXT",
        "requests_per_minute INTEGER CHECK (requests_per_minute >= 1)",
        "tokens_per_minute BIGINT CHECK (tokens_per_minute >= 1)",
        "concurrency INTEGER CHECK (concurrency >= 1)",
        "last_used_ms BIGINT",
    ):
        connection.execute(text(f"ALTER TABLE keys ADD COLUMN {column}"))
    for column in (
        "project TEXT NOT NULL DEFAULT 'default'",
        "space TEXT",
        "saved BIGINT NOT NULL DEFAULT 0 CHECK (saved >= 0)",
    ):
        connection.execute(text(f"ALTER TABLE usage ADD COLUMN {column}"))
    connection.execute(text("CREATE INDEX usage_by_time ON usage (created_ms)"))
    connection.execute(
        text(
            "CREATE TABLE attempts (id TEXT PRIMARY KEY, request_id TEXT NOT NULL, "
            "process TEXT NOT NULL, key_id TEXT NOT NULL, project TEXT NOT NULL, "
            "model TEXT NOT NULL, provider TEXT NOT NULL, inputs INTEGER NOT NULL, "
            "state TEXT NOT NULL CHECK (state IN ('reserved', 'settled', 'unbilled', 'unknown')), "
            "reserved_tokens BIGINT NOT NULL CHECK (reserved_tokens >= 0), "
            "reserved_cost BIGINT NOT NULL CHECK (reserved_cost >= 0), "
            "tokens BIGINT CHECK (tokens >= 0), cost BIGINT CHECK (cost >= 0), "
            "created_ms BIGINT NOT NULL, ended_ms BIGINT, status INTEGER, code TEXT)"
        )
    )
    connection.execute(
        text("CREATE INDEX attempts_open ON attempts (process) WHERE state = 'reserved'")
    )
    connection.execute(text("CREATE INDEX attempts_by_request ON attempts (request_id)"))
    connection.execute(
        text(
            "CREATE TABLE budgets (id TEXT PRIMARY KEY, "
            "owner_kind TEXT NOT NULL CHECK (owner_kind IN ('key', 'project')), "
            "owner TEXT NOT NULL, "
            "period TEXT NOT NULL CHECK (period IN ('day', 'month', 'total')), "
            "amount BIGINT NOT NULL CHECK (amount >= 0), created_ms BIGINT NOT NULL, "
            "UNIQUE (owner_kind, owner, period))"
        )
    )
    connection.execute(
        text(
            "CREATE TABLE windows (budget_id TEXT NOT NULL REFERENCES budgets (id), "
            "starts_ms BIGINT NOT NULL, ends_ms BIGINT, "
            "spent BIGINT NOT NULL DEFAULT 0 CHECK (spent >= 0), "
            "reserved BIGINT NOT NULL DEFAULT 0 CHECK (reserved >= 0), "
            "PRIMARY KEY (budget_id, starts_ms))"
        )
    )
    connection.execute(
        text(
            "CREATE TABLE reservations (request_id TEXT NOT NULL, budget_id TEXT NOT NULL, "
            "starts_ms BIGINT NOT NULL, process TEXT NOT NULL, "
            "amount BIGINT NOT NULL CHECK (amount >= 0), created_ms BIGINT NOT NULL, "
            "PRIMARY KEY (request_id, budget_id))"
        )
    )
    connection.execute(
        text("CREATE TABLE processes (id TEXT PRIMARY KEY, seen_ms BIGINT NOT NULL)")
    )


def m005_rotated_keys(connection: Connection) -> None:
    """A rotated key is known by its last text too, for a while."""
    connection.execute(text(f"ALTER TABLE keys ADD COLUMN previous_hash {_binary(connection)}"))
    connection.execute(text("ALTER TABLE keys ADD COLUMN previous_until_ms BIGINT"))


MIGRATIONS = (
    m001_keys_and_usage,
    m002_projects_of_keys,
    m003_spaces_of_keys,
    m004_books_and_budgets,
    m005_rotated_keys,
)


def migrate(connection: Connection) -> None:
    """Apply what is missing; what was applied stands in the table `migrations`.

    Raises NewerDatabase if something was applied that this release does not know.
    """
    if _applied(connection) >= set(range(1, len(MIGRATIONS) + 1)):
        return
    # Another process may be about to do the same: the lock lets one of them through, which then
    # looks again.
    _lock(connection)
    connection.execute(
        text("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT)")
    )
    applied = _applied(connection)
    for number, migration in enumerate(MIGRATIONS, 1):
        if number not in applied:
            migration(connection)
            connection.execute(
                text("INSERT INTO migrations (number, name) VALUES (:number, :name)"),
                {"number": number, "name": migration.__name__},
            )


def _applied(connection: Connection) -> set[int]:
    """The numbers of the migrations that were applied."""
    if not inspect(connection).has_table("migrations"):
        return set()
    applied = set(connection.execute(text("SELECT number FROM migrations")).scalars())
    newest = max(applied, default=0)
    if newest > len(MIGRATIONS):
        raise NewerDatabase(
            f"was changed by a newer release (migration {newest}; this one knows"
            f" {len(MIGRATIONS)}): update Embedway here as well"
        )
    return applied


def _lock(connection: Connection) -> None:
    """Wait for all others that migrate, until the end of the transaction."""
    if connection.dialect.name == "sqlite":
        # Without it each CREATE TABLE would also be a transaction of its own.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def _binary(connection: Connection) -> str:
    """The type of a column of bytes."""
    return "BLOB" if connection.dialect.name == "sqlite" else "BYTEA"
