"""A real PostgreSQL: wrong addresses, and every way in which it goes away, are told soon."""

import logging
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from embedway.cli import main
from embedway.secret import Secret
from embedway.settings import Settings
from embedway.store.books import UsageBook
from embedway.store.database import KEYS, PROCESSES, StoreError, open_database
from embedway.store.keys import KeyStore
from embedway.store.postgres import open_postgres
from embedway.wrong_settings import SettingsError
from tests.asgi import MODEL, call, running
from tests.fakes import FakeClock
from tests.store.conftest import held
from tests.store.postgres_server import PASSWORD
from tests.store.redis_server import free_port
from tests.store.test_books import make_line

SOON_S = 12.0
"""Well above the six seconds that the longest of what follows may take, for a slow machine; well
below what it would take otherwise, which is forever."""


@pytest.fixture
def url(running_postgres):
    """A fresh database."""
    with running_postgres.database() as url:
        yield url


@pytest.fixture
def engine(url, tmp_path):
    """It, opened."""
    engine = open_database(tmp_path, url)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine):
    """A store of keys in it."""
    return KeyStore(engine, Secret("p" * 64), FakeClock())


@contextmanager
def frozen(server):
    """While the server answers nothing."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextmanager
def soon():
    """What is in it ends in time."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SOON_S


def backend(connection):
    """Which of the server's processes a connection speaks with."""
    return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "s3cret",
        "sqlite:///x",
        "host=h password=s3cret",
        "postgresql+psycopg://u:s3cret@h/d",
        "mysql://u:s3cret@h/d",
        "postgresql://u:s3@cret@h/d",  # not escaped
        "postgresql://u:s3/cret@h/d",
        "postgresql://u:12/s3cret@h/d",
        "postgresql://u:s3%cret@h/d",
        "postgresql://u:s3cret@h:s3cret/d",
        "postgresql://u:s3cret@h/d?no_such_option=s3cret",
        "postgresql://u:s3cret@[::1/d",
    ],
)
def test_wrong_urls(tmp_path, wrong):
    """What is no URL of a PostgreSQL is a wrong setting, of which nothing is repeated."""
    with pytest.raises(SettingsError, match=r"database_url: not a URL of a PostgreSQL") as caught:
        open_database(tmp_path, Secret(wrong))

    assert "s3" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_without_the_package(tmp_path, monkeypatch):
    """Without the extra, the error says how to get it."""
    monkeypatch.delitem(sys.modules, "embedway.store.postgres")
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(SettingsError, match=r"pip install 'embedway\[postgres\]'"):
        open_database(tmp_path, Secret("postgresql://h/d"))


def test_nobody_there(tmp_path):
    """A server that cannot be reached is told at once, with where it should be."""
    port = free_port()

    with soon(), pytest.raises(StoreError, match=rf"database_url cannot be used: .*{port}.*Check"):
        open_database(tmp_path, Secret(f"postgresql://u:s3cret@127.0.0.1:{port}/d"))


@pytest.mark.parametrize(
    ("database", "password", "told"),
    [
        ("postgres", "wr0ng", "password authentication failed"),
        ("missing", PASSWORD, '"missing" does not exist'),
    ],
)
def test_not_let_in(running_postgres, tmp_path, database, password, told):
    """What the server refuses is told in its words and in one line, without the password."""
    with pytest.raises(StoreError, match=told) as caught:
        open_database(tmp_path, running_postgres.url(database, password=password))

    assert password not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_password_is_not_shown(url, engine):
    """Neither the engine nor its pool shows the URL."""
    assert PASSWORD not in f"{engine!r} {engine.url!r} {engine.pool!r} {vars(engine.pool)!r}"
    assert url.reveal() not in f"{vars(engine)!r}"


def test_another_encoding(running_postgres, tmp_path):
    """A database that does not take every text is refused before a line is lost."""
    with (
        running_postgres.database(encoding="LATIN1") as url,
        pytest.raises(StoreError, match="encoding LATIN1; make one with ENCODING 'UTF8'"),
    ):
        open_database(tmp_path, url)


def test_limits_that_the_server_keeps(engine):
    """The server gives a statement up before we do, and ends a transaction that stands still, so
    that a frozen gateway keeps no lock from the others."""
    with engine.connect() as connection:
        for name, value in (
            ("statement_timeout", "2500ms"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("application_name", "embedway"),
        ):
            assert connection.exec_driver_sql(f"SHOW {name}").scalar_one() == value


def test_frozen_between_statements(running_postgres, store):
    """While the server answers nothing, reading and writing end in a StoreError in time; once it
    answers again, both work."""
    key, _ = store.create("ci")

    with frozen(running_postgres):
        with soon(), pytest.raises(StoreError, match="keys cannot be read"):
            store.all()
        with soon(), pytest.raises(StoreError, match="keys cannot be written"):
            store.create("other")

    assert store.all() == (key,)
    store.create("another")


def test_frozen_for_many(running_postgres, store):
    """However many ask a frozen server at once, each hears of it in time."""
    store.create("ci")
    heard = []

    def ask():
        started = time.monotonic()
        with pytest.raises(StoreError):
            store.all()
        heard.append(time.monotonic() - started)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    with frozen(running_postgres):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(heard) == 40
    assert max(heard) < SOON_S


def test_frozen_at_the_start(running_postgres, url, tmp_path):
    """A gateway that starts while the server answers nothing says so in time."""
    with frozen(running_postgres), soon(), pytest.raises(StoreError, match="timeout expired"):
        open_database(tmp_path, url)


def test_frozen_within_a_statement(running_postgres, url):
    """An answer that comes too late is never taken for that of a later question."""
    engine = open_postgres(url, answer_s=1.0)
    with engine.connect() as connection:
        backend(connection)
        with frozen(running_postgres), soon(), pytest.raises(SQLAlchemyError, match="no answer"):
            connection.exec_driver_sql("SELECT 'late'")
        assert connection.invalidated

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 'next'").scalar_one() == "next"
    engine.dispose()


def test_a_slow_statement(url):
    """A statement that takes too long is given up by the server, and the connection is kept."""
    engine = open_postgres(url, answer_s=1.5)
    with engine.connect() as connection:
        before = backend(connection)
        with soon(), pytest.raises(SQLAlchemyError, match="statement timeout"):
            connection.exec_driver_sql("SELECT pg_sleep(600)")
        connection.rollback()
        assert backend(connection) == before
    engine.dispose()


def test_a_lock(engine, store):
    """Whoever waits for a lock of another gateway's hears of it in time, and works when it is
    free."""
    with held(engine, "keys"):
        with soon(), pytest.raises(StoreError, match="keys cannot be written"):
            store.create("ci")
        assert store.all() == ()
    store.create("ci")

    assert len(store.all()) == 1


def test_no_connection_free(engine, store):
    """When all connections are in use, who waits for one hears of it in time."""
    connections = [engine.connect() for _ in range(15)]
    try:
        with soon(), pytest.raises(StoreError, match="keys cannot be read: TimeoutError"):
            store.all()
    finally:
        for connection in connections:
            connection.close()

    assert store.all() == ()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_gone_and_back(running_postgres, store, end):
    """While the server is away, questions end at once; when it is back, the first one is answered,
    and what was written before is there."""
    key, _ = store.create("ci")
    getattr(running_postgres, end)()
    try:
        with soon(), pytest.raises(StoreError):
            store.all()
    finally:
        running_postgres.start()

    assert store.all() == (key,)


def test_an_unnoticed_restart(running_postgres, store):
    """A server that was started anew between two questions costs none of them."""
    key, _ = store.create("ci")
    running_postgres.stop()
    running_postgres.start()

    assert store.all() == (key,)


def test_lines_while_it_is_away(running_postgres, engine, caplog):
    """Lines that cannot be written are kept, all together, and written when they can be."""
    book = UsageBook(engine)
    running_postgres.stop()
    try:
        with caplog.at_level(logging.WARNING, "embedway.books"), soon():
            book._lines.extend(make_line(f"ID{i}") for i in range(500))  # together
            book.flush()
    finally:
        running_postgres.start()
    book.add(make_line("LATER"))

    assert book.find("LATER") == make_line("LATER")
    assert book.find("ID0") == make_line("ID0")
    assert book.find("ID499") == make_line("ID499")
    assert book.lost == 0
    assert len(caplog.records) == 1
    book.close()


def test_lines_for_a_server_that_may_only_be_read(engine, url, caplog):
    """A server that takes no writing loses the lines together, not one after the other."""
    with engine.connect() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        connection.commit()
    engine.dispose()
    book = UsageBook(engine)
    with caplog.at_level(logging.ERROR, "embedway.books"):
        book._lines.extend(make_line(f"ID{i}") for i in range(500))  # together
        book.flush()
    book.close()

    assert book.lost == 500
    assert len(caplog.records) == 1


def test_transactions_that_fail_leave_nothing(engine):
    """A transaction that ends in an error is undone as a whole."""

    def write():
        with engine.begin() as connection:
            connection.execute(insert(PROCESSES).values(id="a", seen_ms=1))
            connection.execute(text("SELECT 1 / 0"))

    with pytest.raises(SQLAlchemyError, match="division by zero"):
        write()

    with engine.connect() as connection:
        assert connection.execute(select(PROCESSES)).all() == []


def test_parameters_of_the_url(running_postgres):
    """What the URL sets of libpq's parameters wins over our own choice."""
    engine = open_postgres(
        Secret(f"{running_postgres.url().reveal()}?application_name=mine&connect_timeout=7"), 3.0
    )
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW application_name").scalar_one() == "mine"
        parameters = connection.connection.driver_connection.info.get_parameters()
        assert parameters["connect_timeout"] == "7"
    engine.dispose()


@pytest.fixture
def command(monkeypatch, tmp_path):
    """The command line on a machine of its own: `command(url, "keys", "ls")`."""

    def run(url, *words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("EMBEDWAY_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("EMBEDWAY_DATABASE_URL", url.reveal())
        return main(list(words))

    return run


def test_the_command_line(url, command, engine, tmp_path, capsys):
    """The commands that need the database find it by `database_url`, too."""
    assert command(url, "keys", "create", "ci") == 0
    assert command(url, "doctor") == 0

    assert "the database of database_url is sound" in capsys.readouterr().out
    with engine.connect() as connection:
        assert connection.execute(select(KEYS.c.name)).all() == [("ci",)]
    assert not (tmp_path / "home" / "embedway.db").exists()


@pytest.mark.parametrize("wrong", ["mysql://u:s3cret@h/d", "postgresql://u:s3cret@127.0.0.1:1/d"])
def test_the_doctor(command, capsys, wrong):
    """The doctor tells of a URL that is wrong, or leads nowhere, as one of its findings."""
    assert command(Secret(wrong), "doctor") == 1

    out = capsys.readouterr().out
    assert "fail  store" in out
    assert "fail  vectors" in out
    assert "s3cret" not in out


async def test_a_gateway_on_it(url, tmp_path):
    """A gateway with `database_url` keeps its keys and its books there, and none in its folder."""
    async with running(Settings(home=str(tmp_path), database_url=url)) as app:
        _, secret = app.runtime.keys.create("ci")
        headers = {"Authorization": f"Bearer {secret.reveal()}"}
        body = {"model": MODEL, "input": "a text"}
        answer = await call(app, "POST", "/v1/embeddings", headers, body)
        assert answer.status == 200
        app.runtime.book.flush()
    engine = open_database(tmp_path, url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM keys").scalar_one() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM usage").scalar_one() == 1
    engine.dispose()

    assert not (tmp_path / "embedway.db").exists()
