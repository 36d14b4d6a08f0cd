"""Each key keeps to its rates: never more than the limit in any minute, never less without need."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.errors import RateLimited, TooMuchAtOnce
from embedway.rates import Allowance, KeyRates, about_tokens
from embedway.store.rate_memory import MemoryRates
from embedway.types import Rates
from tests.fakes import FakeClock, make_call, make_grant

SECONDS = st.sampled_from([0, 1, 2, 3, 7, 20, 59, 60, 61])


def make_key(key_id="k1", **rates):
    """A call of a key with these rates."""
    return make_call(grant=make_grant(key_id=key_id, name="ci", rates=Rates(**rates)))


class Desk:
    """The rates of keys, and the time in the test's hands."""

    def __init__(self, most_units=None):
        self.clock = FakeClock()
        store = MemoryRates(self.clock)
        store.most_units = most_units
        self.rates = KeyRates(store, self.clock)

    async def ask(self, call, tokens=1, used=None):
        """One request from its arrival to its end; the error of a refused one."""
        try:
            await self.rates.enter(call, tokens)
        except RateLimited as error:
            return error
        self.rates.leave(call, tokens, tokens if used is None else used)
        return None

    async def remaining(self, call):
        """What is left, by kind."""
        return {one.kind: one.remaining for one in await self.rates.allowances(call.grant)}


def in_last_minute(let_in, now):
    """How much was let in during the last minute."""
    return sum(amount for at, amount in let_in if at > now - 60)


@given(
    st.lists(st.tuples(SECONDS, st.integers(0, 6)), min_size=10, max_size=30), st.integers(5, 12)
)
async def test_tokens_in_any_minute(arrivals, limit):
    """In no 60 seconds are more tokens let in than the key may send, nobody is refused for whom
    there is room, and whoever waits as long as he is told comes in then and not before."""
    desk, let_in = Desk(), []
    call = make_key(tokens_per_minute=limit)
    for seconds, tokens in arrivals:
        desk.clock.advance(seconds)
        error = await desk.ask(call, tokens)
        if isinstance(error, TooMuchAtOnce):
            assert tokens > limit
            continue
        now = desk.clock.monotonic()
        if error is not None:
            assert in_last_minute(let_in, now) + tokens > limit
            assert 0 < error.retry_after_s <= 60
            assert in_last_minute(let_in, now + error.retry_after_s) + tokens <= limit
            assert in_last_minute(let_in, now + error.retry_after_s - 0.001) + tokens > limit
            desk.clock.advance(error.retry_after_s)
            now = desk.clock.monotonic()
            assert await desk.ask(call, tokens) is None
        let_in.append((now, tokens))
        assert in_last_minute(let_in, now) <= limit
        assert await desk.remaining(call) == {"tokens": limit - in_last_minute(let_in, now)}


@given(st.lists(SECONDS, max_size=40), st.integers(1, 5))
async def test_requests_in_any_minute(arrivals, limit):
    """In no 60 seconds are more requests let in than the key may send, and the refused ones use up
    nothing."""
    desk, let_in = Desk(), []
    call = make_key(requests_per_minute=limit)
    for seconds in arrivals:
        desk.clock.advance(seconds)
        error, now = await desk.ask(call), desk.clock.monotonic()
        has_room = in_last_minute(let_in, now) < limit
        assert (error is None) == has_room
        if has_room:
            let_in.append((now, 1))


@given(
    st.lists(st.tuples(SECONDS, st.integers(0, 60)), max_size=30),
    st.integers(20, 50),
    st.integers(2, 7),
)
async def test_in_grains(arrivals, limit, most_units):
    """A window of fewer entries than the limit lets in at most a grain too much and refuses at most
    two too early; who is refused uses up nothing."""
    desk, let_in = Desk(most_units), []
    call = make_key(tokens_per_minute=limit)
    grain = math.ceil(limit / most_units)
    for seconds, tokens in arrivals:
        desk.clock.advance(seconds)
        now, before = desk.clock.monotonic(), await desk.remaining(call)
        error = await desk.ask(call, tokens)
        if error is None:
            let_in.append((now, tokens))
            assert in_last_minute(let_in, now) <= limit + grain
            continue
        assert await desk.remaining(call) == before
        if not isinstance(error, TooMuchAtOnce):
            assert in_last_minute(let_in, now) + tokens > limit - 2 * grain


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30))
async def test_what_was_used_counts(requests):
    """Once another request has come, what is left is the limit less what all have used in truth,
    whatever was estimated before."""
    desk = Desk()
    call = make_key(tokens_per_minute=10_000)
    for tokens, used in requests:
        assert await desk.ask(call, tokens, used) is None

    used = sum(used for _, used in requests)
    assert await desk.remaining(call) == {"tokens": 10_000 - used}


async def test_an_estimate_too_low_is_made_up_for():
    """A key that used more than was estimated waits until the rest of its minute has room for the
    next request and the difference."""
    desk = Desk()
    call = make_key(tokens_per_minute=100)
    assert await desk.ask(call, 10, used=95) is None

    assert await desk.remaining(call) == {"tokens": 5}
    error = await desk.ask(call, 10)
    assert error.retry_after_s == 60
    desk.clock.advance(60)
    assert await desk.ask(call, 10) is None


async def test_an_estimate_too_high_is_given_back():
    """What was not used may be used by the next request."""
    desk = Desk()
    call = make_key(tokens_per_minute=100)
    assert await desk.ask(call, 90, used=20) is None

    assert await desk.remaining(call) == {"tokens": 80}
    assert (await desk.ask(call, 81)).retry_after_s == 60
    assert await desk.remaining(call) == {"tokens": 80}
    assert await desk.ask(call, 80) is None
    assert (await desk.ask(call, 1)).retry_after_s == 60


async def test_places_come_back():
    """As many requests of a key are under way as it may have; the next comes in when one is over,
    and is told to try again soon until then."""
    desk = Desk()
    call = make_key(concurrency=2)
    await desk.rates.enter(call, 0)
    await desk.rates.enter(call, 0)
    error = await desk.ask(call)

    assert error.retry_after_s == 1
    assert "'ci' may have 2 requests at a time" in error.message
    desk.rates.leave(call, 0, 0)
    assert await desk.ask(call) is None
    await desk.rates.enter(call, 0)
    assert await desk.ask(call) is not None


async def test_a_refused_request_holds_no_place():
    """Whoever is refused for his requests or tokens a minute takes nobody's place, and whoever
    finds no place uses up no request."""
    desk = Desk()
    call = make_key(requests_per_minute=2, tokens_per_minute=10, concurrency=1)
    assert isinstance(await desk.ask(call, 11), TooMuchAtOnce)
    await desk.rates.enter(call, 1)
    assert await desk.remaining(call) == {"requests": 0, "tokens": 9}
    assert "at a time" in (await desk.ask(call)).message
    desk.rates.leave(call, 1, 1)
    for _ in range(3):
        assert "2 requests a minute" in (await desk.ask(call)).message


async def test_keys_are_apart():
    """One key's requests use up nothing of another's, nor its tokens those of its requests."""
    desk = Desk()
    one, other = (make_key(id, requests_per_minute=3, tokens_per_minute=9) for id in ("k1", "k2"))
    assert await desk.ask(one, 5) is None

    assert await desk.remaining(one) == {"requests": 2, "tokens": 4}
    assert await desk.remaining(other) == {"requests": 3, "tokens": 9}


async def test_too_much_at_once():
    """A request that alone is over the limit is told so, what it has and what is allowed; it is not
    told to wait."""
    error = await Desk().ask(make_key(tokens_per_minute=100), 101)

    assert (error.status, error.code, error.retry_after_s) == (429, "rate_limit_exceeded", None)
    assert not error.caller_may_retry
    assert error.message == (
        "This request has about 101 tokens, and the key 'ci' may send 100 a minute; send fewer "
        "inputs at once."
    )


async def test_the_message_says_what_to_do():
    """A refused caller reads which limit it is and when to try again."""
    desk = Desk()
    call = make_key(requests_per_minute=1, tokens_per_minute=100)
    await desk.ask(call, 60)
    desk.clock.advance(12.5)

    assert (await desk.ask(call)).message == (
        "The key 'ci' may send 1 request a minute, and has no room for more now. Try again in 48 s."
    )
    only_tokens = make_key(tokens_per_minute=100)
    assert (await desk.ask(only_tokens, 60)).message == (
        "The key 'ci' may send 100 tokens a minute, and has no room for more now. This request has "
        "about 60. Try again in 48 s."
    )


async def test_how_limits_stand():
    """A limit that nobody has used is whole and needs no reset; a used one says when its oldest
    entry no longer counts; a limit that the key does not have is not there."""
    desk = Desk()
    call = make_key(requests_per_minute=3)
    assert await desk.rates.allowances(call.grant) == [Allowance("requests", 3, 3, 0)]
    await desk.ask(call)
    desk.clock.advance(10)
    await desk.ask(call)

    assert await desk.rates.allowances(call.grant) == [Allowance("requests", 3, 1, 50)]
    assert await desk.rates.allowances(make_grant()) == []


@pytest.mark.parametrize(
    ("inputs", "tokens"),
    [
        ((" ",), 1),
        (("abcd",), 1),
        (("abcde",), 2),
        (("日本",), 2),
        (((1, 2, 3),), 3),
        (("abcdefgh", "x", "y"), 4),
        (((1,), (2, 3)), 3),
    ],
)
def test_about_tokens(inputs, tokens):
    """A text has about a token for each four bytes and at least one; token ids are counted."""
    assert about_tokens(inputs) == tokens
