"""PostgreSQL: connections on which every wait has an end.

A server that is frozen or cut off looks like one that thinks: the kernel still acknowledges what it
is sent. So the client watches the time of each answer, besides the limits that the server keeps.
"""

from __future__ import annotations

import re
from typing import Any

from psycopg import Connection, OperationalError, ProgrammingError
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, create_engine

from embedway.secret import Secret
from embedway.wrong_settings import SettingsError

_CONNECT_S = 2
"""For each address that the host has; the driver takes no less."""
_GRACE_S = 0.5
"""The server gives up that much before us, so that the connection is kept."""
_FREE_S = 1.0
"""How long to wait for one of our connections."""
_CONNECTIONS, _MORE = 5, 10
"""Kept open, and opened besides when all are in use."""
_IDLE_S = 10
"""A gateway that freezes within a transaction must not keep its locks for longer."""
_HOST = re.compile(r"[A-Za-z0-9._:%\[\]-]*|/[^@]*")


class BoundedConnection(Connection[Any]):
    """A connection that is closed when an answer takes too long."""

    answer_s: float
    """How long one may take, in seconds."""

    def wait(self, gen: PQGen[Any], *args: Any, **options: Any) -> Any:
        """Wait for what *gen* asks of the server. Raises OperationalError when time is over."""
        try:
            return super().wait(gen, *args, **{"timeout": self.answer_s, **options})
        except OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # the answer may still come, and would be taken for the next one
                raise OperationalError(f"no answer within {self.answer_s:g} s") from None
            raise


def open_postgres(url: Secret, answer_s: float) -> Engine:
    """An engine that has not connected yet. Raises SettingsError.

    answer_s: how long PostgreSQL may take for one statement, in seconds.
    """
    parameters = _parameters(url)

    def connect() -> BoundedConnection:
        connection = BoundedConnection.connect(
            autocommit=True,
            prepare_threshold=None,  # statements that a pooler between us would not know
            **parameters,
        )
        connection.answer_s = answer_s
        # Here, not among the options of the connection, which a pooler may refuse.
        connection.execute(
            "SELECT set_config('statement_timeout', %s, false),"
            " set_config('idle_in_transaction_session_timeout', %s, false)",
            (f"{int((answer_s - _GRACE_S) * 1000)}ms", f"{_IDLE_S}s"),
        )
        connection.autocommit = False
        return connection

    return create_engine(
        "postgresql+psycopg://",
        creator=connect,
        paramstyle="format",  # by position, as SQLite's
        use_native_hstore=False,  # saves looking for it
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=_CONNECTIONS,
        max_overflow=_MORE,
        pool_timeout=_FREE_S,
    )


def _parameters(url: Secret) -> dict[str, Any]:
    """What the URL says, under libpq's names. Raises SettingsError."""
    try:
        given = conninfo_to_dict(url.reveal())
    except ProgrammingError:  # its words may repeat the password
        given = {}
    if not url.reveal().startswith(("postgresql://", "postgres://")) or not _is_whole(given):
        raise SettingsError(
            "database_url: not a URL of a PostgreSQL, such as"
            " postgresql://USER:PASSWORD@HOST:5432/DATABASE (special characters of the password as"
            " in any URL, @ as %40)"
        )
    return {"fallback_application_name": "embedway", "connect_timeout": _CONNECT_S, **given}


def _is_whole(given: dict[str, Any]) -> bool:
    """Whether no part of a password landed elsewhere, and from there in messages, because a "@",
    "/" or ":" in it was not escaped."""
    hosts = str(given.get("host") or "").split(",")
    ports = str(given.get("port") or "5432").split(",")
    return (
        bool(given)
        and all(_HOST.fullmatch(host) for host in hosts)
        and all(port.isascii() and port.isdigit() for port in ports)
        and "@" not in str(given.get("dbname") or "")
    )
