"""The laws of what goes out, as providers see it: never too much at once, nothing twice, nothing
under a wrong name."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator

from msgspec import Struct

from embedway.types import Input
from tests.sim.log import Log
from tests.sim.plan import Account, Caller

OPERATOR = "sk-operator"
"""The credential that the gateway's own accounts have."""

AT_ONCE_S = 1e-6
"""Virtual seconds between a cause and its effect at the same time: rounding, and nothing else."""

HEALED_S = 10.0
"""So long after the last failure nobody is refused for its sake any more."""

Wanted = tuple[str, int, str, Input]
"""Model, width as the provider is asked for it, task, text: what decides a provider's vector."""


class Sent(Struct, frozen=True, eq=False, kw_only=True):
    """One upstream call."""

    number: int
    account: Account
    inputs: tuple[Input, ...]
    model: str
    width: int
    task: str
    user: str | None
    credential: str

    def __repr__(self) -> str:
        return f"call {self.number} to {self.account.name} for {self.user} with {self.credential}"

    @property
    def wants(self) -> list[Wanted]:
        """What is asked for, text by text."""
        model = self.account.kind.model
        return [(model, self.width, self.task, value) for value in self.inputs]


class Visit:
    """A caller from his coming to his going."""

    __slots__ = ("caller", "came_s", "terms", "wants", "went_s")

    def __init__(self, caller: Caller) -> None:
        kind = caller.kind
        width, task = kind.asked_width(caller.dimensions), kind.task(caller.input_type)
        self.caller = caller
        self.came_s = now_s()
        self.went_s: float | None = None
        self.wants: list[Wanted] = [(kind.model, width, task, value) for value in caller.inputs]
        self.terms: Hashable = caller.terms

    @property
    def deadline_s(self) -> float:
        """When his time is over."""
        return self.came_s + self.caller.time_s

    def overlaps(self, other: Visit) -> bool:
        """Whether both were there at one time."""
        return (other.went_s is None or self.came_s <= other.went_s) and (
            self.went_s is None or other.came_s <= self.went_s
        )


def now_s() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


class Traffic:
    """All visits, and the calls that are under way."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._in_flight: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._deserted_s: dict[str, float] = {}
        """When a caller of a model went last."""
        self._copies: defaultdict[Wanted, list[Sent]] = defaultdict(list)
        self._here: defaultdict[Wanted, list[Visit]] = defaultdict(list)
        self._left_behind: Counter[Wanted] = Counter()
        """How many went while their question may have been on its way with others'."""
        self.visits: defaultdict[Wanted, list[Visit]] = defaultdict(list)
        """Everybody who ever asked for it."""
        self._troubled_s: dict[str, float] = {}
        """When a call for a model failed last."""

    def came(self, visit: Visit) -> None:
        """A caller begins to wait."""
        self._waiting[visit.caller.kind.model] += 1
        for wanted in dict.fromkeys(visit.wants):
            self._here[wanted].append(visit)
            self.visits[wanted].append(visit)

    def went(self, visit: Visit, *, is_early: bool) -> None:
        """A caller no longer waits. is_early: he did not stay for the end of his question."""
        visit.went_s, model = now_s(), visit.caller.kind.model
        self._waiting[model] -= 1
        self._deserted_s[model] = visit.went_s
        for wanted in dict.fromkeys(visit.wants):
            self._here[wanted].remove(visit)
            self._left_behind[wanted] += is_early

    def rest(self) -> None:
        """Nobody is there, and nothing is under way."""
        self._left_behind.clear()

    def shared(self, visit: Visit, wanted: Wanted) -> Iterator[Visit]:
        """With whom the question of that text could be shared."""
        for other in self.visits[wanted]:
            if other is not visit and other.terms == visit.terms and other.overlaps(visit):
                yield other

    def was_troubled(self, visit: Visit) -> bool:
        """Whether a call failed since he, or somebody whose question he may share, came; or so
        shortly before that its account may still be at rest."""
        sharers = (other for wanted in visit.wants for other in self.shared(visit, wanted))
        since_s = min([visit.came_s, *(other.came_s for other in sharers)])
        return self._troubled_s.get(visit.caller.kind.model, -HEALED_S) >= since_s - HEALED_S

    def sent(self, sent: Sent) -> None:
        """A call reaches its provider."""
        account, expect = sent.account, self._log.expect
        self._log.write(f"call {sent.number} to {account.name}: {len(sent.inputs)} inputs")
        self._in_flight[account.name] += 1
        in_flight = self._in_flight[account.name]
        expect(in_flight <= account.concurrency, "no more calls at once than allowed", account)
        expect(len(sent.inputs) <= account.max_inputs, "no more inputs than allowed", account)
        expect(sent.model == account.kind.upstream, "each account is asked for its own model", sent)
        for wanted in sent.wants:
            copies = self._copies[wanted]
            copies.append(sent)
            is_asked = any(_fits(visit.caller, sent) for visit in self.visits[wanted])
            expect(is_asked, "a text goes out on its caller's terms alone", wanted, sent)
            if len(copies) > 1:
                terms = {visit.terms for visit in self._here[wanted]}
                most = len(terms) + self._left_behind[wanted]
                expect(len(copies) <= most, "no text is in flight twice", wanted, copies)
        self._note(sent)

    def landed(self, sent: Sent, end: str, *, is_fault: bool) -> None:
        """The call is over, whichever way. is_fault: by no fault of those who wait for it."""
        self._log.write(f"call {sent.number} ended: {end}")
        self._log.met[f"call: {end}"] += 1
        self._in_flight[sent.account.name] -= 1
        model = sent.account.kind.model
        is_used = self._waiting[model] > 0 or now_s() <= self._deserted_s[model] + AT_ONCE_S
        self._log.expect(is_used, "no call goes on for nobody", sent)
        for wanted in sent.wants:
            self._copies[wanted].remove(sent)
        if is_fault:
            self._troubled_s[model] = now_s()

    def _note(self, sent: Sent) -> None:
        callers = {visit.caller.number for visit in self._waiting_for(sent)}
        self._log.met["call for one" if len(callers) == 1 else "call for several"] += 1

    def _waiting_for(self, sent: Sent) -> Iterator[Visit]:
        for wanted in sent.wants:
            yield from self._here[wanted]


def _fits(caller: Caller, sent: Sent) -> bool:
    """Whether that caller's text may travel in this call."""
    credential = caller.credential if caller.is_byok else OPERATOR
    return (
        sent.user == (caller.user if caller.kind.takes_user else None)
        and credential == sent.credential
        and (not caller.only or sent.account.name in caller.only)
    )
