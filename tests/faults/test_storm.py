"""Many callers at once while a provider fails: it must not be made worse by asking it more."""

from __future__ import annotations

import asyncio

import pytest

from embedway.store.keys import KeyStore
from tests.fake_provider.faults import Fault, reset, status
from tests.faults.behaviours import LIMITED, RIGHT, UNAVAILABLE, End
from tests.faults.laws import TEXT, Laws
from tests.faults.listening import listening
from tests.faults.quick_clock import TrueClock
from tests.faults.world import World, open_world

CALLERS = 200
MOST_CALLS = CALLERS * 1.1 + 30
"""One for each, and the budget of retries: a tenth, and three a second over ten seconds."""
AT_ONCE_S = 20.0
STORMS: dict[str, tuple[Fault, End]] = {
    "429": (status(429, "Slow down."), LIMITED),
    "503": (status(503), UNAVAILABLE),
    "reset": (reset(), UNAVAILABLE),
}


@pytest.mark.parametrize("name", STORMS)
async def test_storm(name: str, keys: KeyStore) -> None:
    """When all calls fail, many callers are answered honestly with no more calls than the budget
    of retries has; ten seconds after the last failure all of them are served."""
    fault, end = STORMS[name]
    laws = Laws()
    with listening() as records:
        async with open_world(["vllm"], keys, clock=TrueClock()) as (world, place):
            for fault_now, expected in ((fault, end), (None, RIGHT)):
                if fault_now is not None:
                    world.fake.always(fault_now)
                await _ask_all(world, laws, expected)
                apps = (world.app, world.hurried)
                await laws.check_leftovers(world.gateway, apps, place.connections, world.send)
                world.fake.heal()
                world.clock.advance(10)
            laws.check_books(world.ledger, world.sent.total(), world.fake.bill)
    laws.check_logs(records.all)
    assert not laws.broken, "\n".join(laws.broken)


async def _ask_all(world: World, laws: Laws, end: End) -> None:
    """Every caller has a text of his own."""
    texts = [f"{TEXT} {end.status} {number}" for number in range(CALLERS)]
    before = world.sent.total()
    heard = await asyncio.gather(*(world.ask("vllm", [text]) for text in texts))
    for text, one in zip(texts, heard, strict=True):
        laws.check_end("a caller", one, [end], AT_ONCE_S)
        laws.check_vectors("a caller", one, world.true_vectors("vllm", [text]))
    laws.check_calls("all callers", world.sent.total() - before, int(MOST_CALLS))
