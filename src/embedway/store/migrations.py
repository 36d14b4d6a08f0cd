"""The schema's history: numbered functions, applied once each, never edited after a release."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text


def m001_keys_and_usage(connection: Connection) -> None:
    """The first tables."""
    connection.execute(
        text(
            "CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
            "hash BLOB NOT NULL, models TEXT, created_ms BIGINT NOT NULL, expires_ms BIGINT, "
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
        text("ALTER TABLE keys ADD COLUMN allows_fallbacks BOOLEAN NOT NULL DEFAULT 1")
    )
    connection.execute(text("ALTER TABLE keys ADD COLUMN space TEXT"))


MIGRATIONS = (m001_keys_and_usage, m002_projects_of_keys, m003_spaces_of_keys)


def migrate(connection: Connection) -> None:
    """Apply what is missing; what was applied stands in the table `migrations`."""
    if _applied(connection) >= set(range(1, len(MIGRATIONS) + 1)):
        return
    # Another process may be about to do the same: the write lock lets one of them through, which
    # then looks again. Without it each CREATE TABLE would also be a transaction of its own.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
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
    return set(connection.execute(text("SELECT number FROM migrations")).scalars())
