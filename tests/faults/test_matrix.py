"""Every fault at every provider's adapter, through the whole application and real connections.

Adapters: one of each shape. Those that are rows of OpenAI's (all that speak its dialect) share its
code to the last line, and `test_adapters.py` asks them all.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from embedway.store.keys import KeyStore
from embedway.transport import Transport
from tests.fake_provider.shapes.all import SHAPES
from tests.faults.behaviours import BEHAVIOURS, RIGHT, Behaviour
from tests.faults.certificates import client_context
from tests.faults.laws import TEXT, Laws
from tests.faults.listening import listening
from tests.faults.place import Place
from tests.faults.world import World, open_world

PROVIDERS = (
    "openai", "azure", "bedrock", "cohere", "google", "jina", "mistral", "nomic", "ollama", "tei",
    "vertex", "voyage",
)  # fmt: skip
AT_ONCE_S = 15.0
"""What a loaded machine takes for all of them side by side."""
MOST_BYTES = 96 * 2**20
"""Of all providers at once: to inflate a bomb goes in steps of some megabytes."""
RECOVERY_S = 10.0
"""So long after the last fault all is as before."""


@contextmanager
def measured(laws: Laws, behaviour: Behaviour) -> Iterator[None]:
    """Measure what memory it takes, where that is the danger."""
    if not behaviour.is_large:
        yield
        return
    tracemalloc.start(1)
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
        laws.expect(peak < MOST_BYTES, "memory is bounded", peak)
    finally:
        tracemalloc.stop()


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport trusts the tests' authority, and is quick to give up on a name."""
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", client_context())
    monkeypatch.setattr("embedway.transport._RESOLVE_TIMEOUT_S", 0.02)


class Case:
    """One behaviour of many providers, side by side."""

    def __init__(self, world: World, place: Place, behaviour: Behaviour, laws: Laws) -> None:
        self.world, self.place, self.behaviour, self.laws = world, place, behaviour, laws

    async def run(self, texts: Sequence[str], known: Sequence[str]) -> None:
        """Ask for the known texts while all is well, for all of them during the fault, and for
        others after it."""
        world, behaviour = self.world, self.behaviour
        able = await self._able()
        if known and not behaviour.is_public:
            await self._ask_all(known, [*world.models], when="before")
        async with Transport(self.place.names) as world.send:  # with no connection open yet
            async with behaviour.outage(self.place):
                for provider in able:
                    world.fake.next(*behaviour.once, of=provider)
                    if behaviour.always is not None:
                        world.fake.always(behaviour.always, of=provider)
                await self._ask_all(texts, able, when="during", is_faulty=True)
                await self._check_leftovers()
            world.fake.heal()
            world.clock.advance(RECOVERY_S)
            if not behaviour.is_public:
                after = [f"{text} after" for text in texts]
                await self._ask_all(after, able, when="after")
                await self._check_leftovers()
            asked = {request.provider for request in world.fake.requests}
            self.laws.expect(asked <= {*world.models}, "no redirect is followed", asked)
            self.laws.check_books(world.ledger, world.sent.total(), world.fake.bill)

    async def _able(self) -> list[str]:
        """The providers that can answer so."""
        world, behaviour = self.world, self.behaviour
        if behaviour.needs is None:
            return [*world.models]
        await self._ask_all([f"{TEXT} to see the form"], [*world.models], when="before")
        asked = {one.provider: SHAPES[one.provider].read(one) for one in world.fake.requests}
        return [name for name, one in asked.items() if behaviour.needs(SHAPES[name], one)]

    async def _ask_all(
        self, texts: Sequence[str], providers: Sequence[str], *, when: str, is_faulty: bool = False
    ) -> None:
        asking = [self._ask(one, texts, when, is_faulty=is_faulty) for one in providers]
        await asyncio.gather(*asking)

    async def _ask(
        self, provider: str, texts: Sequence[str], when: str, *, is_faulty: bool
    ) -> None:
        world, laws, behaviour = self.world, self.laws, self.behaviour
        who, before = f"{provider} {when}", world.sent[provider]
        own = [f"{text} {provider}" for text in texts]
        in_a_hurry = behaviour.is_slow and is_faulty
        heard = await world.ask(provider, own, in_a_hurry=in_a_hurry)
        ends = (behaviour.end, behaviour.or_else) if is_faulty else (RIGHT,)
        laws.check_end(who, heard, ends, AT_ONCE_S)
        laws.check_vectors(who, heard, world.true_vectors(provider, own))
        laws.check_calls(who, world.sent[provider] - before, behaviour.calls)

    async def _check_leftovers(self) -> None:
        world = self.world
        await self.laws.check_leftovers(
            world.gateway, (world.app, world.hurried), self.place.connections, world.send
        )


TEXTS = [f"{TEXT} {number}" for number in range(6)]
AMOUNTS = {"one text": (TEXTS[:1], []), "half of a batch known": (TEXTS, TEXTS[::2])}

CASES = [
    pytest.param(name, amount, id=f"{name}-{amount}".replace(" ", "-"))
    for name, behaviour in BEHAVIOURS.items()
    for amount, (texts, _) in AMOUNTS.items()
    if len(texts) >= behaviour.texts
]


@pytest.mark.parametrize(("name", "amount"), CASES)
async def test_fault(name: str, amount: str, keys: KeyStore) -> None:
    """Whatever a provider does, each request ends in one whole and honest answer, nothing is left
    of it, and all is well ten seconds later."""
    behaviour, laws = BEHAVIOURS[name], Laws()
    with listening() as records, measured(laws, behaviour):
        async with open_world(
            PROVIDERS, keys, is_secure=behaviour.is_secure, is_public=behaviour.is_public
        ) as (world, place):
            await Case(world, place, behaviour, laws).run(*AMOUNTS[amount])
    laws.check_logs(records.all)
    assert not laws.broken, "\n".join(laws.broken)


ELSEWHERE = {
    name: behaviour
    for name, behaviour in BEHAVIOURS.items()
    if behaviour.always is not None and behaviour.end.status not in (200, 400)
}


@pytest.mark.parametrize("name", ELSEWHERE)
async def test_elsewhere(name: str, keys: KeyStore) -> None:
    """Whatever goes wrong at one account, callers get their vectors from another one of the same
    model, in time even if the first one never answers."""
    behaviour, laws = ELSEWHERE[name], Laws()
    with listening() as records:
        async with open_world(("vllm", "lm-studio"), keys, hurry_s=2.0) as (world, place):
            assert behaviour.always is not None
            world.fake.always(behaviour.always, of="vllm")
            for number in range(1 if behaviour.is_slow else 8):
                await _ask_elsewhere(world, laws, behaviour, number)
            laws.expect(world.sent["vllm"] > 0, "the first account was asked", world.sent)
            await laws.check_leftovers(
                world.gateway, (world.app, world.hurried), place.connections, world.send
            )
            laws.check_books(world.ledger, world.sent.total(), world.fake.bill)
    laws.check_logs(records.all)
    assert not laws.broken, "\n".join(laws.broken)


async def _ask_elsewhere(world: World, laws: Laws, behaviour: Behaviour, number: int) -> None:
    """Ask the one that fails first."""
    texts = [f"{TEXT} {number} {position}" for position in range(3)]
    order, before = {"order": ["vllm", "lm-studio"]}, world.sent.total()
    heard = await world.ask("vllm", texts, in_a_hurry=behaviour.is_slow, provider=order)
    laws.check_end("a caller", heard, [RIGHT], AT_ONCE_S)
    laws.check_vectors("a caller", heard, world.true_vectors("vllm", texts))
    laws.check_calls("a caller", world.sent.total() - before, behaviour.calls)
