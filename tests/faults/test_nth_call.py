"""Whatever call of the transport, the store or the memory goes wrong, and however: the n-th one,
for every n, in every scenario."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from embedway.cached import Selection
from embedway.store.keys import KeyStore
from tests.fake_provider.faults import Fault, html, status
from tests.fake_provider.server import FakeProvider
from tests.faults.behaviours import LATE, RIGHT, UNAVAILABLE, WRONG, End
from tests.faults.harms import HARMS, Harm
from tests.faults.heard import Heard
from tests.faults.laws import TEXT, Laws
from tests.faults.listening import listening
from tests.faults.world import World

HURRY_S = 0.1
AT_ONCE_S = 5.0
MOST_CALLS = 24
BUG = End(500, "internal_error")
"""An exception that nobody has promised is a bug, and is told as one."""
CUT_OFF = End(503, "overloaded")
"""Whoever is cancelled from outside, as at the gateway's end, is told to come again."""
ENDS = (RIGHT, UNAVAILABLE, LATE, WRONG, BUG, CUT_OFF)
EACH = ("vllm", "lm-studio")


@dataclass(frozen=True)
class Scenario:
    """Some requests at once. known: which of the texts are known before."""

    requests: tuple[tuple[int, ...], ...]
    """The texts of each, by number."""
    known: tuple[int, ...] = ()
    is_on_disk_only: bool = False
    faults: tuple[Fault, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    account: Mapping[str, Any] = field(default_factory=dict)


ANY_ACCOUNT: Mapping[str, Any] = {"provider": {"order": [*EACH]}}
SCENARIOS: dict[str, Scenario] = {
    "one text": Scenario(((0,),)),
    "a batch": Scenario(((0, 1, 2),)),
    "a batch with doubles": Scenario(((0, 1, 0, 1),)),
    "half of a batch known": Scenario(((0, 1, 2, 3),), known=(1, 3)),
    "half of a batch on disk": Scenario(((0, 1, 2, 3),), known=(1, 3), is_on_disk_only=True),
    "all known": Scenario(((0, 1),), known=(0, 1)),
    "all on disk": Scenario(((0, 1),), known=(0, 1), is_on_disk_only=True),
    "two of the same": Scenario(((0,), (0,))),
    "two that share a text": Scenario(((0, 1), (1, 2))),
    "three that wait for one place": Scenario(((0,), (1,), (2,)), account={"concurrency": 1}),
    "cut into parts": Scenario(((0, 1, 2, 3, 4),), account={"max_inputs": 2}),
    "skips the cache": Scenario(((0, 1),), fields={"gateflow": {"cache": "skip"}}),
    "refreshes the cache": Scenario(((0,),), known=(0,), fields={"gateflow": {"cache": "refresh"}}),
    "a second attempt": Scenario(((0, 1),), faults=(status(503),)),
    "a second account": Scenario(((0, 1),), faults=(html(),), fields=ANY_ACCOUNT),
}


class Stage:
    """A scenario that is played again and again, each time with other texts."""

    def __init__(self, scenario: Scenario, keys: KeyStore, laws: Laws) -> None:
        self.scenario, self.laws = scenario, laws
        self.fake, self.harm = FakeProvider(), Harm()
        self.world = World(
            self.fake, EACH, keys, hurry_s=HURRY_S, keep=self.harm.keep, **scenario.account
        )
        self.world.send = self.harm.send(self.fake.send)
        self._played = 0

    async def play(self, number: int, harm: str, *, leaves: bool = False) -> int:
        """Play it with the n-th call harmed; how many calls there were. leaves: the callers hang
        up as soon as that call has begun."""
        self._played += 1
        await self._prepare()
        self.harm.plan(number, harm)
        is_late = harm == "hangs" and not leaves
        asking = [
            asyncio.create_task(self._ask(one, in_a_hurry=is_late))
            for one in self.scenario.requests
        ]
        if leaves:
            await self._hang_up(asking)
        heard = await asyncio.gather(*asking)
        calls = self.harm.calls
        self.harm.forget()
        self.fake.heal()
        await self._check_recovery()
        who = f"call {number} {harm}"
        for one, texts in zip(heard, self.scenario.requests, strict=True):
            if leaves and isinstance(one.crash, asyncio.CancelledError):
                self.laws.expect(not one.ends, "who has left gets nothing more", who, one)
                continue
            self._check(who, one, texts, ENDS if harm else (RIGHT,))
        return calls

    async def _prepare(self) -> None:
        if self.scenario.known:
            heard = await self.world.ask("vllm", self._texts(self.scenario.known))
            self._check("known before", heard, self.scenario.known, (RIGHT,))
        if self.scenario.is_on_disk_only:
            self.world.recent.purge(Selection())
        self.fake.next(*self.scenario.faults)

    async def _ask(self, texts: tuple[int, ...], *, in_a_hurry: bool) -> Heard:
        return await self.world.ask(
            "vllm", self._texts(texts), in_a_hurry=in_a_hurry, **self.scenario.fields
        )

    async def _hang_up(self, asking: list[asyncio.Task[Heard]]) -> None:
        begun = asyncio.create_task(self.harm.done.wait())
        await asyncio.wait([begun, *asking], return_when=asyncio.FIRST_COMPLETED)
        for task in (begun, *asking):
            task.cancel()
        await asyncio.gather(begun, return_exceptions=True)

    def _texts(self, numbers: tuple[int, ...]) -> list[str]:
        return [f"{TEXT} {self._played} {number}" for number in numbers]

    def _check(
        self,
        who: str,
        heard: Heard,
        texts: tuple[int, ...],
        ends: tuple[End, ...],
    ) -> None:
        self.laws.check_end(who, heard, ends, AT_ONCE_S)
        true = self.world.true_vectors("vllm", self._texts(texts))
        self.laws.check_vectors(who, heard, true)

    async def _check_recovery(self) -> None:
        """Ten seconds later all is as if nothing had been."""
        world = self.world
        world.clock.advance(10)
        await self.laws.check_leftovers(world.gateway, (world.app, world.hurried), (), None)
        texts = (100, 101)
        heard = await world.ask("vllm", self._texts(texts))
        self._check("afterwards", heard, texts, (RIGHT,))
        self.laws.check_books(world.ledger, world.sent.total(), world.fake.bill)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_nth_call(name: str, keys: KeyStore) -> None:
    """Each caller gets one whole and honest answer whichever call goes wrong, and nothing of it is
    left."""
    laws = Laws()
    with listening() as records:
        stage = Stage(SCENARIOS[name], keys, laws)
        await stage.world.start()
        calls = await stage.play(0, "")
        laws.expect(0 < calls <= MOST_CALLS, "some calls are made", calls)
        for number in range(1, calls + 1):
            for harm in HARMS:
                await stage.play(number, harm)
            await stage.play(number, "hangs", leaves=True)
    for record in records.all:
        laws.check_words("the log", record.getMessage())
    assert not laws.broken, "\n".join(laws.broken)
