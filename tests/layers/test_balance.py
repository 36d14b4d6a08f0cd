"""Balance chooses an account of the same model, as the caller wishes, and by how it fares."""

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random

import pytest

from embedway.errors import (
    InvalidRequest,
    Overloaded,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.health import Health
from embedway.layers.balance import Balance
from embedway.secret import Secret
from tests.fakes import FakeClock, ScriptedEmbedder, make_params, make_request, until

ACCOUNTS = ("main", "spare", "azure")


class Built:
    """A Balance over scripted accounts; `errors` says who fails, and how."""

    def __init__(self, *names, chance=None, **rest):
        self.clock = FakeClock()
        self.errors = {}
        self.takes_s = {}
        self.asked = []
        self.inner = {name: ScriptedEmbedder(self._answering(name)) for name in names or ACCOUNTS}
        self.health = {name: Health(self.clock, lambda: 0.0) for name in self.inner}
        chance = chance or Random(7).random
        self.balance = Balance("openai/small", self.inner, self.health, chance, **rest)

    def _answering(self, name):
        def answer(request):
            self.asked.append(name)
            self.clock.advance(self.takes_s.get(name, 0.0))
            return self.errors.get(name)

        return answer

    async def ask(self, times=1, **fields):
        """So many requests one after the other, some of which may fail; who was asked."""
        self.asked.clear()
        for _ in range(times):
            with suppress(UpstreamError):
                await self.balance(make_request(**fields))
        return Counter(self.asked)


def down(name):
    """The account does not answer."""
    return UpstreamUnavailable(f"{name} is down", provider=name)


def refused(name):
    """The account's credential is not accepted."""
    return UpstreamUnauthorized(f"{name}: check the key", provider=name)


def full(name, retry_after_s=None):
    """The account's limit is reached."""
    return UpstreamRateLimited(f"{name} is full", provider=name, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("only", "order", "chosen"),
    [
        (("spare",), (), {"spare"}),
        (("azure", "spare"), (), {"azure", "spare"}),
        (("foreign", "azure"), (), {"azure"}),
        ((), ("azure",), {"azure"}),
        ((), ("foreign", "spare", "azure"), {"spare"}),
        ((), (), set(ACCOUNTS)),
        ((), ("foreign",), set(ACCOUNTS)),
        (("spare", "azure"), ("azure", "main"), {"azure"}),
        (("spare",), ("main",), {"spare"}),
    ],
)
async def test_as_the_caller_wishes(only, order, chosen):
    """Of the accounts allowed by `only` the first of `order` is asked, else any; names that serve
    something else are passed over."""
    assert set(await Built().ask(60, only=only, order=order)) == chosen


@pytest.mark.parametrize("only", [("foreign",), ("foreign", "Main")])
async def test_nobody_allowed(only):
    """If no account is allowed, the refusal says who serves the model."""
    with pytest.raises(InvalidRequest) as caught:
        await Built().balance(make_request(only=only, order=("main",)))

    assert caught.value.param == "provider"
    assert caught.value.message == (
        f"No provider among {', '.join(only)} serves openai/small; "
        "it is served by main, spare, azure."
    )


@pytest.mark.parametrize(
    ("only", "order", "chosen"),
    [((), (), "azure"), (("main", "spare"), (), "spare"), ((), ("main",), "main")],
)
async def test_by_cost(only, order, chosen):
    """Sorted by cost the cheapest account that is allowed is asked; `order` still goes first."""
    built = Built(prices={"main": 30, "spare": 20, "azure": 10})

    assert set(await built.ask(5, only=only, order=order, sort="cost")) == {chosen}


async def test_by_latency():
    """Sorted by latency each account gets its chance, then the fastest of late is asked; one that
    slows down loses its place."""
    built = Built()
    built.takes_s = {"main": 0.05, "spare": 0.02, "azure": 0.09}

    assert await built.ask(3, sort="latency") == dict.fromkeys(ACCOUNTS, 1)
    assert await built.ask(10, sort="latency") == {"spare": 10}
    built.takes_s["spare"] = 0.5
    assert await built.ask(10, sort="latency") == {"spare": 1, "main": 9}


async def test_less_in_flight_goes_first():
    """Of two accounts the one with fewer calls under way is asked, however fast the other is."""
    gate = asyncio.Event()
    built = Built("main", "spare")

    async def hold(request):
        await gate.wait()

    built.inner["main"] = built.balance.accounts["main"] = ScriptedEmbedder([hold] * 3)
    held = [asyncio.create_task(built.balance(make_request(only=("main",)))) for _ in range(3)]
    await until(lambda: built.health["main"].in_flight == 3)
    built.takes_s["spare"] = 5.0

    assert await built.ask(20) == {"spare": 20}
    gate.set()
    await asyncio.gather(*held)
    assert [one.in_flight for one in built.health.values()] == [0, 0]


async def test_two_choices_share_the_load():
    """With ever so many calls at once each account gets its share, whatever is drawn."""
    gate = asyncio.Event()

    async def hold(request):
        await gate.wait()

    built = Built()
    built.balance.accounts.update({name: ScriptedEmbedder([hold] * 300) for name in ACCOUNTS})
    tasks = [asyncio.create_task(built.balance(make_request())) for _ in range(300)]
    await until(lambda: sum(one.in_flight for one in built.health.values()) == 300)

    shares = [one.in_flight for one in built.health.values()]
    gate.set()
    await asyncio.gather(*tasks)
    assert max(shares) - min(shares) <= 10


@pytest.mark.parametrize("chance", [0.0, 0.34, 0.5, 0.999999])
async def test_any_number_drawn_is_an_account(chance):
    """Whatever chance says, two different accounts are looked at, and one of them is asked."""
    built = Built(chance=lambda: chance)

    (first,) = await built.ask()
    built.health[first].begin()
    (second,) = await built.ask()

    assert first != second


async def test_an_account_that_fails_is_left_alone():
    """After five failures an account is asked no more, until it rested; then by one call, whose
    success lets it have its share again."""
    built = Built("main", "spare")
    built.errors["main"] = down("main")
    await built.ask(5, only=("main",))

    assert await built.ask(30) == {"spare": 30}
    built.clock.advance(1.0)
    assert (await built.ask(30))["main"] == 1  # a probe, which fails
    built.errors.clear()
    built.clock.advance(2.0)
    assert (await built.ask(1))["main"] == 1
    assert (await built.ask(30))["main"] > 5


@pytest.mark.parametrize("order", [(), ("main",)])
async def test_what_has_just_failed_comes_last(order):
    """An account to be avoided is asked only if there is no other, however much it is wished
    for."""
    built = Built("main", "spare")

    assert await built.ask(20, avoid=("main",), order=order) == {"spare": 20}
    assert await built.ask(1, avoid=("main",), only=("main",)) == {"main": 1}


async def test_a_full_account_is_left_alone():
    """An account that named a time is not asked before; others serve meanwhile. With nobody else
    the answer is 429 and says when."""
    built = Built("main", "spare")
    built.errors["main"] = full("main", 20.0)
    await built.ask(1, only=("main",))

    assert await built.ask(20) == {"spare": 20}
    with pytest.raises(UpstreamRateLimited) as caught:
        await built.balance(make_request(only=("main",)))
    assert (caught.value.retry_after_s, caught.value.provider) == (20.0, "main")
    assert caught.value.attempts == ()
    built.clock.advance(20.0)
    built.errors.clear()
    assert await built.ask(1, only=("main",)) == {"main": 1}


async def test_a_refused_credential_takes_its_account_out():
    """An account whose credential is refused is not asked; with nobody else the error says whose
    credential it is, and a good one comes back by itself."""
    built = Built("main", "spare")
    built.errors["main"] = refused("main")
    await built.ask(1, only=("main",))

    assert await built.ask(20) == {"spare": 20}
    with pytest.raises(UpstreamUnauthorized, match="main: check the key") as caught:
        await built.balance(make_request(only=("main",)))
    assert caught.value.provider == "main"
    built.errors.clear()
    built.clock.advance(1.0)
    assert await built.ask(1) == {"main": 1}


@pytest.mark.parametrize("error", [refused("main"), full("main", 20.0)])
async def test_a_callers_own_credential_goes_through(error):
    """An account that is out because of our credential, or its limit, may still be asked with the
    caller's own; his success does not bring it back for the others."""
    built = Built("main")
    built.errors["main"] = error
    await built.ask()
    built.errors.clear()

    assert await built.ask(3, credentials={"openai": Secret("sk-his")}) == {"main": 3}
    assert await built.ask(3) == {}


async def test_an_account_that_is_down_is_down_for_all():
    """A caller's own credential does not help where the account's server fails."""
    built = Built("main")
    built.errors["main"] = down("main")
    await built.ask(5)

    assert await built.ask(3, credentials={"openai": Secret("sk-his")}) == {}


async def test_nobody_is_well():
    """When all are at rest the error says so, when to come back and what was wrong; what may pass
    by itself goes before a credential that does not."""
    built = Built("main", "spare")
    built.errors = {"main": refused("main"), "spare": down("spare")}
    await built.ask(1, only=("main",))
    await built.ask(5, only=("spare",))

    with pytest.raises(UpstreamUnavailable) as caught:
        await built.balance(make_request())

    assert caught.value.retry_after_s == 1.0
    assert "spare is down" in caught.value.message
    assert caught.value.provider == "spare"
    assert not set(built.asked) - {"spare"}


async def test_what_the_retry_is_told():
    """How many accounts could serve that are not avoided, and how long until the first can."""
    built = Built()
    built.errors["main"] = down("main")
    await built.ask(5, only=("main",))

    balance = built.balance
    assert balance.elsewhere(make_request()) == 2
    assert balance.elsewhere(make_request(avoid=("spare",))) == 1
    assert balance.elsewhere(make_request(only=("main",))) == 0
    assert balance.wait_s(make_request()) == 0.0
    assert balance.wait_s(make_request(only=("main",))) == 1.0


@pytest.mark.parametrize("end", ["error", "bug", "refusal", "busy", "cancelled"])
async def test_places_are_given_back(end):
    """However a call ends, it is no longer counted as under way."""
    ends = {
        "error": down("main"),
        "bug": ZeroDivisionError("a bug"),
        "refusal": UpstreamRejected("no", provider="main"),
        "busy": Overloaded("queue"),
        "cancelled": asyncio.CancelledError(),
    }
    built = Built("main")
    built.errors["main"] = ends[end]

    with pytest.raises(type(ends[end])):
        await built.balance(make_request())

    assert built.health["main"].in_flight == 0


async def test_options_go_to_whom_they_are_for():
    """An account that would not read the options as they are meant is not asked, even if the
    others are down; it is if the caller insists, or if nobody reads them."""
    built = Built("main", "spare", suits=lambda name, params: name in params.options.decode())
    fields = {"params": make_params(options=b"main")}

    assert await built.ask(20, **fields) == {"main": 20}
    assert await built.ask(20, **fields, avoid=("main",)) == {"main": 20}
    assert await built.ask(1, **fields, only=("spare",)) == {"spare": 1}
    assert set(await built.ask(40, params=make_params(options=b"x"))) == {"main", "spare"}
    built.errors["main"] = down("main")
    assert await built.ask(20, **fields) == {"main": 5}


async def test_choice_changes_nothing():
    """To choose is not yet to ask: nothing counts as under way."""
    built = Built(chance=lambda: 0.0)

    assert len({built.balance.choose(make_request()) for _ in range(5)}) == 1
    assert [one.in_flight for one in built.health.values()] == [0, 0, 0]


@pytest.mark.parametrize("error", [refused("main"), down("main")])
async def test_operators_are_told(error, caplog):
    """When an account is taken out, and when it is back, the log says so once, with the reason's
    code; never with a provider's words, which may quote a text."""
    built = Built("main", "spare")
    built.errors["main"] = error
    await built.ask(8, only=("main",))
    built.clock.advance(1.0)
    await built.ask(1)
    built.errors.clear()
    built.clock.advance(2.0)
    await built.ask(2)

    assert [record.getMessage() for record in caplog.records] == [
        f"main is left alone for openai/small: {error.code}",
        "main serves openai/small again",
    ]
