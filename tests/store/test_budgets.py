"""Budgets are set and removed without touching what was spent."""

import threading

import pytest
from sqlalchemy import insert, text

from embedway.budgets import Window
from embedway.money import PICODOLLARS
from embedway.store.budgets import BudgetStore
from embedway.store.database import WINDOWS, StoreError
from tests.fakes import FakeClock

NOW_MS = 1_800_000_000_000  # 2027-01-15 08:00 UTC
DAY = Window(1_799_971_200_000, 1_800_057_600_000)
MONTH = Window(1_798_761_600_000, 1_801_440_000_000)


@pytest.fixture
def store(engine):
    """No budgets yet."""
    return BudgetStore(engine, FakeClock())


def count(engine, budget, window, spent, reserved=0):
    """Write down what the ledger would."""
    with engine.begin() as connection:
        connection.execute(
            insert(WINDOWS).values(
                budget_id=budget.id,
                starts_ms=window.starts_ms,
                ends_ms=window.ends_ms,
                spent=spent,
                reserved=reserved,
            )
        )


def test_set(store):
    """A budget is kept as it was set, and each owner has one for each period."""
    made = [
        store.set(kind, owner, period, amount)
        for kind, owner, period, amount in (
            ("key", "k1", "day", 1),
            ("key", "k1", "month", 5 * PICODOLLARS),
            ("key", "k1", "total", 0),
            ("key", "k2", "day", 2),
            ("project", "k1", "day", 2**62),
        )
    ]

    assert store.all() == tuple(made)
    assert len({budget.id for budget in made}) == 5
    assert {budget.created_ms for budget in made} == {NOW_MS}


def test_randomness_is_passed_in(engine):
    """A budget's id comes from where the store was told to take it."""
    budget = BudgetStore(engine, FakeClock(), lambda count: "ab" * count).set("key", "k", "day", 1)

    assert budget.id == "ab" * 8


def test_another_amount(engine, store):
    """A budget that is set anew has the new amount, and is otherwise the same: what was spent of
    it stays spent."""
    first = store.set("key", "k1", "day", 10)
    count(engine, first, DAY, 7, 2)
    second = store.set("key", "k1", "day", 8)

    assert (second.id, second.amount, second.created_ms) == (first.id, 8, first.created_ms)
    (state,) = store.states(NOW_MS)
    assert (state.budget, state.spent, state.reserved, state.left) == (second, 7, 2, 0)


def test_remove(engine, store):
    """A budget that is removed is gone with its count; the others stay, and a new one of the same
    owner begins with nothing spent."""
    gone, other = store.set("key", "k1", "day", 10), store.set("key", "k1", "month", 10)
    count(engine, gone, DAY, 7)
    count(engine, other, MONTH, 3)

    assert store.remove("key", "k1", "day")
    assert not store.remove("key", "k1", "day")
    assert not store.remove("project", "k1", "month")
    assert [(state.budget, state.spent) for state in store.states(NOW_MS)] == [(other, 3)]
    assert store.set("key", "k1", "day", 10).id != gone.id
    assert [state.spent for state in store.states(NOW_MS)] == [0, 3]


@pytest.mark.parametrize(
    ("period", "window"), [("day", DAY), ("month", MONTH), ("total", Window(0, None))]
)
def test_states(engine, store, period, window):
    """A budget's state is that of its window of now, and nothing is spent where none was
    opened."""
    budget = store.set("key", "k1", period, 10)

    (before,) = store.states(NOW_MS)
    count(engine, budget, window, 4, 3)
    (after,) = store.states(NOW_MS)

    assert (before.budget, before.window, before.spent, before.reserved) == (budget, window, 0, 0)
    assert (after.window, after.spent, after.reserved, after.left) == (window, 4, 3, 3)


def test_a_window_that_is_over(engine, store):
    """What was spent in a window does not count in the next one."""
    budget = store.set("key", "k1", "day", 10)
    count(engine, budget, DAY, 4)

    assert [s.spent for s in store.states(DAY.ends_ms - 1)] == [4]
    (next_day,) = store.states(DAY.ends_ms)
    assert (next_day.spent, next_day.window.starts_ms) == (0, DAY.ends_ms)


def test_a_clock_that_goes_back(engine, store):
    """The newest window counts until it is over, also for a clock that was put back before it."""
    budget = store.set("key", "k1", "day", 10)
    count(engine, budget, Window(DAY.starts_ms - 86_400_000, DAY.starts_ms), 9)
    count(engine, budget, DAY, 4)

    (state,) = store.states(DAY.starts_ms - 1)
    assert (state.window, state.spent) == (DAY, 4)


def test_set_at_once(engine, store):
    """Of several that set the same budget at once all succeed, and there is one."""
    made, barrier = [], threading.Barrier(4)

    def set_it(amount):
        barrier.wait()
        made.append(store.set("key", "k1", "day", amount))

    threads = [threading.Thread(target=set_it, args=(amount,)) for amount in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 4
    assert {budget.id for budget in made} == {budget.id for budget in store.all()}
    assert len(store.all()) == 1


def test_a_store_in_trouble(engine, store):
    """Where budgets cannot be read or written, the error is a StoreError."""
    with pytest.raises(StoreError, match="the budgets cannot be written"):
        store.set("key", "k1", "day", -1)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE budgets RENAME TO gone"))

    for act in (store.all, lambda: store.states(NOW_MS)):
        with pytest.raises(
            StoreError, match=r"the budgets cannot be read: (Operational|Programming)Error"
        ):
            act()
    for act in (
        lambda: store.set("key", "k1", "day", 1),
        lambda: store.remove("key", "k1", "day"),
    ):
        with pytest.raises(StoreError, match="the budgets cannot be written"):
            act()
