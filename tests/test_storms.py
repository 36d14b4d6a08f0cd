"""The assembled gateway in bad weather, in virtual time: it neither makes a storm worse, nor lets
one sick account harm its neighbours, nor needs anybody's help when the sky clears."""

import asyncio
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from embedway.catalog_file import load_catalog
from embedway.errors import EmbedError
from embedway.gateway import build_gateway
from embedway.provider import HttpResponse, TransportError
from embedway.secret import Secret
from embedway.settings import AccountSettings, Settings
from tests.fakes import MemoryBook, answer_openai, make_call, make_grant, make_params, make_request
from tests.sim.leftovers import check_leftovers
from tests.sim.log import Log
from tests.sim.loop import STARTS_S, SimClock, SimLoop

CATALOG = load_catalog()
SMALL, LARGE = "openai/text-embedding-3-small", "openai/text-embedding-3-large"
TAKES_S = 0.02
MOST_ROUNDS = 10**7
LONGEST_GAP_S = 100.0
"""Between two answers of an account that is well half of the time: some twenty probes, each of
which has an even chance."""


class Storm:
    """A gateway over accounts whose behaviour changes with the time; and its callers."""

    def __init__(self, **weather):
        self.weather = weather
        self.clock = SimClock()
        self.calls, self.ends = Counter(), Counter()
        self.retries = Counter()
        self.waited_s = []
        self.answered_s = []
        self.requests = 0
        self.gateway = build_gateway(
            settings=Settings(home="/nowhere", providers={n: _account(n) for n in weather}),
            catalog=CATALOG,
            local=None,
            send=self.send,
            book=MemoryBook(),
            count=lambda line: None,
            clock=self.clock,
            chance=Random(1).random,
            count_retry=lambda is_granted: self.retries.update([is_granted]),
        )

    @property
    def now_s(self):
        """Since the storm began."""
        return self.clock.monotonic() - STARTS_S

    async def send(self, request, /, *, timeout_s, max_bytes):
        """What the account answers just now."""
        name = request.headers["authorization"].removeprefix("Bearer ")
        self.calls[name] += 1
        return await self.weather[name](self, request, timeout_s)

    async def callers(self, per_s, seconds, **fields):
        """So many callers a second come, each with a text of his own, and all are waited for."""
        tasks = []
        for _ in range(int(per_s * seconds)):
            tasks.append(asyncio.create_task(self._call(**fields)))
            await self.clock.sleep(1 / per_s)
        await asyncio.wait(tasks)

    async def _call(self, model=SMALL, key="k1", time_s=60.0):
        self.requests += 1
        came_s = self.now_s
        call = make_call(grant=make_grant(key_id=key), deadline=self.clock.monotonic() + time_s)
        request = make_request(
            f"text {self.requests}", call=call, params=make_params(model, dimensions=8)
        )
        try:
            response = await self.gateway(request)
        except EmbedError as error:
            self.ends[error.code] += 1
            assert self.now_s <= came_s + time_s + 1e-6
        else:
            assert len(response.embeddings) == 1
            self.ends["answered"] += 1
            self.answered_s.append(self.now_s)
            self.waited_s.append(self.now_s - came_s)

    async def check_clear_sky(self, per_s=20):
        """Ten seconds after the last fault nobody fails, and nothing is left of the storm."""
        await self.clock.sleep(10)
        self.ends.clear()
        await self.callers(per_s, 5)
        assert self.ends == {"answered": 5 * per_s}
        await self.clock.sleep(1)
        check_leftovers(self.gateway, log := Log())
        assert log.broken == []
        assert {one.state for one in self.health.values()} == {"closed"}

    @property
    def health(self):
        """Of the accounts of the model that is asked for."""
        return self.gateway.models[SMALL].health


def _account(name):
    return AccountSettings(kind="openai", api_key=Secret(name), models={SMALL: "s", LARGE: "l"})


async def well(storm, request, timeout_s):
    """A sound account."""
    await storm.clock.sleep(TAKES_S)
    return answer_openai(request)


async def full(storm, request, timeout_s):
    """429 to everything, and not a word of when."""
    await storm.clock.sleep(TAKES_S)
    return HttpResponse(429, {}, b"{}")


async def down(storm, request, timeout_s):
    """503 to everything."""
    await storm.clock.sleep(TAKES_S)
    return HttpResponse(503, {}, b"{}")


async def refused(storm, request, timeout_s):
    """The credential is not accepted."""
    await storm.clock.sleep(TAKES_S)
    return HttpResponse(401, {}, b"{}")


async def unreachable(storm, request, timeout_s):
    """The connection is refused."""
    raise TransportError("cannot connect", was_sent=False)


async def silent(storm, request, timeout_s):
    """Nobody answers."""
    await storm.clock.sleep(timeout_s)
    raise TransportError("no answer in time", was_sent=True, is_timeout=True)


async def slow(storm, request, timeout_s):
    """Each answer takes five seconds."""
    await storm.clock.sleep(5.0)
    return answer_openai(request)


async def wrong(storm, request, timeout_s):
    """Answers that hold no vector."""
    await storm.clock.sleep(TAKES_S)
    return HttpResponse(200, {}, b'{"data": []}')


def until_s(seconds, weather):
    """That weather until then, and all is well after."""

    def now(storm, request, timeout_s):
        return (weather if storm.now_s < seconds else well)(storm, request, timeout_s)

    return now


def flapping(seconds):
    """Well for a second and down for the next, until then."""

    def now(storm, request, timeout_s):
        is_down = storm.now_s < seconds and int(storm.now_s) % 2
        return (down if is_down else well)(storm, request, timeout_s)

    return now


def run(scenario, seed=1):
    """The scenario in a loop of virtual time, in which no exception may go unseen."""
    chance = Random(seed)
    with asyncio.Runner(loop_factory=lambda: SimLoop(chance, most_rounds=MOST_ROUNDS)) as runner:
        runner.run(scenario())
        assert runner.get_loop().complaints == []


@pytest.mark.parametrize("per_s", [1, 10, 100])
@pytest.mark.parametrize("accounts", [1, 2])
@pytest.mark.parametrize("weather", [full, down, refused])
def test_a_storm_is_not_made_worse(weather, accounts, per_s):
    """While every account fails, however many ask, providers are called at most a tenth more often
    than callers ask, and three times a second."""

    async def scenario():
        storm = Storm(**dict.fromkeys(("a", "b")[:accounts], until_s(60, weather)))
        await storm.callers(per_s, 60, time_s=20.0)
        await storm.clock.sleep(max(0, 60 - storm.now_s))

        assert storm.requests == per_s * 60
        assert sum(storm.calls.values()) <= 1.1 * storm.requests + 3 * 60 + 30
        assert storm.retries[True] <= 0.1 * storm.requests + 3 * 60 + 30
        await storm.check_clear_sky()

    run(scenario)


@pytest.mark.parametrize("per_s", [5, 50])
def test_a_flapping_account_does_not_stick(per_s):
    """An account that is well for a second and down for the next, for five minutes, is used while
    it is well, is not asked again and again, and is back when it stays well."""

    async def scenario():
        storm = Storm(a=flapping(300))
        await storm.callers(per_s, 300, time_s=20.0)

        assert storm.retries[True] <= 0.1 * storm.requests + 3 * 300 + 30
        assert sum(storm.calls.values()) <= 1.1 * storm.requests + 3 * 300 + 30
        answered_s = [*sorted(storm.answered_s), 300.0]
        assert max(later - one for one, later in pairwise(answered_s)) < LONGEST_GAP_S
        await storm.check_clear_sky()

    run(scenario)


@pytest.mark.parametrize("weather", [full, down, refused, unreachable, silent, wrong])
def test_one_of_two_accounts_is_dead(weather):
    """Where one of two accounts of a model fails, in whichever way, no caller sees it."""

    async def scenario():
        storm = Storm(a=until_s(60, weather), b=well)
        await storm.callers(20, 60)

        assert storm.ends == {"answered": 20 * 60}
        assert storm.calls["a"] > 0
        await storm.check_clear_sky()

    run(scenario)


def test_one_of_two_accounts_flaps():
    """Where one of two accounts comes and goes, no caller sees it."""

    async def scenario():
        storm = Storm(a=flapping(120), b=well)
        await storm.callers(20, 120)

        assert storm.ends == {"answered": 20 * 120}
        await storm.check_clear_sky()

    run(scenario)


def test_a_slow_account_does_not_starve_the_other():
    """Where one of two accounts takes five seconds for each answer, the other one serves nearly
    everybody, at its own speed."""

    async def scenario():
        storm = Storm(a=until_s(60, slow), b=well)
        await storm.callers(50, 60)

        assert storm.ends == {"answered": 50 * 60}
        waited = sorted(storm.waited_s)
        assert waited[int(0.95 * len(waited))] < 0.1
        await storm.check_clear_sky()

    run(scenario)


def test_a_slow_model_does_not_starve_another():
    """Where one model takes five seconds, callers of another model do not wait for it."""

    async def by_model(storm, request, timeout_s):
        return await (slow if b'"l"' in request.body else well)(storm, request, timeout_s)

    async def scenario():
        storm = Storm(a=by_model)
        others = asyncio.create_task(storm.callers(20, 30, model=LARGE))
        await storm.callers(20, 30)
        waited = [one for one in storm.waited_s if one < 1.0]

        assert len(waited) == 20 * 30
        assert max(waited) < 0.1
        await others
        await storm.check_clear_sky()

    run(scenario)


def test_an_account_alone_that_is_silent_is_found_out():
    """An account that never answers is found out by those who waited long enough for it; who comes
    later is told at once instead of waiting for nothing."""

    async def scenario():
        storm = Storm(a=until_s(60, silent))
        await storm.callers(10, 30, time_s=5.0)

        assert storm.ends["provider_unavailable"] > 100
        assert storm.calls["a"] < 100
        await storm.clock.sleep(60 - storm.now_s)
        await storm.check_clear_sky()

    run(scenario)
