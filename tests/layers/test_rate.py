"""Rate lets through what the key's rates have room for, and gives back what it took."""

import asyncio

import pytest

from embedway.errors import RateLimited, UpstreamUnavailable
from embedway.layers.rate import Rate
from embedway.rates import KeyRates
from embedway.store.rate_memory import MemoryRates
from embedway.types import Embedding, Rates
from tests.fakes import FakeClock, ScriptedEmbedder, make_call, make_grant, make_request, until

ALL = Rates(requests_per_minute=100, tokens_per_minute=1000, concurrency=1)


class Limited:
    """The layer over scripted answers, with the rates of one key."""

    def __init__(self, *answers, rates=ALL):
        self.clock, self.inner = FakeClock(), ScriptedEmbedder(answers)
        self.rates = KeyRates(MemoryRates(self.clock), self.clock)
        self.layer = Rate(self.inner, self.rates)
        self.call = make_call(grant=make_grant(rates=rates))

    def ask(self, *inputs):
        """One request of the key."""
        return self.layer(make_request(*inputs, call=self.call))

    async def remaining(self):
        """What is left of its requests and of its tokens."""
        return tuple(one.remaining for one in await self.rates.allowances(self.call.grant))


async def test_a_key_without_rates_costs_nothing():
    """For a key without rates the layer is not there: what it gives is the inner call itself."""
    made = []

    def inner(request):
        made.append(ScriptedEmbedder()(request))
        return made[0]

    layer = Rate(inner, None)
    given = layer(make_request(call=make_call(grant=make_grant(rates=Rates()))))

    assert given is made[0]
    await given


async def test_counts_what_was_used():
    """A request counts once, and with the tokens that the answer has, not with the estimate."""
    limited = Limited()
    await limited.ask("one", "two" * 100)

    assert await limited.remaining() == (99, 1000 - 2 * 3)


async def test_a_failure_counts_what_was_finished():
    """Of a request that failed, the tokens of the inputs that were embedded count, and its place is
    free again."""
    error = UpstreamUnavailable("no", provider="openai")
    error.finished = {1: Embedding(b"", 7, "openai")}
    limited = Limited(error, None)
    with pytest.raises(UpstreamUnavailable):
        await limited.ask("x" * 400, "y" * 400)

    assert await limited.remaining() == (99, 993)
    await limited.ask()


async def test_a_bug_gives_the_place_back():
    """Whatever goes wrong below, the key's place is free again."""
    limited = Limited(ZeroDivisionError("a bug"), None)
    with pytest.raises(ZeroDivisionError):
        await limited.ask()

    await limited.ask()


async def test_a_caller_who_leaves():
    """A caller who hangs up gives his place back; what was estimated for him stays counted, since
    it may have been used."""
    gate = asyncio.Event()

    async def hang(_):
        await gate.wait()

    limited = Limited(hang, None)
    task = asyncio.create_task(limited.ask("x" * 400))
    await until(lambda: limited.inner.requests)
    with pytest.raises(RateLimited):
        await limited.ask()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await limited.remaining() == (99, 900)
    await limited.ask()


async def test_a_refused_request_asks_nobody():
    """Who is refused costs nothing below."""
    limited = Limited(rates=Rates(requests_per_minute=1))
    await limited.ask()
    with pytest.raises(RateLimited):
        await limited.ask()

    assert len(limited.inner.requests) == 1


async def test_tokens_are_not_estimated_without_need():
    """A key that is limited in requests alone may send texts of any length."""
    limited = Limited(rates=Rates(requests_per_minute=1))
    await limited.ask("x" * 100_000)

    assert await limited.remaining() == (0,)
