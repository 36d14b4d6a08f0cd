"""Retry: what is tried again, where, when, how often, and what is told of it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.errors import (
    DeadlineExceeded,
    InvalidInput,
    MalformedResponse,
    Overloaded,
    UpstreamInputTooLong,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.layers.retry import Retry, RetryBudget
from embedway.types import Embedding
from tests.fakes import (
    FakeClock,
    ScriptedEmbedder,
    make_attempt,
    make_request,
    make_vector,
    respond,
    until,
)

NAMES = ("main", "spare", "third")


def failing(kind=UpstreamUnavailable, account="main", retry_after_s=None, finished=None):
    """An error as an account's end raises it, with its attempt."""
    error = kind(f"{account} failed", provider=account, retry_after_s=retry_after_s)
    error.attempts = (make_attempt(provider=account, is_success=False, error=error.code),)
    error.finished = finished or {}
    return error


class Built:
    """A Retry over scripted answers and so many accounts."""

    def __init__(self, *answers, accounts=1, wait_s=0.0, chance=0.0):
        self.clock = FakeClock()
        self.inner = ScriptedEmbedder(answers)
        self.names, self.rest_s = NAMES[:accounts], wait_s
        self.counted = []
        self.budget = RetryBudget(self.clock)
        self.retry = Retry(
            self.inner, self.clock, self.budget, self, lambda: chance, self.counted.append
        )

    def elsewhere(self, request):
        """How many are left."""
        return len(set(self.names) - set(request.call.avoid))

    def wait_s(self, request):
        """The breaker's wait, as the test says."""
        return self.rest_s

    async def __call__(self, *inputs, **fields):
        """Ask."""
        return await self.retry(make_request(*inputs, **fields))


ELSEWHERE_ONLY = [UpstreamUnauthorized, MalformedResponse]
AGAIN = [UpstreamUnavailable, UpstreamTimeout, UpstreamRateLimited]
NEVER = [UpstreamRejected, UpstreamModelNotFound, UpstreamTooLarge, UpstreamInputTooLong]


@pytest.mark.parametrize("accounts", [1, 2])
@pytest.mark.parametrize("kind", NEVER)
async def test_a_refused_request_is_never_tried_again(kind, accounts):
    """What a provider refuses (400, 404, 413, 422) is not tried again, here or elsewhere."""
    built = Built(failing(kind), accounts=accounts)

    with pytest.raises(kind):
        await built()

    assert len(built.inner.requests) == 1
    assert built.counted == []


@pytest.mark.parametrize(
    "error", [InvalidInput("no"), Overloaded("queue", retry_after_s=1), DeadlineExceeded("over")]
)
async def test_our_own_refusals_are_never_tried_again(error):
    """What this gateway refuses, because it is wrong, late, or because its queues are full, is not
    retried into the overload."""
    built = Built(error, accounts=3)

    with pytest.raises(type(error)) as caught:
        await built()

    assert caught.value is error
    assert len(built.inner.requests) == 1


@pytest.mark.parametrize("kind", [*AGAIN, *ELSEWHERE_ONLY])
async def test_elsewhere_at_once(kind):
    """Whatever is wrong with one account, another one is asked without waiting, and told whom to
    avoid."""
    built = Built(failing(kind, retry_after_s=30), accounts=2)

    response = await built()

    assert [request.call.avoid for request in built.inner.requests] == [(), ("main",)]
    assert built.clock.slept == []
    assert len(response.embeddings) == 1
    assert built.counted == [True]


@pytest.mark.parametrize("kind", AGAIN)
async def test_here_after_a_while(kind):
    """If there is nobody else, the same account is asked again after a while."""
    built = Built(failing(kind))

    await built()

    assert built.clock.slept == [0.125]


@pytest.mark.parametrize("kind", ELSEWHERE_ONLY)
async def test_not_here(kind):
    """A wrong answer, or a refused credential, is not asked for again at the same account."""
    built = Built(failing(kind))

    with pytest.raises(kind):
        await built()

    assert len(built.inner.requests) == 1
    assert built.counted == []


async def test_a_wrong_answer_is_tried_once():
    """After a second wrong answer nobody is asked any more, though there is a third account."""
    wrong = [failing(MalformedResponse, name) for name in NAMES]
    built = Built(*wrong, accounts=3)

    with pytest.raises(MalformedResponse):
        await built()

    assert len(built.inner.requests) == 2


async def test_bad_credentials_are_no_end():
    """Of three accounts two may have a bad credential: the third one serves."""
    built = Built(*[failing(UpstreamUnauthorized, name) for name in NAMES[:2]], accounts=3)

    response = await built()

    assert [a.provider for a in response.attempts] == ["main", "spare"]
    assert built.inner.requests[2].call.avoid == ("main", "spare")


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (1, 2), (2, 3)])
async def test_three_attempts_at_most(retries, asked):
    """There are as many attempts as the call allows beside the first, two by default, and all of
    them are told."""
    built = Built(*[failing(account=name) for name in NAMES for _ in range(2)], accounts=1)

    with pytest.raises(UpstreamUnavailable) as caught:
        await built(retries=retries)

    assert len(built.inner.requests) == asked
    assert len(caught.value.attempts) == asked
    assert make_request().call.retries == 2


@pytest.mark.parametrize(("chance", "first", "second"), [(0.0, 0.125, 0.25), (1.0, 0.25, 0.5)])
async def test_waits_grow_and_differ(chance, first, second):
    """Waits double, and each caller draws half of his."""
    built = Built(failing(), failing(), chance=chance)

    await built()

    assert built.clock.slept == [first, second]


@pytest.mark.parametrize(
    ("told_s", "breaker_s", "waited_s"), [(7.0, 0.0, 7.125), (None, 8.0, 8.125), (2.0, 8.0, 8.125)]
)
async def test_waits_as_long_as_it_is_told(told_s, breaker_s, waited_s):
    """Nobody comes back before the time that the provider named, or that the account's breaker
    rests."""
    built = Built(failing(UpstreamRateLimited, retry_after_s=told_s), wait_s=breaker_s)

    await built()

    assert built.clock.slept == [waited_s]


@pytest.mark.parametrize(
    ("told_s", "left_s", "asked"),
    [(7.0, 8.0, 2), (7.0, 7.1, 1), (86_400.0, 60.0, 1), (0.0, 0.1, 1)],
)
async def test_no_wait_ends_after_the_deadline(told_s, left_s, asked):
    """If the wait would end after the caller's deadline, he is told at once instead."""
    built = Built(failing(UpstreamRateLimited, retry_after_s=told_s))
    request = make_request(deadline=built.clock.monotonic() + left_s)

    if asked == 1:
        with pytest.raises(UpstreamRateLimited):
            await built.retry(request)
        assert built.clock.slept == []
        assert built.counted == []
    else:
        await built.retry(request)
    assert len(built.inner.requests) == asked


@pytest.mark.parametrize("kind", [*AGAIN, *ELSEWHERE_ONLY])
async def test_no_attempt_without_time(kind):
    """With no time left not even another account is asked."""
    built = Built(failing(kind), accounts=2)

    with pytest.raises(kind):
        await built(deadline=built.clock.monotonic() + 0.04)

    assert len(built.inner.requests) == 1


async def test_an_account_that_is_silent_leaves_time_for_another():
    """While another attempt elsewhere is possible an account gets half of the time that is left;
    the last one gets all."""
    built = Built(failing(UpstreamTimeout), failing(UpstreamTimeout, "spare"), accounts=3)

    await built()

    assert [request.call.share for request in built.inner.requests] == [0.5, 0.5, 1.0]


@pytest.mark.parametrize(("accounts", "retries"), [(1, 2), (3, 0)])
async def test_all_the_time_where_nobody_else_is_asked(accounts, retries):
    """Where no other account can be asked the first one gets all the time."""
    built = Built(accounts=accounts)

    await built(retries=retries)

    assert built.inner.requests[0].call.share == 1.0


async def test_what_was_finished_is_not_asked_again():
    """Only what has no embedding yet is asked again, and each comes back at its own place."""
    texts = ("a", "b", "c", "d")

    def made(request, *positions):
        return {i: Embedding(make_vector(request.inputs[i]), 3, "main") for i in positions}

    def first(request):
        raise failing(finished=made(request, 0, 2))

    def second(request):
        raise failing(finished=made(request, 1), account="spare")

    built = Built(first, second, lambda request: respond(request), accounts=3)

    response = await built(*texts)

    assert [request.inputs for request in built.inner.requests] == [texts, ("b", "d"), ("b",)]
    assert [e.vector for e in response.embeddings] == [make_vector(text) for text in texts]
    assert [a.provider for a in response.attempts] == ["main", "spare"]


async def test_an_error_tells_all_that_was_done():
    """The error at the end has every attempt, every embedding that was made, and names the input
    by its place in the caller's request."""
    made = Embedding(make_vector("a"), 3, "main")

    def second(request):
        error = UpstreamRejected("input[1]: no", provider="spare", param="input[1]")
        error.attempts = (make_attempt(provider="spare", is_success=False),)
        raise error

    built = Built(failing(finished={0: made}), second, accounts=2)

    with pytest.raises(UpstreamRejected) as caught:
        await built("a", "b", "c")

    assert caught.value.param == "input[2]"
    assert caught.value.message == "input[2]: no"
    assert caught.value.finished == {0: made}
    assert [a.provider for a in caught.value.attempts] == ["main", "spare"]


async def test_a_bug_is_not_tried_again():
    """What is no EmbedError comes out as it is, even from a second attempt."""
    bug = ZeroDivisionError("a bug")
    built = Built(failing(), bug)

    with pytest.raises(ZeroDivisionError) as caught:
        await built()

    assert caught.value is bug


async def test_whoever_leaves_while_waiting_is_gone():
    """A caller who hangs up while a retry is waited for ends it: nobody is asked for him."""
    built = Built(failing())
    forever = asyncio.Event()
    built.clock.sleep = lambda seconds: forever.wait()
    task = asyncio.create_task(built())
    await until(lambda: built.counted)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(built.inner.requests) == 1


async def test_without_budget_the_error_comes_out():
    """When the budget is spent the first error comes out at once, and the refusal is counted."""
    built = Built(*[failing() for _ in range(200)], accounts=2)
    for _ in range(30):
        assert built.budget.take(1)

    with pytest.raises(UpstreamUnavailable):
        await built()

    assert len(built.inner.requests) == 1
    assert built.counted == [False]


async def test_a_split_request_is_as_many_retries_as_it_repeats():
    """A request of which three parts failed takes three retries from the budget."""
    error = failing()
    error.attempts = (*[make_attempt(is_success=False)] * 3, make_attempt())
    built = Built(error, accounts=2)

    await built()

    taken = 0
    while built.budget.take(1):
        taken += 1
    assert taken == 30 - 3


def test_budget_is_a_tenth_and_three_a_second():
    """In ten seconds there are thirty retries, and one more for ten requests."""
    budget = RetryBudget(clock := FakeClock())
    for _ in range(100):
        budget.add_request()

    assert budget.take(40)
    assert not budget.take(1)
    clock.advance(9.0)
    assert not budget.take(1)
    clock.advance(1.0)
    assert budget.take(30)
    assert not budget.take(1)


@given(
    st.lists(
        st.tuples(st.floats(0, 4), st.integers(0, 40), st.integers(1, 8)), min_size=1, max_size=60
    )
)
def test_budget_in_any_ten_seconds(history):
    """Whatever comes when: in no ten seconds of the clock are more retries granted than thirty and
    a tenth of the requests; and what fits is granted."""
    budget = RetryBudget(clock := FakeClock(monotonic=0.0))
    requests, granted = {}, {}
    for seconds, came, wanted in history:
        clock.advance(seconds)
        now = int(clock.monotonic())
        for _ in range(came):
            budget.add_request()
        requests[now] = requests.get(now, 0) + came
        window = range(now - 9, now + 1)
        most = 30 + 0.1 * sum(requests.get(second, 0) for second in window)
        taken = sum(granted.get(second, 0) for second in window)
        is_granted = budget.take(wanted)
        granted[now] = granted.get(now, 0) + wanted * is_granted
        assert is_granted == (taken + wanted <= most + 1e-9)
