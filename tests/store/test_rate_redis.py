"""Keys' rates in a real Redis: several processes share a limit, and none depends on Redis."""

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from embedway.clock import SystemClock
from embedway.errors import RateLimited
from embedway.rates import KeyRates
from embedway.secret import Secret
from embedway.store.rate_redis import RedisRates
from embedway.store.redis_names import PLACES, RATES
from embedway.types import Rates
from embedway.wrong_settings import SettingsError
from tests.fakes import make_call, make_grant, until
from tests.store.redis_server import RedisServer, free_port, require_redis

PATIENT_S = 30.0
"""A slow machine changes nothing, save where the wait itself is the matter."""


class Skipped:
    """How many questions had no answer."""

    def __init__(self):
        self.number = 0

    def __call__(self):
        """One more."""
        self.number += 1


@pytest.fixture
def server(tmp_path):
    """A fresh Redis."""
    require_redis()
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def skipped():
    """What the processes of a test had to skip."""
    return Skipped()


@asynccontextmanager
async def processes(url, skipped, number=2, **options):
    """Rates as that many processes have them."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(number):
            options = {"timeout_s": PATIENT_S, **options}
            store = RedisRates(url, clock=SystemClock(), count=skipped, **options)
            rates = KeyRates(store, SystemClock())
            stack.push_async_callback(rates.close)
            made.append(rates)
        yield made


def make_key(id="01", **rates):
    """A call of a key with these rates, which has a minute to go."""
    grant = make_grant(name="ci", rates=Rates(**rates))
    return make_call(id=id, grant=grant, deadline=SystemClock().monotonic() + 60)


async def let_in(rates, call, tokens=1):
    """Whether a request may come in; it stays."""
    try:
        await rates.enter(call, tokens)
    except RateLimited:
        return False
    return True


async def eventually(ask):
    """Let others run until *ask* says yes; the test's timeout ends it if it never does."""
    while not await ask():
        await SystemClock().sleep(0.001)


async def test_requests_are_shared(server, skipped):
    """However many ask at once in however many processes, as many come in as the key may send."""
    async with processes(server.url, skipped, number=3) as several:
        call = make_key(requests_per_minute=10)
        asked = [let_in(rates, call) for rates in several for _ in range(8)]
        assert sum(await asyncio.gather(*asked)) == 10
    assert skipped.number == 0


async def test_tokens_are_shared(server, skipped):
    """Tokens that one process has let in are not let in by another; the wait until they are is
    honest, and the other one's view of what is left becomes true."""
    async with processes(server.url, skipped) as (one, other):
        call = make_key(tokens_per_minute=1000)
        assert await let_in(one, call, 900)
        with pytest.raises(RateLimited) as caught:
            await other.enter(call, 101)
        assert 0 < caught.value.retry_after_s <= 60
        [allowance] = await other.allowances(call.grant)
        assert (allowance.limit, allowance.remaining) == (1000, 100)
        assert 0 < allowance.reset_s <= 60
        assert await let_in(other, call, 100)
    assert skipped.number == 0


async def test_a_large_limit_keeps_few_entries(server, skipped):
    """A window of a million tokens is a list of some thousands in Redis, which ends by itself."""
    async with processes(server.url, skipped, number=1) as [rates]:
        call = make_key(tokens_per_minute=1_000_000)
        for tokens in (1, 999_000, 999):
            assert await let_in(rates, call, tokens)
        assert not await let_in(rates, call, 200)
    [name] = server.client.keys(f"{RATES}*")

    assert 4900 < server.client.llen(name) <= 5000
    assert 0 < server.client.ttl(name) <= 60


async def test_one_look_a_second(server, skipped):
    """A process asks for what is left when it has not for a second, behind its caller's back; in
    between it reckons."""
    async with processes(server.url, skipped) as (one, other):
        call = make_key(requests_per_minute=100)
        for _ in range(5):
            assert await let_in(other, call)
        assert await let_in(one, call)

        async def sees(remaining):
            [allowance] = await one.allowances(call.grant)
            return allowance.remaining == remaining

        await eventually(lambda: sees(94))
        assert await let_in(one, call)
        assert await sees(93)


async def test_places_are_shared(server, skipped):
    """As many requests of a key are under way in all processes as it may have; where one ends,
    another one may begin, in any process."""
    async with processes(server.url, skipped) as (one, other):
        calls = [make_key(str(n), concurrency=2) for n in range(4)]
        assert await let_in(one, calls[0])
        assert await let_in(other, calls[1])
        assert not await let_in(one, calls[2])
        one.leave(calls[0], 0, 0)
        await eventually(lambda: let_in(other, calls[3]))
    assert skipped.number == 0
    assert server.client.zcard(f"{PLACES}k1") == 2


async def test_never_too_many_at_a_time(server, skipped):
    """Of many that come in the same moment no more are let in than the key may have."""
    async with processes(server.url, skipped, number=3) as several:
        calls = [make_key(f"{n}", concurrency=4) for n in range(60)]
        asked = [let_in(several[n % 3], call) for n, call in enumerate(calls)]
        assert 1 <= sum(await asyncio.gather(*asked)) <= 4


async def test_the_places_of_the_dead(server, skipped):
    """What a process that died held is free again when its requests would have been over."""
    async with processes(server.url, skipped) as (dead, alive):
        call = make_key("dead", concurrency=1)
        assert await let_in(dead, call)
        assert not await let_in(alive, make_key("alive", concurrency=1))
        until_s = server.client.zscore(f"{PLACES}k1", "dead")
        assert 50 < until_s - SystemClock().now() <= 65
        server.client.zadd(f"{PLACES}k1", {"dead": SystemClock().now() - 1})
        assert await let_in(alive, make_key("alive", concurrency=1))


async def test_a_caller_who_leaves_in_the_door(server, skipped):
    """Whoever hangs up while Redis is asked for his place holds none, whatever Redis answers."""
    async with processes(server.url, skipped, number=1) as [rates]:
        server.freeze()
        entering = asyncio.create_task(rates.enter(make_key("gone", concurrency=1), 0))
        await until(lambda: rates._store._line._under_way)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        server.thaw()
        await eventually(lambda: let_in(rates, make_key("next", concurrency=1)))
    assert server.client.zrange(f"{PLACES}k1", 0, -1) == [b"next"]


async def test_a_frozen_redis_lets_callers_through(server, skipped, caplog):
    """A Redis that does not answer costs one caller a moment; he and the others come in, which is
    counted and logged once; when it answers again, it counts again."""
    async with processes(server.url, skipped, number=1, timeout_s=0.2, pause_s=0.1) as [rates]:
        call = make_key(requests_per_minute=3, tokens_per_minute=10)
        assert await let_in(rates, call)
        server.freeze()
        with caplog.at_level(logging.WARNING, "embedway.redis"):
            for _ in range(10):
                assert await let_in(rates, call)
        assert skipped.number >= 20
        assert "Redis: rates: TimeoutError" in caplog.messages
        server.thaw()

        async def is_refused():
            return not await let_in(rates, call)

        await eventually(is_refused)


async def test_without_redis_each_process_counts_places(skipped):
    """Where Redis is gone, each process still keeps its own requests at a time within the limit."""
    require_redis()
    url = Secret(f"redis://127.0.0.1:{free_port()}/0")
    async with processes(url, skipped) as (one, other):
        call = make_key(concurrency=1, requests_per_minute=1)
        for rates in (one, other):
            assert await let_in(rates, call)
            assert not await let_in(rates, call)
            rates.leave(call, 0, 0)
            assert await let_in(rates, call)


async def test_closing_gives_places_back(server, skipped):
    """A process that ends in good order leaves no place behind."""
    async with processes(server.url, skipped, number=1) as [rates]:
        call = make_key(concurrency=1)
        assert await let_in(rates, call)
        rates.leave(call, 0, 0)

    assert not server.client.exists(f"{PLACES}k1")


@pytest.mark.parametrize("url", ["redis://:s3cret@[::1", "s3cret", "redis://h/0?unheard_of=s3cret"])
def test_a_wrong_address(url, skipped):
    """An address that is none is refused at the start, and not repeated."""
    with pytest.raises(SettingsError) as caught:
        RedisRates(Secret(url), clock=SystemClock(), count=skipped)

    assert "redis_url" in str(caught.value)
    assert "s3cret" not in str(caught.value)
