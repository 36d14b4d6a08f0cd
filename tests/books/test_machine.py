"""Books and budgets against a model of them: several gateways on one database, of which any may end
well, die, be slow, or be taken for dead; time goes on, and whatever happens the sums are true."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from embedway.budgets import Period, window_of
from embedway.errors import BudgetExceeded
from embedway.ledger import AttemptBegun, AttemptEnded, Held, Reservation
from embedway.store.budgets import BudgetStore
from embedway.store.database import ATTEMPTS, WINDOWS, open_database
from embedway.store.ledger import Ledger
from tests.books.checker import reserved, rows
from tests.fakes import FakeClock

START = 1_800_000_000.0
AMOUNTS: dict[Period, int] = {"day": 100, "month": 150, "total": 400}
AMOUNT = st.integers(1, 60)
NUMBER = st.integers(0, 50)
REMEMBERED_S = 86_400


class Books(RuleBasedStateMachine):
    """Every step is done by one of the gateways; the model counts along."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.engine = open_database(Path(self.folder.name))
        self.clock = FakeClock(now=START)
        self.ids = itertools.count()
        self.gateways: dict[str, Ledger] = {}
        self.clocks: dict[str, FakeClock] = {}
        """Each gateway has one: when it looks around is for the test to say, not for its thread."""
        self.states: dict[str, tuple[str, int]] = {}
        """Attempt to state and cost."""
        self.spent: dict[tuple[Period, int], int] = {}
        self.held: dict[str, tuple[str, Reservation, tuple[Held, ...]]] = {}
        """Reservation to who made it, and what."""
        self.back = 0
        """Seconds that the clock was set back."""
        self.written_off: set[str] = set()
        """Reservations whose gateway was taken for dead."""
        self.forgotten: set[str] = set()
        """Those of them that are older than a day: what they truly cost is not asked any more."""

    @initialize()
    def begin(self) -> None:
        """Three budgets of one key, and a first gateway."""
        store = BudgetStore(self.engine, self.clock)
        for period, amount in AMOUNTS.items():
            store.set("key", "k1", period, amount)
        self.budgets = store.all()
        self.period_of = {budget.id: budget.period for budget in self.budgets}
        self.start()

    @precondition(lambda self: len(self.gateways) < 3)
    @rule()
    def start(self) -> None:
        """One more gateway."""
        name = f"p{next(self.ids)}"
        self.clocks[name] = FakeClock(now=self.clock.now())
        self.gateways[name] = Ledger(self.engine, self.clocks[name], name, idle_s=600.0)
        self._flush(name)  # its thread has looked around

    @rule(which=NUMBER, amount=AMOUNT)
    def reserve(self, which: int, amount: int) -> None:
        """A request holds back what it may cost: exactly if every budget covers it."""
        name, gateway = self._gateway(which)
        now_ms = int(self.clock.now() * 1000)
        wanted = Reservation(
            id=f"r{next(self.ids)}", budgets=self.budgets, amount=amount, created_ms=now_ms
        )
        fits = all(self._used(period, now_ms) + amount <= most for period, most in AMOUNTS.items())
        try:
            held = self.runner.run(gateway.reserve(wanted))
        except BudgetExceeded:
            assert not fits
            return
        assert fits
        self.held[wanted.id] = (name, wanted, held)

    @precondition(lambda self: self.held)
    @rule(which=NUMBER, cost=st.integers(0, 60))
    def settle(self, which: int, cost: int) -> None:
        """A request ends and costs no more than it held back; also one that was written off."""
        id = sorted(self.held)[which % len(self.held)]
        name, wanted, held = self.held[id]
        if name not in self.gateways:
            return  # it died with its gateway
        cost = min(cost, wanted.amount)
        self.gateways[name].settle(wanted, held, cost)
        self._flush(name)
        del self.held[id]
        paid = cost - wanted.amount if id in self.written_off else cost
        self.written_off.discard(id)
        self._charge(held, 0 if id in self.forgotten else paid)

    @rule(which=NUMBER, cost=AMOUNT)
    def attempt(self, which: int, cost: int) -> None:
        """A gateway is about to ask a provider."""
        name, gateway = self._gateway(which)
        id = f"{name}/a{next(self.ids)}"
        begun = AttemptBegun(
            id=id,
            request_id="r",
            key_id="k1",
            project="default",
            model="m",
            provider="p",
            inputs=1,
            reserved_tokens=cost,
            reserved_cost=cost,
            created_ms=int(self.clock.now() * 1000),
        )
        self.runner.run(gateway.begin(begun))
        self.states[id] = ("reserved", cost)

    @rule(which=NUMBER, state=st.sampled_from(["settled", "unbilled"]))
    def end(self, which: int, state: str) -> None:
        """An attempt ends, also one that was written off."""
        mine = [
            id
            for id, (now, _) in sorted(self.states.items())
            if now in ("reserved", "unknown") and id.partition("/")[0] in self.gateways
        ]
        if not mine:
            return
        id = mine[which % len(mine)]
        name = id.partition("/")[0]
        self.gateways[name].end(
            AttemptEnded(id=id, state=state, tokens=1, cost=1, ended_ms=0)  # type: ignore[arg-type]
        )
        self._flush(name)
        self.states[id] = (state, 1)

    @precondition(lambda self: len(self.gateways) > 1)
    @rule(which=NUMBER)
    def die(self, which: int) -> None:
        """A gateway is gone from one moment to the next."""
        name, gateway = self._gateway(which)
        gateway._try = lambda write: None  # type: ignore[method-assign]
        gateway.close()
        del self.gateways[name]

    @rule(seconds=st.sampled_from([31, 3_600, 86_400]), which=NUMBER)
    def time_goes_on(self, seconds: int, which: int) -> None:
        """One gateway looks around first, after so long: all who were silent are dead to it."""
        seconds, self.back = seconds + self.back, 0
        self.clock.advance(seconds)
        looks, _ = self._gateway(which)
        for name in (looks, *(name for name in self.gateways if name != looks)):
            self.clocks[name].advance(seconds)
            self._flush(name)  # the others say that they live, after all
        self._write_off(all_but=looks)

    @rule()
    def clock_goes_back(self) -> None:
        """Somebody sets the machine's clock back by a while."""
        for clock in (self.clock, *self.clocks.values()):
            clock.set_back(5)
        self.back += 5

    @invariant()
    def sums_are_true(self) -> None:
        """The database says what the model says, and no budget is passed."""
        booked = {row["id"]: row for row in rows(self.engine, ATTEMPTS)}
        assert {id: row["state"] for id, row in booked.items()} == {
            id: state for id, (state, _) in self.states.items()
        }
        for id, (state, cost) in self.states.items():
            assert state == "reserved" or booked[id]["cost"] == cost
        alive = {id for id in self.held if id not in self.written_off}
        assert {row["request_id"] for row in reserved(self.engine)} == alive
        for row in rows(self.engine, WINDOWS):
            period = self.period_of[row["budget_id"]]
            assert row["spent"] == self.spent.get((period, row["starts_ms"]), 0)
            assert row["spent"] + row["reserved"] <= AMOUNTS[period]

    def teardown(self) -> None:
        """Close it all."""
        for gateway in self.gateways.values():
            gateway.close()
        self.engine.dispose()
        self.runner.close()
        self.folder.cleanup()

    def _gateway(self, which: int) -> tuple[str, Ledger]:
        name = sorted(self.gateways)[which % len(self.gateways)]
        return name, self.gateways[name]

    def _flush(self, name: str) -> None:
        """What a gateway was told is written when this one comes back."""
        nothing = Reservation(id=f"n{next(self.ids)}", budgets=(), amount=0, created_ms=0)
        self.runner.run(self.gateways[name].reserve(nothing))

    def _used(self, period: Period, now_ms: int) -> int:
        newest = max((starts for p, starts in self._windows() if p == period), default=-1)
        starts = max(window_of(period, now_ms).starts_ms, newest)
        held = sum(
            wanted.amount
            for id, (_, wanted, parts) in self.held.items()
            if id not in self.written_off
            for part in parts
            if (self.period_of[part.budget_id], part.starts_ms) == (period, starts)
        )
        return self.spent.get((period, starts), 0) + held

    def _windows(self) -> set[tuple[Period, int]]:
        return {
            (self.period_of[row["budget_id"]], row["starts_ms"])
            for row in rows(self.engine, WINDOWS)
        }

    def _charge(self, held: tuple[Held, ...], cost: int) -> None:
        for part in held:
            window = (self.period_of[part.budget_id], part.starts_ms)
            self.spent[window] = self.spent.get(window, 0) + cost

    def _write_off(self, all_but: str) -> None:
        for id, (state, cost) in self.states.items():
            if state == "reserved" and id.partition("/")[0] != all_but:
                self.states[id] = ("unknown", cost)
        for id, (name, wanted, held) in self.held.items():
            if name != all_but and id not in self.written_off:
                self.written_off.add(id)
                self._charge(held, wanted.amount)
            is_old = wanted.created_ms < (self.clock.now() - REMEMBERED_S) * 1000
            if id in self.written_off and is_old:
                self.forgotten.add(id)


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
