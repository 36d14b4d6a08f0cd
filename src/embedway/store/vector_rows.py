"""The tables of cached vectors, and the statements that read and change them.

All of them block, and raise sqlite3.Error. Changes are made in runs of bounded size, each a
transaction of its own, so that other processes get their turn and the write-ahead log stays small.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from embedway.cached import Group, Key, Label, Selection

SCHEMA = (
    """CREATE TABLE labels (
        id INTEGER PRIMARY KEY,
        model TEXT NOT NULL, space TEXT NOT NULL, project TEXT NOT NULL,
        UNIQUE (model, space, project))""",
    """CREATE TABLE vectors (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        label INTEGER NOT NULL,
        created_s INTEGER NOT NULL, used_s INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        value BLOB NOT NULL)""",
    "CREATE INDEX vectors_by_use ON vectors (used_s)",
    "CREATE INDEX vectors_by_creation ON vectors (created_s)",
    "CREATE INDEX vectors_by_label ON vectors (label, bytes)",  # the sums are read from it alone
    # AUTOINCREMENT: the id of a deleted row is never given again.
    """CREATE TABLE purges (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        model TEXT, space TEXT, project TEXT, at_s INTEGER NOT NULL)""",
)

_KEYS_PER_SELECT = 500
_ROWS_PER_DELETE = 500
_PURGES_KEPT_S = 86_400


class Row(NamedTuple):
    """A vector as it was found, not yet checked."""

    id: int
    key: Key
    used_s: object
    value: object


class NewRow(NamedTuple):
    """A vector to be kept."""

    label: Label
    key: Key
    created_s: int
    value: bytes


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    with connection:
        # IMMEDIATE waits for its turn; a read that becomes a write would fail at once.
        connection.execute("BEGIN IMMEDIATE")
        yield


def find(connection: sqlite3.Connection, keys: Sequence[Key]) -> list[Row]:
    """The rows of those keys that are there."""
    found: list[Row] = []
    for start in range(0, len(keys), _KEYS_PER_SELECT):
        run = keys[start : start + _KEYS_PER_SELECT]
        marks = ",".join("?" * len(run))
        found += map(
            Row._make,
            connection.execute(
                f"SELECT id, key, used_s, value FROM vectors WHERE key IN ({marks})", run
            ),
        )
    return found


def write(
    connection: sqlite3.Connection, rows: Sequence[NewRow], used: Iterable[int], now_s: int
) -> None:
    """Keep *rows*, in place of what their keys had; the rows of the ids *used* are in use."""
    with _transaction(connection):
        connection.executemany(
            "UPDATE vectors SET used_s = ? WHERE id = ?", [(now_s, id) for id in used]
        )
        # Looked up each time: a purge elsewhere may have deleted a label.
        labels = {label: _label_id(connection, label) for label in {row.label for row in rows}}
        connection.executemany(
            "INSERT OR REPLACE INTO vectors (key, label, created_s, used_s, bytes, value)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (row.key, labels[row.label], row.created_s, now_s, len(row.value), row.value)
                for row in rows
            ],
        )


def _label_id(connection: sqlite3.Connection, label: Label) -> int:
    parts = (label.model, label.space, label.project)
    connection.execute(
        "INSERT OR IGNORE INTO labels (model, space, project) VALUES (?, ?, ?)", parts
    )
    (id,) = connection.execute(
        "SELECT id FROM labels WHERE model = ? AND space = ? AND project = ?", parts
    ).fetchone()
    return int(id)


def delete_damaged(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Delete *rows*. What has been overwritten since has got another id."""
    with _transaction(connection):
        connection.executemany("DELETE FROM vectors WHERE id = ?", [(row.id,) for row in rows])


def live_bytes(connection: sqlite3.Connection) -> int:
    """What the file holds, without the pages that are free to be used again."""
    pages, free, page_bytes = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page_bytes)


def evict(connection: sqlite3.Connection, target_bytes: int) -> int:
    """Delete the least recently used rows until no more than *target_bytes* are live; returns how
    many."""
    evicted = 0
    while (surplus := live_bytes(connection) - target_bytes) > 0:
        with _transaction(connection):
            oldest = connection.execute(
                "SELECT id, bytes FROM vectors ORDER BY used_s, id LIMIT ?", (_ROWS_PER_DELETE,)
            ).fetchall()
            chosen = []
            for id, size in oldest:
                if surplus <= 0:
                    break
                chosen.append((id,))
                surplus -= size
            connection.executemany("DELETE FROM vectors WHERE id = ?", chosen)
        evicted += len(chosen)
        if not chosen:
            break
    return evicted


def expire(connection: sqlite3.Connection, until_s: float) -> None:
    """Delete what was created until then."""
    _delete_all(connection, "created_s <= ?", until_s)


def purge(connection: sqlite3.Connection, selection: Selection, now_s: float) -> int:
    """Delete what is meant, and note it for other processes; returns how many vectors it was."""
    with _transaction(connection):
        connection.execute("DELETE FROM purges WHERE at_s < ?", (now_s - _PURGES_KEPT_S,))
        # Not below the time: were the file begun anew, its marks must not begin below those that
        # other processes hold.
        connection.execute(
            "INSERT INTO purges (id, model, space, project, at_s) VALUES (max(?, ?), ?, ?, ?, ?)",
            (
                int(now_s * 1000),
                _newest_purge(connection) + 1,
                selection.model,
                selection.space,
                selection.project,
                int(now_s),
            ),
        )
    labels = connection.execute("SELECT id, model, space, project FROM labels").fetchall()
    deleted = 0
    for id, *parts in labels:
        if selection.holds(Label(*parts)):
            deleted += _delete_all(connection, "label = ?", id)
            connection.execute(
                "DELETE FROM labels WHERE id = ?"
                " AND NOT EXISTS (SELECT 1 FROM vectors WHERE label = labels.id)",
                (id,),
            )
    # Until then the log, and the pages it has not replaced yet, hold what was deleted.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return deleted


def _delete_all(connection: sqlite3.Connection, condition: str, value: float) -> int:
    deleted = 0
    while True:
        with _transaction(connection):
            count = connection.execute(
                "DELETE FROM vectors WHERE id IN"
                f" (SELECT id FROM vectors WHERE {condition} LIMIT {_ROWS_PER_DELETE})",
                (value,),
            ).rowcount
        deleted += count
        if count < _ROWS_PER_DELETE:
            return deleted


def purged_since(connection: sqlite3.Connection, mark: int) -> tuple[int, list[Selection]]:
    """See VectorStore."""
    if mark < 0:
        return _newest_purge(connection), []
    rows = connection.execute(
        "SELECT id, model, space, project FROM purges WHERE id > ? ORDER BY id", (mark,)
    ).fetchall()
    newest = rows[-1][0] if rows else mark
    return newest, [Selection(model=row[1], space=row[2], project=row[3]) for row in rows]


def _newest_purge(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'purges'").fetchone()
    return int(row[0]) if row else 0


def groups(connection: sqlite3.Connection) -> list[Group]:
    """How many vectors and bytes each label has."""
    rows = connection.execute(
        "SELECT model, space, project, count(*), sum(bytes) FROM vectors"
        " JOIN labels ON labels.id = label GROUP BY label"
    ).fetchall()
    return [Group(Label(*parts), vectors, size) for *parts, vectors, size in rows]


def last_id(connection: sqlite3.Connection) -> int:
    """The id of the newest row."""
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM vectors").fetchone()[0])


def page_after(
    connection: sqlite3.Connection, id: int, last: int, rows: int
) -> list[tuple[Row, Label]]:
    """The next *rows* behind *id* up to *last*, by id."""
    found = connection.execute(
        "SELECT vectors.id, key, used_s, value, model, space, project FROM vectors"
        " JOIN labels ON labels.id = label WHERE vectors.id > ? AND vectors.id <= ?"
        " ORDER BY vectors.id LIMIT ?",
        (id, last, rows),
    ).fetchall()
    return [(Row._make(row[:4]), Label(*row[4:])) for row in found]
