"""The laws of money: callers never pay more than was billed, nobody pays for what was known, and
without failures both sides agree to the last picodollar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from embedway.ledger import UsageLine
from embedway.types import CACHED, Embedding
from tests.memory_ledger import MemoryLedger
from tests.sim.log import Log
from tests.sim.traffic import OPERATOR, Sent, Traffic, Visit, Wanted


class Books:
    """Both sides. Takes the gateway's ledger lines as well (`embedway.layers.meter.Book`)."""

    def __init__(self, log: Log, traffic: Traffic) -> None:
        self._log = log
        self._traffic = traffic
        self._lines: dict[str, list[UsageLine]] = {}
        self._billed: Counter[Wanted] = Counter()
        self._paid: Counter[Wanted] = Counter()
        self.billed = 0
        """Picodollars, of all calls under the operator's credential."""
        self.paid = 0

    def add(self, line: UsageLine) -> None:
        """The gateway has written a line."""
        self._lines.setdefault(line.id, []).append(line)

    def bill(self, sent: Sent, tokens: int) -> None:
        """A provider has done its work, whether or not the answer arrives."""
        if sent.credential == OPERATOR:
            self.billed += tokens * sent.account.kind.price
            self._billed.update(sent.wants)

    def collect(self, visit: Visit, embedding: Embedding, position: int) -> None:
        """A caller was answered; check what he pays for one vector."""
        caller, wanted, cost = visit.caller, visit.wants[position], embedding.cost
        expect, where = self._log.expect, (caller.number, position)
        price = 0 if caller.is_byok or embedding.source == CACHED else caller.kind.price
        expect(cost in (0, embedding.tokens * price), "a vector costs its tokens", *where, cost)
        if cost:
            self.paid += cost
            self._paid[wanted] += 1
        elif price and wanted not in visit.wants[:position]:
            is_shared = any(self._traffic.shared(visit, wanted))
            expect(is_shared, "only a shared question is free", *where)
            self._log.met["shared question"] += 1

    def check_lines(self, visit: Visit, status: int, cost: int) -> None:
        """Each request has one line, which says how it ended and what it cost."""
        lines = self._lines.get(f"{visit.caller.number:026d}", [])
        told = [(line.status, line.cost) for line in lines]
        law = "each request has one true line in the ledger"
        self._log.expect(told == [(status, cost)], law, visit.caller.number, told, status, cost)

    def check_attempts(self, ledger: MemoryLedger) -> None:
        """Each call stands in the book with one end, and the bill lies between what is settled and
        that with what is unknown."""
        expect, states = self._log.expect, Counter[str]()
        begun = Counter(one.id for one in (*ledger.begun, *ledger.noted))
        ended = Counter(one.id for one in ledger.ended)
        expect(begun == ended, "each attempt has one end", len(begun - ended), len(ended - begun))
        for one in ledger.ended:
            states[one.state] += one.cost
        told = (self.billed, dict(states))
        expect(states["settled"] <= self.billed, "nothing is settled that was not billed", *told)
        most = states["settled"] + states["unknown"]
        expect(self.billed <= most, "no bill is missing in the book", *told)

    def check_sums(self, *, is_exact: bool) -> None:
        """No more is paid than was billed, in all and for each text."""
        agree = self.paid == self.billed if is_exact else self.paid <= self.billed
        self._log.expect(agree, "what is paid was billed", self.paid, self.billed)
        over: Mapping[Wanted, int] = self._paid - self._billed
        self._log.expect(not over, "no text is paid for more often than billed", dict(over))
