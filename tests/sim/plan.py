"""What one seed decides beforehand: models and accounts, who asks what and when, which faults.

What it decides while the simulation runs (delays, which fault hits whom) is in `provider.py` and
`store.py`, each with a stream of chance of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal

from msgspec import Struct

from embedway.types import CacheMode, Input
from tests.sim.kinds import KINDS, Kind

BAD = "unwanted"
"""A text that begins with this word is refused by every provider."""
LONG_S = 1e6
"""A deadline that nobody reaches whom the gateway does not forget."""
FAULTS = (
    "unreachable", "lost", "silent", "429", "500", "503", "short", "nan", "garbage", "slow",
)  # fmt: skip


class Account(Struct, frozen=True, kw_only=True):
    """One account at a provider."""

    name: str
    kind: Kind
    max_inputs: int
    concurrency: int
    true_limit: int
    """The inputs it really takes at once; the operator may believe in more."""
    names_limit: bool
    """Whether its refusal says that number."""
    latency_s: float

    def __repr__(self) -> str:
        return f"{self.name} ({self.concurrency} calls of {self.max_inputs})"


class Caller(Struct, frozen=True, kw_only=True):
    """One request, and its caller's patience."""

    number: int
    kind: Kind
    inputs: tuple[Input, ...]
    dimensions: int | None
    input_type: str | None
    project: str
    user: str | None
    cache: CacheMode
    only: tuple[str, ...]
    order: tuple[str, ...]
    sort: Literal["cost", "latency"] | None
    is_byok: bool
    starts_s: float
    time_s: float
    """From the start to the deadline."""
    leaves_s: float | None
    """When he hangs up, from the start."""

    @property
    def terms(self) -> tuple[object, ...]:
        """All that must be equal for two callers to share the question of one text."""
        own = self.number if self.is_byok else None
        return (self.project, self.user, self.only, self.order, self.sort, own)

    @property
    def credential(self) -> str:
        """What he pays his own provider with."""
        return f"sk-caller-{self.number}"


class Plan(Struct, frozen=True, kw_only=True):
    """A whole run."""

    seed: int
    is_calm: bool
    """Whether nothing fails, nobody hurries and nobody leaves: then the books must agree."""
    accounts: tuple[Account, ...]
    callers: tuple[Caller, ...]
    later: tuple[Caller, ...]
    """Who asks when the faults have stopped."""
    faults: tuple[str, ...]
    fault_rate: float
    memory_bytes: int
    has_store: bool
    ttl_s: float


def make_plan(seed: int) -> Plan:
    """Everything that is known before the first callback runs."""
    chance = Random(f"{seed} plan")
    is_calm = chance.random() < 0.2
    kinds = chance.sample(KINDS, chance.randint(1, 3))
    accounts = tuple(account for kind in kinds for account in _accounts(kind, chance))
    callers = _Callers(chance, accounts, is_calm)
    has_store = chance.random() < 0.7
    count = chance.choice((100, 200, 250))
    return Plan(
        seed=seed,
        is_calm=is_calm,
        accounts=accounts,
        callers=tuple(callers.draw(number) for number in range(count)),
        later=tuple(callers.draw_patient(count + number) for number in range(20)),
        faults=tuple(chance.sample(FAULTS, chance.randint(1, len(FAULTS)))),
        fault_rate=0.0 if is_calm else chance.choice((0.02, 0.1, 0.3)),
        # A store makes it up; without one, what was just asked must find room.
        memory_bytes=chance.choice((0, 20_000, 10**9)) if has_store else 10**9,
        has_store=has_store,
        ttl_s=chance.choice((0.0, 0.0, 600.0)),
    )


def _accounts(kind: Kind, chance: Random) -> list[Account]:
    accounts = []
    for letter in "ab"[: chance.choice((1, 1, 2))]:
        max_inputs = chance.choice((1, 3, 32, 32, 96, 96))
        is_lower = chance.random() < 0.3
        accounts.append(
            Account(
                name=f"{kind.upstream.replace('/', '-')}-{letter}",
                kind=kind,
                max_inputs=max_inputs,
                concurrency=chance.randint(1, 4),
                true_limit=chance.randint(1, max_inputs) if is_lower else max_inputs,
                names_limit=chance.random() < 0.5,
                latency_s=chance.choice((0.01, 0.05, 0.3)),
            )
        )
    return accounts


class _Callers:
    """Draws callers who have texts, projects and accounts in common."""

    def __init__(self, chance: Random, accounts: Sequence[Account], is_calm: bool) -> None:
        self.chance = chance
        self.kinds = list(dict.fromkeys(account.kind for account in accounts))
        self.names = {
            kind: tuple(account.name for account in accounts if account.kind == kind)
            for kind in self.kinds
        }
        self.is_calm = is_calm
        self.spread_s = chance.choice((0.5, 5.0, 20.0, 2000.0))
        self.texts = [_text(number) for number in range(chance.choice((10, 40, 120)))]
        self.widths = {kind: chance.choices(kind.widths, (1, 30, 30)[: len(kind.widths)], k=2)
                       for kind in self.kinds}  # fmt: skip
        self.bad_share = 0.0 if is_calm else chance.choice((0.0, 0.02, 0.1, 0.3))
        self.cancel_share = 0.0 if is_calm else chance.choice((0.0, 0.0, 0.1, 0.3))
        self.hurry_share = 0.0 if is_calm else chance.choice((0.0, 0.2, 0.5))
        self.byok_share = chance.choice((0.0, 0.05))

    def draw(self, number: int) -> Caller:
        """One of the crowd."""
        chance = self.chance
        kind = chance.choice(self.kinds)
        names = self.names[kind]
        leaves = chance.random() < self.cancel_share
        hurries = chance.random() < self.hurry_share
        return Caller(
            number=number,
            kind=kind,
            inputs=self._inputs(kind),
            dimensions=chance.choice(self.widths[kind]),
            input_type=chance.choice(kind.input_types),
            project=chance.choice(("red", "red", "blue")),
            user=chance.choice((None, None, None, "u1", "u2")),
            cache=chance.choice(("use", "use", "use", "use", "skip", "refresh")),
            only=(chance.choice(names),) if chance.random() < 0.1 else (),
            order=(chance.choice(names),) if chance.random() < 0.2 else (),
            sort=chance.choice(("cost", "latency")) if chance.random() < 0.1 else None,
            is_byok=chance.random() < self.byok_share,
            starts_s=round(chance.random() * self.spread_s, 3),
            time_s=chance.choice((0.0, 0.05, 0.2, 0.5, 1.0, 5.0)) if hurries else LONG_S,
            leaves_s=chance.choice((0.0, 0.01, 0.1, 1.0)) if leaves else None,
        )

    def draw_patient(self, number: int) -> Caller:
        """One who asks for good texts only, waits, and wants them made anew."""
        chance, kind = self.chance, self.chance.choice(self.kinds)
        return Caller(
            number=number,
            kind=kind,
            inputs=tuple(chance.choices(self.texts, k=chance.randint(1, 12))),
            dimensions=chance.choice(self.widths[kind]),
            input_type=chance.choice(kind.input_types),
            project=chance.choice(("red", "blue")),
            user=None,
            cache="refresh",
            only=(),
            order=(),
            sort=None,
            is_byok=False,
            starts_s=round(chance.random(), 3),
            time_s=LONG_S,
            leaves_s=None,
        )

    def _inputs(self, kind: Kind) -> tuple[Input, ...]:
        chance = self.chance
        inputs: list[Input] = chance.choices(self.texts, k=1 + int(60 * chance.random() ** 4))
        if chance.random() < self.bad_share:
            if chance.random() < 0.3:
                return (f"{BAD} {chance.randrange(30)}",)
            # At both ends it looks as if the whole request were refused, not a text of it.
            for place in chance.choice(((0,), (len(inputs),), (len(inputs) // 2,), (0, -1))):
                bad = f"{BAD} {chance.randrange(3)}"
                inputs.insert(len(inputs) if place < 0 else place, bad)
        if kind.is_counted and chance.random() < 0.1:
            inputs.append(tuple(chance.choices((40, 100, 2000), k=chance.randint(1, 4))))
        return tuple(inputs)


def _text(number: int) -> str:
    words = ("tree", "Straße", "日本", "of", "unbelievable", "\N{GRINNING FACE}", "x")
    return " ".join(words[(number * step) % 7] for step in range(1, 2 + number % 9)) + f" {number}"
