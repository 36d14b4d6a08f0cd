"""A ledger in memory: what layers wrote down, and trouble on demand."""

from embedway.errors import LedgerUnavailable
from embedway.ledger import AttemptEnded, Held


class MemoryLedger:
    """Notes every call in order; raises *trouble* in place of writing, once it is set. What is paid
    must not be noted as if it were free: its end would wait."""

    def __init__(self):
        self.trouble = None
        self.begun, self.noted, self.ended = [], [], []
        self.reserved, self.settled = [], []
        self._free = set()

    async def begin(self, attempt):
        """An attempt that is paid."""
        if self.trouble is not None:
            raise self.trouble
        self.begun.append(attempt)

    def note(self, attempt):
        """One that is free, or its end."""
        if isinstance(attempt, AttemptEnded):
            assert attempt.id in self._free
            self.ended.append(attempt)
        else:
            self._free.add(attempt.id)
            self.noted.append(attempt)

    def end(self, attempt):
        """What became of one that is paid."""
        assert attempt.id not in self._free
        self.ended.append(attempt)

    async def reserve(self, wanted):
        """Hold back."""
        if self.trouble is not None:
            raise self.trouble
        self.reserved.append(wanted)
        return tuple(Held(budget.id, 0) for budget in wanted.budgets)

    def settle(self, wanted, held, cost):
        """What it cost."""
        assert wanted in self.reserved
        self.settled.append((wanted, held, cost))


def unavailable():
    """The trouble of a ledger that cannot be written."""
    return LedgerUnavailable("no ledger", retry_after_s=1.0)
