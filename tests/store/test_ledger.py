"""The attempts book and the budgets: what is written, when, and what a dead process leaves."""

import asyncio
import itertools
import logging
import sqlite3
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event, insert, select, text, update
from sqlalchemy.engine import RootTransaction
from sqlalchemy.exc import OperationalError

from embedway.budgets import Budget
from embedway.errors import BudgetExceeded, LedgerUnavailable
from embedway.ledger import AttemptBegun, AttemptEnded, Reservation
from embedway.store import ledger as store_ledger
from embedway.store.database import (
    ATTEMPTS,
    BUDGETS,
    PROCESSES,
    RESERVATIONS,
    WINDOWS,
    WRITTEN_OFF,
    open_database,
)
from embedway.store.ledger import Ledger
from tests.fakes import FakeClock

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000


@pytest.fixture
def clock():
    """The time of the ledgers of a test."""
    return FakeClock(now=NOW_MS / 1000)


@pytest.fixture
def ledger(engine, clock):
    """A ledger of one process."""
    ledger = Ledger(engine, clock, "p1")
    yield ledger
    ledger.close()


def make_begun(id="a1", **changes):
    """An attempt that may cost 200 picodollars."""
    values = {
        "id": id,
        "request_id": "r1",
        "key_id": "k1",
        "project": "default",
        "model": "openai/small",
        "provider": "openai",
        "inputs": 2,
        "reserved_tokens": 10,
        "reserved_cost": 200,
        "created_ms": NOW_MS,
    }
    return AttemptBegun(**(values | changes))


def make_ended(id="a1", state="settled", tokens=7, cost=140, **changes):
    """What became of it."""
    return AttemptEnded(
        id=id, state=state, tokens=tokens, cost=cost, ended_ms=NOW_MS + 90, **changes
    )


def make_budget(engine, amount, *, period="total", owner_kind="key", owner="k1"):
    """A budget that is in the database."""
    id = f"{owner_kind}-{owner}-{period}"
    budget = Budget(
        id=id,
        owner_kind=owner_kind,
        owner=owner,
        period=period,
        amount=amount,
        created_ms=NOW_MS,
    )
    with engine.begin() as connection:
        connection.execute(
            insert(BUDGETS).values(
                **{name: getattr(budget, name) for name in Budget.__struct_fields__}
            )
        )
    return budget


_numbers = itertools.count()


def make_reservation(*budgets, amount=100, created_ms=NOW_MS):
    """A wish to hold back."""
    return Reservation(
        id=f"res{next(_numbers)}", budgets=budgets, amount=amount, created_ms=created_ms
    )


def read(engine, table):
    """All rows of a table."""
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def window(engine, budget):
    """What is spent and reserved of a budget, in all its windows."""
    rows = [row for row in read(engine, WINDOWS) if row["budget_id"] == budget.id]
    return [(row["starts_ms"], row["spent"], row["reserved"]) for row in rows]


async def test_begun_is_there_when_it_is_said(engine, ledger):
    """Once `begin` returns, another connection finds the attempt, reserved."""
    await ledger.begin(make_begun())
    [row] = read(engine, ATTEMPTS)
    assert (row["id"], row["state"], row["process"]) == ("a1", "reserved", "p1")
    assert (row["reserved_tokens"], row["reserved_cost"]) == (10, 200)
    assert row["tokens"] is row["cost"] is row["ended_ms"] is None


@pytest.mark.parametrize("state", ["settled", "unbilled", "unknown"])
async def test_ended(engine, ledger, state):
    """What became of an attempt stands in its row."""
    await ledger.begin(make_begun())
    ledger.end(make_ended(state=state, status=200, code="c"))
    await asyncio.to_thread(ledger.close)
    [row] = read(engine, ATTEMPTS)
    assert (row["state"], row["tokens"], row["cost"]) == (state, 7, 140)
    assert (row["ended_ms"], row["status"], row["code"]) == (NOW_MS + 90, 200, "c")


async def test_each_commit_reaches_the_disk(tmp_path, clock):
    """The ledger's connection to SQLite writes with full durability."""
    engine = open_database(tmp_path)
    seen = []

    def note(connection, cursor, statement, *_):
        if statement.startswith("INSERT INTO attempts"):
            seen.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())

    event.listen(engine, "before_cursor_execute", note)
    ledger = Ledger(engine, clock, "p1")
    await ledger.begin(make_begun())
    ledger.close()
    engine.dispose()
    assert seen == [2]  # FULL


async def test_many_at_once_share_commits(engine, ledger):
    """A thousand attempts that come together are all there, in a few transactions."""
    commits = []
    event.listen(engine, "commit", commits.append)
    await asyncio.gather(*(ledger.begin(make_begun(f"a{i}")) for i in range(1000)))
    for i in range(1000):
        ledger.end(make_ended(f"a{i}"))
    await asyncio.to_thread(ledger.close)
    rows = read(engine, ATTEMPTS)
    assert {row["id"] for row in rows} == {f"a{i}" for i in range(1000)}
    assert {row["state"] for row in rows} == {"settled"}
    assert len(commits) < 50


async def test_notes_are_written_without_a_wait(engine, ledger):
    """What costs nothing is written, too, though nobody waits for it."""
    ledger.note(make_begun(reserved_cost=0))
    ledger.note(make_ended(cost=0))
    await asyncio.to_thread(ledger.close)
    assert [row["state"] for row in read(engine, ATTEMPTS)] == ["settled"]


async def test_what_is_paid_waits_for_no_more(engine, ledger, monkeypatch):
    """What costs nothing may be gathered for as long as it likes: an attempt that is paid, its
    end, whoever reads, and the end of the gateway wait for none of it."""
    await asyncio.to_thread(ledger.flush)
    monkeypatch.setattr(store_ledger, "_GATHER_S", 3600.0)
    ledger.note(make_begun("free", reserved_cost=0))
    await ledger.begin(make_begun("paid"))
    assert {row["id"] for row in read(engine, ATTEMPTS)} == {"free", "paid"}
    ledger.note(make_ended("free", cost=0))
    await asyncio.to_thread(ledger.flush)
    ledger.end(make_ended("paid"))
    await asyncio.to_thread(ledger.close)
    assert [row["state"] for row in read(engine, ATTEMPTS)] == ["settled", "settled"]


async def test_what_is_free_is_gathered(engine, ledger, monkeypatch):
    """Free attempts that come one after the other share their commits."""
    await asyncio.to_thread(ledger.flush)
    monkeypatch.setattr(store_ledger, "_GATHER_S", 3600.0)
    commits = []
    event.listen(engine, "commit", commits.append)
    for i in range(100):
        ledger.note(make_begun(f"a{i}", reserved_cost=0))
        await asyncio.to_thread(lambda: None)  # others have their turn
        ledger.note(make_ended(f"a{i}", cost=0))
    await asyncio.to_thread(ledger.close)
    assert {row["state"] for row in read(engine, ATTEMPTS)} == {"settled"}
    assert len(commits) <= 3


async def test_a_budget_covers_what_fits(engine, ledger):
    """What is held back and what was spent count together, and room comes back with the rest."""
    budget = make_budget(engine, 250)
    first, second = make_reservation(budget), make_reservation(budget)
    held = await ledger.reserve(first)
    also = await ledger.reserve(second)
    assert window(engine, budget) == [(0, 0, 200)]
    with pytest.raises(BudgetExceeded, match=r"\$0\.00000000025"):
        await ledger.reserve(make_reservation(budget))
    ledger.settle(first, held, 40)
    ledger.settle(second, also, 10)
    await ledger.reserve(make_reservation(budget, amount=200))
    assert window(engine, budget) == [(0, 50, 200)]


async def test_all_levels_or_none(engine, ledger):
    """A request that one of its budgets does not cover holds nothing back from the others."""
    roomy = make_budget(engine, 1000, owner_kind="key")
    tight = make_budget(engine, 50, owner_kind="project", owner="default", period="month")
    daily = make_budget(engine, 1000, period="day")
    with pytest.raises(BudgetExceeded, match="project 'default'"):
        await ledger.reserve(make_reservation(roomy, tight, daily))
    assert all(reserved == 0 for _, _, reserved in window(engine, roomy))
    assert all(reserved == 0 for _, _, reserved in window(engine, daily))
    assert read(engine, RESERVATIONS) == []
    await ledger.reserve(make_reservation(roomy, tight, daily, amount=50))
    assert [len(window(engine, one)) for one in (roomy, tight, daily)] == [1, 1, 1]


async def test_a_new_day_has_a_new_window(engine, ledger):
    """A daily budget starts anew with the day; what was spent before stays on record."""
    budget = make_budget(engine, 100, period="day")
    first = make_reservation(budget)
    ledger.settle(first, await ledger.reserve(first), 100)
    with pytest.raises(BudgetExceeded, match="midnight"):
        await ledger.reserve(make_reservation(budget))
    await ledger.reserve(make_reservation(budget, created_ms=NOW_MS + DAY_MS))
    assert [(spent, reserved) for _, spent, reserved in window(engine, budget)] == [
        (100, 0),
        (0, 100),
    ]


async def test_a_clock_that_goes_back_opens_nothing(engine, clock, ledger):
    """A window that was left is not opened again, whatever the clock says, nor by a new start."""
    budget = make_budget(engine, 100, period="day")
    later = make_reservation(budget, created_ms=NOW_MS + DAY_MS)
    ledger.settle(later, await ledger.reserve(later), 100)
    with pytest.raises(BudgetExceeded):
        await ledger.reserve(make_reservation(budget, created_ms=NOW_MS))
    other = Ledger(engine, clock, "p2")
    with pytest.raises(BudgetExceeded):
        await other.reserve(make_reservation(budget, created_ms=NOW_MS))
    other.close()


async def test_a_budget_that_is_gone_does_not_count(engine, ledger):
    """A budget that was removed a moment ago stops nobody."""
    budget = make_budget(engine, 0)
    with engine.begin() as connection:
        connection.execute(BUDGETS.delete())
    assert await ledger.reserve(make_reservation(budget)) == ()


@pytest.mark.parametrize("processes", [1, 3])
async def test_exactly_what_fits(engine, clock, processes):
    """Of 64 who ask at once, in several processes, exactly those are let in whom the budget
    covers."""
    budget = make_budget(engine, 1000)
    ledgers = [Ledger(engine, clock, f"p{i}") for i in range(processes)]

    async def ask(number):
        try:
            await ledgers[number % processes].reserve(make_reservation(budget, amount=30))
        except BudgetExceeded:
            return 0
        return 1

    admitted = sum(await asyncio.gather(*(ask(i) for i in range(64))))
    for one in ledgers:
        one.close()
    assert admitted == 33
    assert window(engine, budget) == [(0, 0, 990)]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60), st.booleans()), max_size=25))
def test_never_more_than_the_budget(tmp_path_factory, steps):
    """However requests hold back, cost and end: spent and reserved are together never more than
    the budget, but for what a request costs beyond what it held back."""
    engine = open_database(tmp_path_factory.mktemp("ledger"))
    budget = make_budget(engine, 100)

    async def run():
        ledger = Ledger(engine, FakeClock(now=NOW_MS / 1000), "p1")
        held, spent, beyond = [], 0, 0
        for amount, cost, ends in steps:
            wanted = make_reservation(budget, amount=amount)
            fits = spent + sum(one.amount for one, _ in held) + amount <= 100
            try:
                held.append((wanted, await ledger.reserve(wanted)))
                assert fits
            except BudgetExceeded:
                assert not fits
            if ends and held:
                one, parts = held.pop(0)
                ledger.settle(one, parts, cost)
                spent, beyond = spent + cost, beyond + max(0, cost - one.amount)
        await asyncio.to_thread(ledger.close)
        [(_, paid, reserved)] = window(engine, budget) or [(0, 0, 0)]
        assert (paid, reserved) == (spent, sum(one.amount for one, _ in held))
        assert paid + reserved <= 100 + beyond

    asyncio.run(run())
    engine.dispose()


async def test_a_dead_process_is_charged(engine, clock, ledger):
    """What a process had under way when it died is unknown, and charged as reserved."""
    budget = make_budget(engine, 1000)
    await ledger.begin(make_begun("mine"))
    await ledger.reserve(make_reservation(budget, amount=70))
    kill(ledger)
    clock.advance(31)
    other = Ledger(engine, clock, "p2")
    await other.begin(make_begun("theirs"))
    other.close()
    states = {row["id"]: (row["state"], row["cost"]) for row in read(engine, ATTEMPTS)}
    assert states == {"mine": ("unknown", 200), "theirs": ("reserved", None)}
    assert window(engine, budget) == [(0, 70, 0)]
    assert [row["process"] for row in read(engine, RESERVATIONS)] == [WRITTEN_OFF]
    clock.advance(86_400)
    Ledger(engine, clock, "p3").close()
    assert read(engine, RESERVATIONS) == []


async def test_a_living_process_is_let_alone(engine, clock, ledger):
    """Nobody takes a process for dead that has just said that it lives."""
    await ledger.begin(make_begun("mine"))
    clock.advance(20)
    other = Ledger(engine, clock, "p2")
    await other.begin(make_begun("theirs"))
    other.close()
    assert {row["state"] for row in read(engine, ATTEMPTS)} == {"reserved"}


async def test_one_that_was_taken_for_dead_ends_all_the_same(engine, clock, ledger):
    """A process that was only slow writes what truly came of its requests."""
    budget = make_budget(engine, 1000)
    await ledger.begin(make_begun())
    wanted = make_reservation(budget, amount=70)
    held = await ledger.reserve(wanted)
    with engine.begin() as connection:
        connection.execute(update(PROCESSES).values(seen_ms=NOW_MS - 60_000))
    other = Ledger(engine, clock, "p2")
    await other.begin(make_begun("theirs"))
    other.close()
    assert window(engine, budget) == [(0, 70, 0)]
    ledger.end(make_ended())
    ledger.settle(wanted, held, 20)
    await asyncio.to_thread(ledger.close)
    states = {row["id"]: (row["state"], row["cost"]) for row in read(engine, ATTEMPTS)}
    assert states["a1"] == ("settled", 140)
    assert window(engine, budget) == [(0, 20, 0)]


class LostAnswers:
    """Commits, and breaks off before it says so, as long as *remaining* is above 0."""

    def __init__(self, monkeypatch, remaining):
        self.remaining = remaining
        commit = RootTransaction.commit

        def commit_and_break_off(transaction):
            commit(transaction)
            if self.remaining:
                self.remaining -= 1
                raise OperationalError("COMMIT", {}, Exception("the server closed the connection"))

        monkeypatch.setattr(RootTransaction, "commit", commit_and_break_off)


async def test_a_charge_whose_commit_was_not_confirmed(engine, clock, ledger, monkeypatch, caplog):
    """A commit that was made, but whose answer was lost, is written again and counts once."""
    budget = make_budget(engine, 1000)
    wanted = make_reservation(budget, amount=70)
    held = await ledger.reserve(wanted)
    await ledger.begin(make_begun())
    LostAnswers(monkeypatch, 2)
    ledger.end(make_ended())
    ledger.settle(wanted, held, 20)
    clock.advance(2)
    await asyncio.to_thread(ledger.close)
    assert window(engine, budget) == [(0, 20, 0)]
    assert [row["state"] for row in read(engine, ATTEMPTS)] == ["settled"]
    assert read(engine, RESERVATIONS) == []


async def test_what_was_refused_for_a_commit_that_was_not_confirmed(
    engine, clock, ledger, monkeypatch, caplog
):
    """Who was told that nothing could be written down holds nothing back, and has no attempt under
    way, though both were written."""
    budget = make_budget(engine, 1000)
    await ledger.begin(make_begun("before"))
    answers = LostAnswers(monkeypatch, 1)
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(make_reservation(budget, amount=70))
    clock.advance(2)
    await asyncio.to_thread(ledger.flush)
    assert window(engine, budget) == [(0, 0, 0)]
    assert read(engine, RESERVATIONS) == []

    answers.remaining = 1
    with pytest.raises(LedgerUnavailable):
        await ledger.begin(make_begun())
    clock.advance(2)
    await asyncio.to_thread(ledger.flush)
    states = {row["id"]: (row["state"], row["cost"]) for row in read(engine, ATTEMPTS)}
    assert states == {"before": ("reserved", None), "a1": ("unbilled", 0)}


async def test_a_process_that_ends_well_leaves_nothing(engine, ledger):
    """After closing nothing is reserved and no process is listed."""
    await ledger.begin(make_begun())
    ledger.end(make_ended())
    await asyncio.to_thread(ledger.close)
    assert read(engine, PROCESSES) == []
    with pytest.raises(LedgerUnavailable):
        await ledger.begin(make_begun("late"))


async def test_without_a_database_nothing_is_paid(engine, clock, ledger, caplog):
    """While nothing can be written, who wants to pay is refused at once; what ended meanwhile is
    written when the database is back."""
    budget = make_budget(engine, 1000)
    await ledger.begin(make_begun())
    wanted = make_reservation(budget)
    held = await ledger.reserve(wanted)
    broken = Broken(engine)
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(LedgerUnavailable) as refused:
        await ledger.begin(make_begun("a2"))
    assert refused.value.retry_after_s is not None
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(make_reservation(budget))
    assert broken.tries == 1  # the second one was refused without a try
    ledger.end(make_ended())
    ledger.settle(wanted, held, 10)
    broken.mend()
    clock.advance(1.0)
    await ledger.begin(make_begun("a3"))
    await asyncio.to_thread(ledger.close)
    assert {row["id"]: row["state"] for row in read(engine, ATTEMPTS)} == {
        "a1": "settled",
        "a3": "reserved",
    }
    assert window(engine, budget) == [(0, 10, 0)]


async def test_one_bad_line_does_not_take_others_with_it(engine, ledger, caplog):
    """A line that the database refuses is lost alone."""
    caplog.set_level(logging.CRITICAL)
    await ledger.begin(make_begun("twice"))
    results = await asyncio.gather(
        ledger.begin(make_begun("twice")), ledger.begin(make_begun("good")), return_exceptions=True
    )
    assert isinstance(results[0], LedgerUnavailable)
    assert results[1] is None
    assert {row["id"] for row in read(engine, ATTEMPTS)} == {"twice", "good"}


async def test_a_caller_who_leaves_holds_nothing(engine, ledger):
    """Whoever is cancelled while it is written leaves neither an attempt nor money behind."""
    budget = make_budget(engine, 1000)
    gate = threading.Event()

    def wait(connection):
        gate.wait(10)

    event.listen(engine, "begin", wait)
    asking = [
        asyncio.create_task(ledger.begin(make_begun())),
        asyncio.create_task(ledger.reserve(make_reservation(budget))),
    ]
    await asyncio.sleep(0)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    gate.set()
    event.remove(engine, "begin", wait)
    other = make_reservation(budget)
    ledger.settle(other, await ledger.reserve(other), 5)
    await ledger.begin(make_begun("a2"))
    await asyncio.to_thread(ledger.close)
    assert {row["id"]: row["state"] for row in read(engine, ATTEMPTS)} == {
        "a1": "unbilled",
        "a2": "reserved",
    }
    assert window(engine, budget) == [(0, 5, 0)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE windows SET reserved = -1",
        "UPDATE windows SET spent = -1",
        "UPDATE attempts SET state = 'made up'",
        "UPDATE attempts SET cost = -1",
        "UPDATE budgets SET amount = -1",
    ],
)
async def test_the_database_refuses_nonsense(engine, ledger, statement):
    """No money is ever negative, and no state unknown, whoever writes it."""
    budget = make_budget(engine, 1000)
    await ledger.begin(make_begun())
    await ledger.reserve(make_reservation(budget))
    with pytest.raises(Exception, match=r"(?i)check"), engine.begin() as connection:
        connection.execute(text(statement))


def kill(ledger):
    """Let its thread end as that of a killed process: nothing more is written."""
    ledger._try = lambda write: None
    ledger.close()


class Broken:
    """A database whose disk is full, until it is mended."""

    def __init__(self, engine):
        self._engine, self.tries = engine, 0
        event.listen(engine, "begin", self._fail)

    def _fail(self, connection):
        self.tries += 1
        cause = sqlite3.OperationalError("database or disk is full")
        raise OperationalError("BEGIN", None, cause)

    def mend(self):
        """Room again."""
        event.remove(self._engine, "begin", self._fail)


async def test_a_full_disk(tmp_path, clock, caplog):
    """A disk without room for more stops what is paid, and nothing else; once there is room, what
    ended meanwhile is written and paid requests go on."""
    caplog.set_level(logging.CRITICAL)
    engine = open_database(tmp_path)
    with engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar()
    limit = [pages + 4]
    event.listen(engine, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count={limit[0]}"))
    engine.dispose()
    ledger = Ledger(engine, clock, "p1")
    results = [
        await asyncio.gather(
            ledger.begin(make_begun(f"a{i}", request_id="r" * 500)), return_exceptions=True
        )
        for i in range(100)
    ]
    begun = results.count([None])
    assert 0 < begun < 100
    assert isinstance(results[begun][0], LedgerUnavailable)
    ledger.end(make_ended("a0"))
    limit[0] = pages + 1000
    clock.advance(1.0)
    await ledger.begin(make_begun("later"))
    await asyncio.to_thread(ledger.close)
    states = {row["id"]: row["state"] for row in read(engine, ATTEMPTS)}
    assert states == {f"a{i}": "reserved" for i in range(1, begun)} | {
        "a0": "settled",
        "later": "reserved",
    }
    engine.dispose()


async def test_no_two_processes_wait_for_each_other(running_postgres, tmp_path, clock):
    """Whatever a transaction does to windows, it has first locked all of them, in one order: also
    where it only charges what was held back."""
    with running_postgres.database() as url:
        engine = open_database(tmp_path, url)
        ledger, seen = Ledger(engine, clock, "p1"), []
        budgets = [make_budget(engine, 1000, owner=name) for name in ("b", "a", "c")]
        wanted = [make_reservation(budgets[0], budgets[2]), make_reservation(budgets[1])]
        held = [await ledger.reserve(one) for one in wanted]

        def note(connection, cursor, statement, *_):
            if "windows" in statement.lower():
                seen.append("lock" if "FOR UPDATE" in statement else statement.split()[0])

        event.listen(engine, "before_cursor_execute", note)
        for one, parts in zip(wanted, held, strict=True):
            ledger.settle(one, parts, 5)
        await asyncio.to_thread(ledger.close)
        engine.dispose()
    assert seen.count("UPDATE") == 3
    assert seen[0] == "lock"
