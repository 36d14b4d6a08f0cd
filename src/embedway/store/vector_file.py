"""The file of cached vectors: opened, watched, and begun anew when it is damaged.

It is a cache, so that no trouble with it is worth a repair: a file that is no database, holds
malformed pages or another schema is set aside as `<name>.damaged`.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from embedway.clock import Clock
from embedway.store.vector_rows import SCHEMA
from embedway.store.vector_trouble import (
    TROUBLE,
    Complaints,
    OtherSchema,
    is_busy,
    is_damage,
)

_VERSION = 1
_LOOK_EVERY_S = 1.0
"""How often it is looked whether the path still leads to the open file."""
_WAL_BYTES = 8 * 2**20
"""What is left of the write-ahead log after a burst."""
_HARD_STOP = 9 / 8
"""Of the bound: eviction keeps that; this stops the file should eviction ever fail to."""
_LEAST_PAGES = 64
"""The empty schema has some ten."""

T = TypeVar("T")


class VectorFile:
    """One thread's connection to the file. Blocking; `run` raises sqlite3.Error and OSError.

    *lock* is shared by those of one process that may make the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        busy_timeout_s: float,
        clock: Clock,
        lock: threading.Lock,
        complain: Complaints,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._busy_timeout_s = busy_timeout_s
        self._clock = clock
        self._lock = lock
        self._complain = complain
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._looked_at = 0.0

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do *work*; once more if it failed and the cause is gone."""
        try:
            return work(self._open())
        except TROUBLE as error:
            if is_busy(error) or not self._heal(error):
                raise
        return work(self._open())

    def _open(self) -> sqlite3.Connection:
        """The connection; a new one if the file was deleted, set aside or never opened."""
        now = self._clock.monotonic()
        if self._connection is not None and now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            if self._is_elsewhere():
                self.close()
        if self._connection is None:
            self._looked_at = now
            with self._lock:
                self._connection = self._connect()
        return self._connection

    def _heal(self, error: Exception) -> bool:
        """Begin anew in whichever way *error* asks for; returns whether another try may help."""
        self.close()
        with self._lock:
            # Another thread or process may have been faster, and its new file is whole.
            if self._is_elsewhere():
                return True
            if not is_damage(error):
                return False
            self._path.replace(damaged(self._path))
        self._complain("read_error", error, " and was begun anew")
        return True

    def _is_elsewhere(self) -> bool:
        """Whether the path leads to another file than the one last opened, or to none."""
        return _identity(self._path) != self._identity

    def close(self) -> None:
        """Let go; the next use opens again. SQLite itself takes care not to touch the log of
        another file that has taken the place of this one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def forget_damaged(self) -> None:
        """Delete what was set aside: it may hold what is purged, and cannot be searched."""
        damaged(self._path).unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        _make(self._path)
        self._identity = _identity(self._path)
        # Never made here, for it would get the permissions of a public file.
        connection = sqlite3.connect(
            self._path.absolute().as_uri() + "?mode=rw",
            uri=True,
            timeout=self._busy_timeout_s,
            isolation_level=None,
        )
        # A damaged name must not become a UnicodeDecodeError.
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        try:
            # Readers run beside the writer; NORMAL keeps every commit when the process is killed,
            # and a whole file when the machine is (https://sqlite.org/wal.html).
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # Another process is making a new file a WAL file; SQLite does not wait for that.
            if not is_busy(error):
                raise
        connection.execute("PRAGMA synchronous=NORMAL")
        # What is deleted is filled with zeros, since a vector tells much of its text; measured, it
        # costs nothing beside the rest of a write.
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        pages = max(_LEAST_PAGES, int(self._max_bytes * _HARD_STOP) // page_bytes)
        connection.execute(f"PRAGMA max_page_count={pages}")
        if _version(connection) != _VERSION:
            _make_tables(connection)


def damaged(path: Path) -> Path:
    """Where the file is set aside to; an earlier one is replaced."""
    return path.with_name(path.name + ".damaged")


def _make(path: Path) -> None:
    """An empty file that only its owner may read, unless there is a file.

    Made under another name and linked: closing a descriptor of the file itself would release the
    locks that other connections of this process hold on it
    (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for suffix in ("-wal", "-shm"):
        # Of a file that was deleted or set aside: it must not be taken for the new one's.
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=path.name + "-", dir=path.parent)
    try:
        os.close(descriptor)
        with suppress(FileExistsError):  # another process was faster
            os.link(draft, path)
    finally:
        os.unlink(draft)


def _make_tables(connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection)  # another process may have been faster
        if version == _VERSION:
            return
        if connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
            raise OtherSchema(f"it holds schema {version}")
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
