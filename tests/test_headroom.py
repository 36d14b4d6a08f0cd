"""Headroom finds out how many calls at a time are good, and keeps to what a minute allows."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.errors import (
    InvalidRequest,
    MalformedResponse,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from embedway.headroom import Headroom
from embedway.types import Told
from tests.fakes import FakeClock


def full(retry_after_s=None):
    """A provider's 429."""
    return UpstreamRateLimited("full", provider="openai", retry_after_s=retry_after_s)


def make(concurrency=64, **limits):
    """An account's headroom, and the clock it lives by."""
    clock = FakeClock()
    return Headroom(clock, concurrency, **limits), clock


OUTCOMES = st.tuples(
    st.sampled_from(["answered", "full", "timed out", "down", "cancelled"]),
    st.floats(0, 3, allow_nan=False),
)


@given(st.integers(1, 100), st.lists(OUTCOMES, max_size=200))
def test_concurrency_stays_within_its_bounds(most, outcomes):
    """Whatever happens, at least one call at a time is good and never more than the setting; and
    in no second does it fall by more than one step."""
    headroom, clock = make(most)
    fell = []
    for outcome, seconds in outcomes:
        before = headroom.concurrency
        started = headroom.begin(0)
        clock.advance(seconds)
        if outcome == "answered":
            headroom.succeed(started)
        elif outcome == "full":
            headroom.fail(full())
        elif outcome == "timed out":
            headroom.time_out(started)
        elif outcome == "down":
            headroom.fail(UpstreamUnavailable("down", provider="openai"))
        else:
            headroom.abandon()
        assert 1 <= headroom.concurrency <= most
        assert headroom.concurrency >= int(0.7 * before)
        if headroom.concurrency < before:
            fell.append(clock.monotonic())

    assert headroom.in_flight == 0
    assert all(later - earlier >= 1 for earlier, later in pairwise(fell))


def test_a_storm_is_one_reason():
    """A hundred refusals within a second slow the account down once; those of the next second once
    more."""
    headroom, clock = make(100)
    for expected in (70, 49):
        for _ in range(100):
            headroom.begin(0)
            headroom.fail(full())
        assert headroom.concurrency == expected
        clock.advance(1)


def test_a_long_storm():
    """However long a storm was, one call at a time is left, and the first answer allows two."""
    headroom, clock = make(100)
    for _ in range(60):
        clock.advance(1)
        headroom.begin(0)
        headroom.fail(full())
    assert headroom.concurrency == 1

    headroom.succeed(headroom.begin(0))
    assert headroom.concurrency == 2


def test_grows_back():
    """One round of answers adds one call at a time, up to the setting."""
    headroom, _ = make(10)
    headroom.begin(0)
    headroom.fail(full())
    assert headroom.concurrency == 7

    for expected in (8, 9, 10, 10):
        for _ in range(headroom.concurrency + 1):
            headroom.succeed(headroom.begin(0))
        assert headroom.concurrency == expected


@pytest.mark.parametrize(
    "error",
    [
        UpstreamUnavailable("down", provider="openai"),
        UpstreamRejected("no", provider="openai"),
        MalformedResponse("wrong", provider="openai"),
        InvalidRequest("no"),
    ],
)
def test_other_failures_say_nothing_of_room(error):
    """Only answers, refusals for want of room, and timeouts tell how many calls are good."""
    headroom, clock = make(10)
    headroom.begin(0)
    headroom.fail(full())
    for _ in range(100):
        clock.advance(1)
        headroom.begin(0)
        headroom.fail(error)

    assert headroom.concurrency == 7


def test_an_impatient_caller_does_no_harm():
    """A call that was given less time than answers usually take says nothing of the account; one
    that waited long says that it is slow."""
    headroom, clock = make(10)
    started = headroom.begin(0)
    clock.advance(0.5)
    headroom.succeed(started)
    for seconds, expected in ((0.001, 10), (0.9, 10), (1.0, 7)):
        clock.advance(1)
        started = headroom.begin(0)
        clock.advance(seconds)
        headroom.time_out(started)
        assert headroom.concurrency == expected


def test_full():
    """While as many calls as are good have begun, the next waits for one of them to end."""
    headroom, _ = make(2)
    started = [headroom.begin(0), headroom.begin(0)]
    assert headroom.wait_s(0) is None

    headroom.succeed(started[0])
    assert headroom.wait_s(0) == 0


def run_through(headroom, clock, sizes, gaps):
    """Let calls of these sizes go as soon as they may, each some time after the one before; returns
    when each began."""
    begun = []
    for size, gap in zip(sizes, gaps, strict=True):
        clock.advance(gap)
        while wait := headroom.wait_s(size):
            clock.advance(max(wait, 0.001))
        begun.append(clock.monotonic())
        headroom.begin(size)
        headroom.abandon()
    return begun


GAPS = st.floats(0, 5, allow_nan=False)


@given(st.integers(1, 600), st.lists(GAPS, max_size=150))
def test_requests_of_any_minute(per_minute, gaps):
    """In no minute do more requests leave than the limit and the burst, a tenth of it."""
    headroom, clock = make(1000, requests_per_minute=per_minute)
    begun = run_through(headroom, clock, [0] * len(gaps), gaps)

    burst = max(1, per_minute / 10)
    for start in begun:
        in_it = sum(start <= moment < start + 60 for moment in begun)
        assert in_it <= per_minute + burst + 1e-6


@given(
    st.integers(10, 10_000),
    st.lists(st.tuples(st.integers(0, 20_000), GAPS), max_size=60),
)
def test_tokens_of_any_minute(per_minute, calls):
    """In no minute do more tokens leave than the limit and the burst, or the one call that is
    larger than the burst; and no call is so large that it never leaves."""
    headroom, clock = make(1000, tokens_per_minute=per_minute)
    sizes = [size for size, _ in calls]
    begun = run_through(headroom, clock, sizes, [gap for _, gap in calls])

    burst = max([1, per_minute / 10, *sizes])
    for start in begun:
        in_it = sum(s for s, at in zip(sizes, begun, strict=True) if start <= at < start + 60)
        assert in_it <= per_minute + burst + 1e-3


def test_the_limit_of_requests_is_used():
    """With calls always waiting, a minute sees as many as the limit says."""
    headroom, clock = make(1000, requests_per_minute=120)
    begun = run_through(headroom, clock, [0] * 500, [0.0] * 500)

    first = begun[0]
    assert 120 <= sum(at < first + 60 for at in begun) <= 132
    assert 240 <= sum(at < first + 120 for at in begun) <= 252


def test_nothing_is_saved_up():
    """After an hour without calls no more than the burst leaves at once."""
    headroom, clock = make(1000, requests_per_minute=600, tokens_per_minute=6000)
    clock.advance(3600)
    for _ in range(60):
        assert headroom.wait_s(10) == 0
        headroom.begin(10)

    assert headroom.wait_s(10) == pytest.approx(0.1)


def test_rate_headers_hold_the_account():
    """What takes nothing more until its reset, by its own headers, is asked nothing until then,
    whatever other answers say meanwhile."""
    headroom, clock = make()
    headroom.succeed(headroom.begin(0), Told(12.0, requests=0))
    headroom.succeed(headroom.begin(0), Told(None, requests=5))
    headroom.succeed(headroom.begin(0), Told(3.0, tokens=0))
    headroom.succeed(headroom.begin(0))
    assert headroom.wait_s(0) == headroom.closed_s == 12

    clock.advance(12)
    assert headroom.wait_s(0) == headroom.closed_s == 0


@pytest.mark.parametrize("in_header", [True, False])
def test_a_refusal_holds_the_account(in_header):
    """A refusal holds the account as long as it says, in Retry-After or in the rate headers."""
    headroom, clock = make()
    headroom.begin(0)
    if in_header:
        headroom.fail(full(retry_after_s=7.0))
    else:
        headroom.fail(full(), Told(7.0, requests=0))
    assert headroom.wait_s(0) == 7

    clock.advance(7)
    assert headroom.wait_s(0) == 0


def test_no_word_holds_for_long():
    """Nothing that a provider says closes its account for more than a minute: then it is asked
    again."""
    headroom, clock = make()
    headroom.succeed(headroom.begin(0), Told(86_400.0, requests=0))
    assert headroom.wait_s(0) == 60

    clock.advance(60)
    assert headroom.wait_s(0) == 0


def test_how_long_a_line_takes():
    """The time until a line of calls has left is that of the slowest: answers, requests or tokens
    a minute, or a hold."""
    headroom, clock = make(4)
    assert headroom.drain_s(8, 0) == 2  # nothing is known yet: a second each

    started = headroom.begin(0)
    clock.advance(0.5)
    headroom.succeed(started)
    assert headroom.drain_s(8, 0) == 1
    headroom.succeed(headroom.begin(0), Told(9.0, requests=0))
    assert headroom.drain_s(8, 0) == 9

    headroom, _ = make(4, requests_per_minute=60)
    assert headroom.drain_s(106, 0) == 100  # six at once, the others one a second

    headroom, _ = make(4, tokens_per_minute=600)
    assert headroom.drain_s(1, 1060) == 100
