"""Hedge: a second account is asked when the first is slower than usual, and the first answer
wins."""

import asyncio
from itertools import cycle

import pytest

from embedway.errors import UpstreamRejected, UpstreamTimeout, UpstreamUnavailable
from embedway.health import Health
from embedway.layers.balance import Balance
from embedway.layers.hedge import Hedge
from tests.fakes import FakeClock, make_attempt, make_request, until
from tests.layers.held import Held, settle


class HeldClock(FakeClock):
    """Sleeps until the test rings."""

    def __init__(self):
        super().__init__()
        self.alarms = []
        self.cancelled = 0

    async def sleep(self, seconds):
        """Wait for the test."""
        self.slept.append(seconds)
        self.alarms.append(asyncio.get_running_loop().create_future())
        try:
            await self.alarms[-1]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def ring(self):
        """The time is over."""
        self.advance(self.slept[-1])
        self.alarms[-1].set_result(None)


class Built:
    """A Hedge over two accounts that the test answers by hand."""

    def __init__(self, *names, usual_s=0.3, has_budget=True, chance=lambda: 0.0):
        self.clock = HeldClock()
        self.inner = {name: Held() for name in names or ("main", "spare")}
        self.health = {name: Health(self.clock, lambda: 0.0) for name in self.inner}
        self.taken = []
        self.balance = Balance("m", self.inner, self.health, chance)
        self.hedge = Hedge(
            self.balance, self.clock, self.balance, lambda account: usual_s, self._take
        )
        self.has_budget = has_budget

    def _take(self, calls):
        self.taken.append(calls)
        return self.has_budget

    def begin(self, *inputs, **fields):
        """A caller asks."""
        return asyncio.create_task(self.hedge(make_request(*inputs, **fields)))

    async def begin_slow(self, **fields):
        """A caller whose first account takes longer than usual."""
        task = self.begin(**fields)
        await until(lambda: self.inner["main"].calls and self.clock.alarms)
        self.clock.ring()
        await settle()
        return task

    def check_nothing_left(self):
        """No call, no timer, no count."""
        assert not any(one.running for one in self.inner.values())
        assert [one.in_flight for one in self.health.values()] == [0] * len(self.inner)
        assert asyncio.all_tasks() == {asyncio.current_task()}


def failing(kind, account):
    """An error with its attempt."""
    error = kind("no", provider=account)
    error.attempts = (make_attempt(provider=account, is_success=False, error=error.code),)
    return error


def outcomes(attempts):
    """Who was asked, and what came of it."""
    return [(one.provider, one.is_success, one.error) for one in attempts]


async def test_a_usual_answer_is_asked_for_once():
    """If the first account answers within its usual time nobody else is asked."""
    built = Built()
    task = built.begin()
    await built.inner["main"].arrived(1)
    built.inner["main"].calls[0].answer()

    response = await task

    assert len(response.attempts) == 1
    assert (built.inner["spare"].calls, built.taken) == ([], [])
    assert built.clock.slept == [0.3]
    built.check_nothing_left()


@pytest.mark.parametrize("winner", ["main", "spare"])
async def test_the_first_answer_wins(winner):
    """After the usual time another account is asked for the same; whoever answers first has
    answered, the other one is cut off, and both are told."""
    built = Built()
    task = await built.begin_slow(order=("main",))
    loser = "spare" if winner == "main" else "main"
    assert [len(one.calls) for one in built.inner.values()] == [1, 1]

    built.inner[winner].calls[0].answer()
    response = await task

    assert built.inner[loser].calls[0].is_cancelled
    assert outcomes(response.attempts)[0] == (loser, False, "superseded")
    assert response.attempts[1].is_success
    assert response.attempts[0].ended_ms >= response.attempts[0].started_ms > 0
    built.check_nothing_left()


async def test_two_accounts_are_asked_whatever_is_drawn():
    """The first call goes to the account whose usual time was waited for, and the second one to
    another, though chance would have it otherwise."""
    drawn = cycle((0.0, 0.0, 0.9, 0.9))
    built = Built(chance=lambda: next(drawn))
    task = await built.begin_slow()
    assert [len(one.calls) for one in built.inner.values()] == [1, 1]

    built.inner["main"].calls[0].answer()
    await task
    built.check_nothing_left()


@pytest.mark.parametrize("first", ["main", "spare"])
async def test_a_failure_waits_for_the_other(first):
    """If one of the two fails the other one's answer counts, and both attempts are told."""
    built = Built()
    task = await built.begin_slow()
    other = "spare" if first == "main" else "main"
    built.inner[first].calls[0].fail(failing(UpstreamUnavailable, first))
    await settle()
    assert not task.done()

    built.inner[other].calls[0].answer()
    response = await task

    assert outcomes(response.attempts)[0] == (first, False, "provider_unavailable")
    assert response.attempts[1].is_success
    built.check_nothing_left()


async def test_both_fail():
    """If both fail the error tells both attempts, so that neither is asked again at once."""
    built = Built()
    task = await built.begin_slow()
    built.inner["main"].calls[0].fail(failing(UpstreamTimeout, "main"))
    await settle()
    built.inner["spare"].calls[0].fail(failing(UpstreamRejected, "spare"))

    with pytest.raises(UpstreamRejected) as caught:
        await task

    assert [one.provider for one in caught.value.attempts] == ["main", "spare"]
    built.check_nothing_left()


async def test_an_early_failure_is_not_hedged():
    """A failure within the usual time is for the retry layer: it comes out at once."""
    built = Built()
    task = built.begin()
    await built.inner["main"].arrived(1)
    error = failing(UpstreamUnavailable, "main")
    built.inner["main"].calls[0].fail(error)

    with pytest.raises(UpstreamUnavailable) as caught:
        await task

    assert caught.value is error
    assert built.inner["spare"].calls == []
    built.check_nothing_left()


@pytest.mark.parametrize(
    "why", ["unknown", "several texts", "no other account", "others avoided", "no budget", "ill"]
)
async def test_when_nobody_else_is_asked(why):
    """There is no second call while the usual time is not known, for several texts, without
    another account that is well, and without budget."""
    built = Built(
        *(("main",) if why == "no other account" else ()),
        usual_s=None if why == "unknown" else 0.3,
        has_budget=why != "no budget",
    )
    if why == "ill":
        for _ in range(5):
            begun = built.health["spare"].begin()
            built.health["spare"].fail(begun, failing(UpstreamUnavailable, "spare"))
    texts = ("a", "b") if why == "several texts" else ("a",)
    task = built.begin(*texts, avoid=("spare",) if why == "others avoided" else ())
    await built.inner["main"].arrived(1)
    if built.clock.alarms:
        built.clock.ring()
    await settle()
    built.inner["main"].calls[0].answer()

    response = await task

    assert len(response.attempts) == 1
    assert sum(len(one.calls) for one in built.inner.values()) == 1
    assert built.taken == ([1] if why == "no budget" else [])
    built.check_nothing_left()


@pytest.mark.parametrize("is_slow", [False, True])
async def test_whoever_leaves_ends_both(is_slow):
    """A caller who hangs up leaves neither a call nor a timer behind."""
    built = Built()
    if is_slow:
        task = await built.begin_slow()
    else:
        task = built.begin()
        await until(lambda: built.inner["main"].calls and built.clock.alarms)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    assert all(call.is_cancelled for one in built.inner.values() for call in one.calls)
    built.check_nothing_left()


async def test_a_bug_ends_both():
    """A bug in one of the two comes out, and the other one is cut off."""
    built = Built()
    task = await built.begin_slow()
    built.inner["spare"].calls[0].fail(bug := ZeroDivisionError("a bug"))

    with pytest.raises(ZeroDivisionError) as caught:
        await task

    assert caught.value is bug
    assert built.inner["main"].calls[0].is_cancelled
    built.check_nothing_left()
