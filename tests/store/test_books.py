"""The usage book: every line is found, and no trouble of the disk reaches a request."""

import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text

from embedway.ledger import UsageLine
from embedway.store.books import _ROWS_AT_ONCE, UsageBook, _line
from embedway.store.database import USAGE, StoreError
from embedway.store.usage_rows import usage_row
from tests.store.conftest import Place, held

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.fixture
def book(engine):
    """A book over it."""
    book = UsageBook(engine)
    yield book
    book.close()


def make_line(id="ID", **changes):
    """A line of one answered request."""
    return UsageLine(
        **{
            "id": id,
            "created_ms": 1_800_000_000_000,
            "key_id": "k1",
            "model": "openai/text-embedding-3-small",
            "provider": "openai",
            "inputs": 2,
            "tokens": 10,
            "cost": 200_000,
            "market_cost": 200_000,
            "latency_ms": 12,
            "status": 200,
            **changes,
        }
    )


def count(engine):
    """How many lines are written."""
    with engine.connect() as connection:
        return connection.execute(text("SELECT count(*) FROM usage")).scalar()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"provider": None, "code": "rate_limit_exceeded", "status": 429},
        {"user": "Ünïcode 🦜", "trace": "t", "app": "a'; DROP TABLE usage; --"},
        {"tags": ("a", "b,c", '"')},
        {"cost": 2**62, "market_cost": 2**62, "tokens": 2**40},
    ],
)
def test_found_as_added(book, changes):
    """A line is found by its id, exactly as it was added."""
    line = make_line(**changes)
    book.add(line)

    assert book.find("ID") == line
    assert book.find("id") is None
    assert book.lost == 0


@given(
    st.builds(
        make_line,
        user=st.none() | TEXTS,
        tags=st.lists(TEXTS, max_size=10).map(tuple),
        cost=st.integers(0, 2**62),
    )
)
def test_rows(line):
    """A line becomes a row and comes back the same."""
    assert _line(usage_row(line)) == line


def test_nul(book):
    """A NUL, which not every database takes, becomes the sign for no character, wherever a caller
    put it; all else of the line is kept."""
    book.add(make_line(user="\0a\0", trace="\0", app="\0", tags=("\0", "b", "\\u0000")))

    replaced = {"user": "\ufffda\ufffd", "trace": "\ufffd", "app": "\ufffd"}
    assert book.find("ID") == make_line(**replaced, tags=("\ufffd", "b", "\\u0000"))
    assert book.lost == 0


def test_every_line_is_written(book, engine, monkeypatch):
    """Of thousands of lines that come faster than they are written, none is missing, however often
    the reader looks whether the writer is still alive."""
    monkeypatch.setattr("embedway.store.books._LIFE_SIGN_S", 0.0001)
    for i in range(3500):
        book.add(make_line(f"ID{i}"))
    book.flush()

    assert count(engine) == 3500
    assert book.find("ID0") is not None
    assert book.find("ID3499") is not None


def test_batches(engine):
    """Lines that come together are written in few transactions."""
    commits = []
    event.listen(engine, "commit", commits.append)
    book = UsageBook(engine)
    for i in range(500):
        book.add(make_line(f"ID{i}"))
    book.close()

    assert count(engine) == 500
    assert len(commits) < 50


@pytest.mark.parametrize(
    "number", [1, *(_ROWS_AT_ONCE + i for i in (-1, 0, 1)), 2 * _ROWS_AT_ONCE, 130]
)
def test_any_number_is_written(engine, number):
    """Any number of lines that are written together, as whole statements and a rest, is found as
    it was added."""
    book = UsageBook(engine)
    lines = [make_line(f"ID{i}", tags=("t",) * (i % 3), inputs=i) for i in range(number)]
    book._lines.extend(lines)  # together, whenever the writer wakes
    book.flush()

    assert count(engine) == number
    assert [book.find(line.id) for line in lines] == lines
    book.close()


def test_close_writes_what_is_left(engine):
    """Closing writes all that was added before, and comes to an end."""
    book = UsageBook(engine)
    for i in range(1500):
        book.add(make_line(f"ID{i}"))
    book.close()

    assert count(engine) == 1500
    assert not book._writer.is_alive()


def test_after_close(engine, monkeypatch):
    """Asking a closed book does not hang."""
    monkeypatch.setattr("embedway.store.books._LIFE_SIGN_S", 0.01)
    book = UsageBook(engine)
    book.add(make_line())
    book.close()

    assert book.find("ID") == make_line()


def test_close_at_the_worst_moment(engine):
    """Closing while the writer is just about to forget that there was work ends all the same."""
    book = UsageBook(engine)

    class Racing(threading.Event):
        """Somebody else closes the book just before it is cleared."""

        def clear(self):
            book._is_closed = True
            book._haste.set()
            self.set()
            super().clear()

    book._work.__class__ = Racing
    book.add(make_line())
    book._writer.join(10)

    assert not book._writer.is_alive()
    assert count(engine) == 1


def test_total_cost(book):
    """The cost of a key is the exact sum of its lines, and 0 for a key without any."""
    for i, cost in enumerate((1, 2**53, 7)):
        book.add(make_line(f"A{i}", key_id="a", cost=cost))
    book.add(make_line("B", key_id="b", cost=5))

    assert book.total_cost("a") == 2**53 + 8
    assert book.total_cost("b") == 5
    assert book.total_cost("c") == 0


def test_a_locked_database(book, engine):
    """While another process holds the lock, adding goes on at once and nothing is lost."""
    with held(engine, "usage"):
        for i in range(100):
            book.add(make_line(f"ID{i}"))
    book.flush()

    assert count(engine) == 100
    assert book.lost == 0


def set_up(engine, statement):
    """Run a statement in every connection from now on."""

    def run(connection, _):
        connection.execute(statement)
        connection.commit()

    event.listen(engine, "connect", run)
    engine.dispose()


def test_locked_for_too_long(engine, caplog):
    """Lines that cannot be written in time are kept until they can."""
    is_file = engine.dialect.name == "sqlite"
    set_up(engine, "PRAGMA busy_timeout=1" if is_file else "SET statement_timeout = '100ms'")
    book = UsageBook(engine)
    with held(engine, "usage"), caplog.at_level(logging.WARNING, "embedway.books"):
        book.add(make_line("A"))
        book.flush()
    book.add(make_line("B"))

    assert book.find("B") is not None
    assert book.find("A") is not None
    assert book.lost == 0
    assert "usage lines wait to be written: OperationalError" in caplog.text
    book.close()


def test_full_disk(tmp_path, caplog):
    """What a full disk has no room for until the end is lost and counted, and raises nothing."""
    with Place(tmp_path, None).opened() as engine:
        with engine.connect() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar()
        set_up(engine, f"PRAGMA max_page_count={pages}")
        book = UsageBook(engine)
        with caplog.at_level(logging.ERROR, "embedway.books"):
            for i in range(2000):
                book.add(make_line(f"ID{i}", user="u" * 200))
            book.flush()
            assert book.lost == 0
            book.close()

        assert book.lost > 0
        assert book.lost + count(engine) == 2000
        assert "u" * 200 not in caplog.text


def test_no_more_is_kept_than_fits(engine, monkeypatch):
    """While the database is away lines are kept up to a bound; what is more is lost."""
    monkeypatch.setattr("embedway.store.books._MOST_OWED", 10)
    is_file = engine.dialect.name == "sqlite"
    set_up(engine, "PRAGMA busy_timeout=1" if is_file else "SET statement_timeout = '100ms'")
    book = UsageBook(engine)
    with held(engine, "usage"):
        for i in range(25):
            book.add(make_line(f"ID{i}"))
        book.flush()
    assert book.lost == 15
    book.flush()
    assert count(engine) == 10
    book.close()


@pytest.mark.parametrize("others", [20, 70])
@pytest.mark.parametrize(
    "bad",
    [
        make_line("TWICE"),  # its id was used
        make_line("BAD", tokens=-1),  # against a CHECK
        make_line("BAD", cost=2**63),  # no integer of theirs
        make_line("BAD", user="\ud800"),  # no UTF-8
    ],
    ids=["doubled id", "negative", "too large", "surrogate"],
)
def test_a_bad_line_goes_alone(book, engine, bad, others):
    """A line that the database refuses is lost alone: those written with it are kept."""
    book.add(make_line("TWICE"))
    book.flush()
    with held(engine, "usage"):  # so that what follows gathers into one transaction
        for i in range(others):
            book.add(make_line(f"BEFORE{i}"))
        book.add(bad)
        for i in range(others):
            book.add(make_line(f"AFTER{i}"))
    book.flush()

    assert count(engine) == 2 * others + 1
    assert book.lost == 1
    book.add(make_line("LATER"))
    assert book.find("LATER") is not None


def test_last_error(book):
    """The newest failure of an account is found; successes and others' failures do not count."""
    for i, (provider, code) in enumerate(
        [("a", "one"), ("a", "two"), ("a", None), ("b", "three"), (None, "four")]
    ):
        book.add(make_line(f"ID{i}", provider=provider, code=code, created_ms=i))

    assert book.last_error("a").code == "two"
    assert book.last_error("b").code == "three"
    assert book.last_error("c") is None


def test_an_unreadable_book(engine):
    """A table that cannot be read is a StoreError that names the book, for every reader."""
    book = UsageBook(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE usage RENAME TO elsewhere")
    for read in (book.find, book.last_error, book.total_cost):
        with pytest.raises(StoreError, match="usage book cannot be read"):
            read("x")
    book.close()


def test_columns_and_fields():
    """The table's columns are the line's fields in their order: rows are written by position."""
    assert tuple(column.name for column in USAGE.columns) == UsageLine.__struct_fields__
