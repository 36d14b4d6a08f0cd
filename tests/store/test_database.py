"""The database: made, migrated, opened by several at once, and refused with good advice."""

import os
import sqlite3
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from embedway.secret import Secret
from embedway.store import migrations
from embedway.store.books import UsageBook
from embedway.store.check import check_database
from embedway.store.database import METADATA, StoreError, _set_up, open_database
from embedway.store.keys import KeyStore
from tests.fakes import FakeClock
from tests.store.conftest import Place, held

KEYS_COLUMNS = "id, name, type, hash, created_ms"
USAGE_COLUMNS = (
    "id, created_ms, key_id, model, inputs, tokens, cost, market_cost, latency_ms, status, tags,"
    " is_byok"
)
"""What every version of the tables has."""


def insert_key(connection, id="i", name="n"):
    """Make a key, as any version could."""
    connection.execute(
        text(f"INSERT INTO keys ({KEYS_COLUMNS}) VALUES (:id, :name, 'prod', :hash, 1)"),
        {"id": id, "name": name, "hash": b"\0"},
    )


def insert_line(connection):
    """Write a line of the usage book, as any version could."""
    connection.execute(
        text(
            f"INSERT INTO usage ({USAGE_COLUMNS})"
            " VALUES ('r', 1, 'i', 'm', 1, 2, 3, 4, 5, 200, '[]', :is_byok)"
        ),
        {"is_byok": True},
    )


@contextmanager
def opened(home):
    """The database in a folder, closed at the end."""
    engine = open_database(home)
    try:
        yield engine
    finally:
        engine.dispose()


def rows(engine, statement):
    """What a statement finds."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def test_is_made(tmp_path):
    """The first opening makes the folder, readable by its owner only, and the file in it."""
    home = tmp_path / "a" / "home"
    with opened(home):
        assert (home / "embedway.db").is_file()
        assert home.stat().st_mode & 0o777 == 0o700


def test_settings_of_sqlite(tmp_path):
    """Readers do not wait for the writer, and a writer waits for another."""
    with opened(tmp_path) as engine:
        assert rows(engine, "PRAGMA journal_mode") == [("wal",)]
        assert rows(engine, "PRAGMA synchronous") == [(1,)]
        assert rows(engine, "PRAGMA busy_timeout") == [(5000,)]


def test_tables_are_those_declared(engine):
    """The migrations end at the tables that the code declares, column for column."""
    found = inspect(engine)
    for table in METADATA.tables.values():
        columns = {c["name"]: bool(c["nullable"]) for c in found.get_columns(table.name)}
        keys = found.get_pk_constraint(table.name)["constrained_columns"]
        declared = {c.name: bool(c.nullable) for c in table.columns}
        assert {n: v for n, v in columns.items() if n not in keys} == {
            n: v for n, v in declared.items() if n not in keys
        }
        assert keys == [column.name for column in table.primary_key]
        # A PostgreSQL tells of the index that a UNIQUE makes, too.
        uniques = {one["name"] for one in found.get_unique_constraints(table.name)}
        assert {index["name"] for index in found.get_indexes(table.name)} - uniques == {
            index.name for index in table.indexes
        }


def test_types_are_those_declared(engine):
    """Each column of the migrations has the type that the code declares."""
    found = inspect(engine)
    for table in METADATA.tables.values():
        types = {c["name"]: str(c["type"]) for c in found.get_columns(table.name)}
        assert types == {c.name: c.type.compile(engine.dialect) for c in table.columns}


def test_migrations_are_applied_once(place):
    """Opening again applies nothing again and keeps what is there."""
    with place.opened() as engine, engine.begin() as connection:
        insert_key(connection)
    with place.opened() as engine:
        expected = [(n, m.__name__) for n, m in enumerate(migrations.MIGRATIONS, 1)]
        assert rows(engine, "SELECT number, name FROM migrations ORDER BY number") == expected
        assert rows(engine, "SELECT id FROM keys") == [("i",)]


def m999_a_later_one(connection):
    """A migration of a release to come."""
    connection.execute(text("ALTER TABLE keys ADD COLUMN note TEXT"))


def test_an_old_database(place, monkeypatch):
    """A database of an older version gets what it lacks and keeps its rows."""
    with place.opened() as engine, engine.begin() as connection:
        insert_key(connection)

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, m999_a_later_one))
    for _ in range(2):
        with place.opened() as engine:
            assert rows(engine, "SELECT id, note FROM keys") == [("i", None)]
            assert rows(engine, "SELECT count(*) FROM migrations") == [
                (len(migrations.MIGRATIONS),)
            ]


def test_a_newer_database(place, monkeypatch):
    """A database of a newer version is refused, saying what to do, and left as it is."""
    known = migrations.MIGRATIONS
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*known, m999_a_later_one))
        with place.opened():
            pass

    number = len(known) + 1
    with pytest.raises(StoreError, match=f"newer release .migration {number}.*update Embedway"):
        open_database(place.home, place.url)

    monkeypatch.setattr(migrations, "MIGRATIONS", (*known, m999_a_later_one))
    with place.opened() as engine:
        assert rows(engine, "SELECT count(*) FROM migrations") == [(number,)]


@pytest.mark.parametrize("version", range(1, len(migrations.MIGRATIONS)))
def test_rows_of_an_older_version(place, monkeypatch, version):
    """A key of any older version is whole after the migration: it belongs to the default project,
    may use fallbacks, and is pinned to no space; so is a line of the usage book."""
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:version])
        with place.opened() as engine, engine.begin() as connection:
            insert_key(connection)
            insert_line(connection)
    with place.opened() as engine:
        store = KeyStore(engine, Secret("p" * 64), FakeClock())
        (old,) = store.all()
        new, _ = store.create("new", allows_fallbacks=False, space="local/wordllama-256@256")
        assert new in store.all()
        book = UsageBook(engine)
        line = book.find("r")
        book.close()

    assert (old.id, old.project, old.hash) == ("i", "default", b"\0")
    assert (old.allows_fallbacks, old.space, old.models, old.revoked_ms) == (True, None, None, None)
    assert line is not None
    assert (line.cost, line.is_byok, line.project, line.saved) == (3, True, "default", 0)


def test_a_failed_migration_leaves_nothing(place, monkeypatch):
    """A migration that fails half-way is undone, so that the next start can try it again."""

    def m999_fails(connection):
        connection.execute(text("CREATE TABLE half (x INTEGER)"))
        connection.execute(text("CREATE TABLE half (x INTEGER)"))

    whole = migrations.MIGRATIONS
    monkeypatch.setattr(migrations, "MIGRATIONS", (*whole, m999_fails))
    with pytest.raises(StoreError, match=r"half\W+already exists"):
        open_database(place.home, place.url)
    monkeypatch.setattr(migrations, "MIGRATIONS", whole)

    with place.opened() as engine:
        assert not inspect(engine).has_table("half")
        assert inspect(engine).has_table("keys")


def open_at_once(places):
    """What each of these finds who open the database at the same moment: how many migrations."""
    barrier, outcomes = threading.Barrier(len(places)), []

    def start(place):
        barrier.wait()
        try:
            with place.opened() as engine:
                outcomes.extend(rows(engine, "SELECT count(*) FROM migrations"))
        except StoreError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=start, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_many_open_at_once(tmp_path):
    """Several that start at the same moment on a fresh folder all get a sound database."""
    for attempt in range(8):
        place = Place(tmp_path / str(attempt), None)
        assert open_at_once([place] * 4) == [(len(migrations.MIGRATIONS),)] * 4


def test_many_open_a_postgres_at_once(running_postgres, tmp_path):
    """Several that start at the same moment on a fresh PostgreSQL all get a sound database."""
    for _ in range(4):
        with running_postgres.database() as url:
            places = [Place(tmp_path / str(i), url) for i in range(4)]
            assert open_at_once(places) == [(len(migrations.MIGRATIONS),)] * 4


@contextmanager
def read_only_folder():
    """A folder that this process may not write to, even if it runs as root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65_534)
        try:
            yield Path(folder)
        finally:
            if is_root:
                os.seteuid(0)
            Path(folder).chmod(0o755)


@pytest.mark.skipif(os.name != "posix", reason="folders have no modes here")
def test_read_only_folder():
    """A folder that cannot be written is refused, naming the file and the variable to set."""
    with read_only_folder() as home, pytest.raises(StoreError) as caught:
        open_database(home)

    assert f"{home}/embedway.db cannot be used" in str(caught.value)
    assert "EMBEDWAY_HOME" in str(caught.value)


def test_folder_cannot_be_made(tmp_path):
    """A folder that cannot be made is refused, naming it and the variable to set."""
    (tmp_path / "file").write_text("x")

    with pytest.raises(StoreError, match=r"cannot be made.*EMBEDWAY_HOME"):
        open_database(tmp_path / "file" / "home")


@pytest.mark.parametrize("content", [b"no database" * 500, b"SQLite format 3\0" + b"\xff" * 4080])
def test_corrupt_file(tmp_path, content):
    """A file that is no database is refused and left as it is."""
    path = tmp_path / "embedway.db"
    path.write_bytes(content)

    with pytest.raises(StoreError, match=r"embedway\.db cannot be used.*Move it away"):
        open_database(tmp_path)

    assert path.read_bytes() == content


def test_a_folder_in_its_place(tmp_path):
    """A folder where the file should be is refused."""
    (tmp_path / "embedway.db").mkdir()

    with pytest.raises(StoreError, match="cannot be used"):
        open_database(tmp_path)


def test_check(engine):
    """The doctor's check passes a sound database and leaves no trace in it."""
    before = rows(engine, "SELECT * FROM migrations")
    check_database(engine)
    assert rows(engine, "SELECT * FROM migrations") == before


def test_check_finds_a_lock(tmp_path):
    """The doctor's check tells of a database that cannot be written."""
    with opened(tmp_path) as engine:
        with engine.connect() as connection:
            connection.execute(text("PRAGMA busy_timeout=1"))
        other = sqlite3.connect(tmp_path / "embedway.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(StoreError, match="locked"):
                check_database(engine)
        finally:
            other.close()


def test_check_finds_a_lock_of_a_postgres(running_postgres, tmp_path):
    """The doctor's check tells in time of a PostgreSQL whose table is locked."""
    with (
        running_postgres.database() as url,
        Place(tmp_path, url).opened() as engine,
        held(engine, "migrations"),
        pytest.raises(StoreError, match="cannot be written: canceling statement"),
    ):
        check_database(engine)


def test_check_finds_damage(tmp_path):
    """The doctor's check tells of a damaged page."""
    with opened(tmp_path) as engine, engine.begin() as connection:
        for i in range(200):
            insert_key(connection, f"id{i}", "n" * 200)
    sqlite3.connect(tmp_path / "embedway.db").execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    path = tmp_path / "embedway.db"
    data = bytearray(path.read_bytes())
    data[5 * 4096 : 9 * 4096] = b"\xaa" * (4 * 4096)
    path.write_bytes(data)

    with opened(tmp_path) as engine, pytest.raises(StoreError, match=r"damaged|cannot be written"):
        check_database(engine)


@pytest.mark.parametrize(
    ("code", "raises"), [(sqlite3.SQLITE_BUSY, False), (sqlite3.SQLITE_IOERR, True)]
)
def test_a_connection_that_is_busy(code, raises):
    """While another process makes a WAL file of it a connection goes on; anything else that is
    wrong is told."""

    class Connection:
        """Fails at the switch."""

        def __init__(self):
            self.done = []

        def execute(self, statement):
            """Note it, or fail."""
            if "WAL" in statement:
                error = sqlite3.OperationalError("no")
                error.sqlite_errorcode = code
                raise error
            self.done.append(statement)

    connection = Connection()
    if raises:
        with pytest.raises(sqlite3.OperationalError):
            _set_up(connection, None)
    else:
        _set_up(connection, None)
        assert "PRAGMA synchronous=NORMAL" in connection.done
