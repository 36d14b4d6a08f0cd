"""What can go wrong with the file of cached vectors, and how it is told."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Literal

from embedway.cached import CacheEvent, CountCache
from embedway.clock import Clock

TROUBLE = (sqlite3.Error, OSError)

_EVERY_S = 1.0
_DAMAGES = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_TOOBIG,
    # Our statements are right and break no constraint: tables or rows are not what we made.
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
}
_log = logging.getLogger("embedway.vectors")


class OtherSchema(sqlite3.DatabaseError):
    """A database, but not one that this version made."""


def is_damage(error: Exception) -> bool:
    """Whether the file is to be begun anew."""
    return isinstance(error, OtherSchema) or _code(error) in _DAMAGES


def is_busy(error: Exception) -> bool:
    """Whether somebody else holds a lock; nothing is wrong with the file."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_full(error: Exception) -> bool:
    """Whether there is no room."""
    return _code(error) == sqlite3.SQLITE_FULL


def _code(error: Exception) -> int | None:
    """SQLite's number for the kind of *error*, without the details in its upper bytes."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def named(error: Exception) -> str:
    """What went wrong, without any data."""
    name = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None)
    return str(name or type(error).__name__)


class Complaints:
    """Counts each failure, and tells of each kind once a second: a full disk fails thousands of
    times. Usable by any thread."""

    def __init__(self, path: Path, clock: Clock, count: CountCache) -> None:
        self._path = path
        self._clock = clock
        self._count = count
        self._told_at: dict[CacheEvent, float] = {}

    def __call__(
        self, event: Literal["read_error", "write_error"], error: Exception, end: str = ""
    ) -> None:
        """One call failed."""
        self._count(event, 1)
        verb = "read" if event == "read_error" else "written"
        self._tell(event, f"could not be {verb}: {named(error)}{end}")

    def damaged(self, vectors: int) -> None:
        """So many stored values were not what was stored."""
        self._count("damaged", vectors)
        self._tell("damaged", f"holds damaged vectors, {vectors} of them found just now")

    def _tell(self, event: CacheEvent, what: str) -> None:
        now = self._clock.monotonic()
        if now - self._told_at.get(event, -_EVERY_S) >= _EVERY_S:
            self._told_at[event] = now
            _log.warning("%s %s", self._path, what)
