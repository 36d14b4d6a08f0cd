"""Limit lets calls go as the account's headroom allows, and keys take turns."""

import asyncio
import heapq
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.errors import (
    Overloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from embedway.headroom import Headroom
from embedway.health import Health
from embedway.layers.balance import Balance
from embedway.layers.limit import Limit
from embedway.types import Told
from tests.fakes import (
    FakeClock,
    ScriptedEmbedder,
    make_attempt,
    make_grant,
    make_request,
    respond,
    until,
)
from tests.layers.held import Held, settle


class Alarms(FakeClock):
    """A clock whose sleepers wake when the test lets their time come."""

    def __init__(self):
        super().__init__()
        self._sleepers = []
        self._number = count()
        self.most_sleepers = 0

    @property
    def sleeping(self):
        """When those who sleep will wake."""
        return sorted(when for when, _, future in self._sleepers if not future.done())

    async def sleep(self, seconds):
        """Until the test has let so much time pass."""
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.monotonic() + seconds, next(self._number), future))
        self.most_sleepers = max(self.most_sleepers, len(self.sleeping))
        await future

    async def pass_time(self, seconds):
        """Wake everybody whose time comes, each at its moment."""
        end = self.monotonic() + seconds
        while self.sleeping and self.sleeping[0] <= end:
            when, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self.advance(max(0.0, when - self.monotonic()))
                future.set_result(None)
                await settle()
        self.advance(end - self.monotonic())


def make_limit(inner, concurrency=1, clock=None, max_waiting=1024, **limits):
    """The layer; a text weighs as many tokens as it has letters."""
    clock = clock or Alarms()
    headroom = Headroom(clock, concurrency, **limits)
    return Limit(
        inner,
        "openai",
        headroom,
        clock,
        lambda request: sum(len(text) for text in request.inputs),
        max_waiting,
    )


def ask(layer, text, key="k1", **fields):
    """One caller."""
    return asyncio.create_task(
        layer(make_request(text, grant=make_grant(key_id=key), **{"deadline": 1e9, **fields}))
    )


def begin(layer, number):
    """So many callers, each with one text."""
    return [ask(layer, str(i)) for i in range(number)]


async def test_never_more_at_once():
    """So many calls run at once, and the others follow in the order they came, whichever ends."""
    inner = Held()
    tasks = begin(make_limit(inner, 3), 10)
    await settle()
    while running := inner.running:
        assert len(running) == min(3, 10 - len(inner.calls) + len(running))
        running[-1].answer()
        await settle()

    assert inner.asked == [(str(i),) for i in range(10)]
    assert [(await task).params for task in tasks] == [make_request().params] * 10


@pytest.mark.parametrize("end", ["error", "bug", "cancelled", "cancelled in the queue"])
async def test_places_are_given_back(end):
    """A place is free again however its call ended, and a place in the queue is passed over."""
    inner = Held()
    tasks = begin(make_limit(inner, 1), 3)
    await settle()
    if end == "error":
        inner.calls[0].fail(UpstreamUnavailable("down", provider="openai"))
    elif end == "bug":
        inner.calls[0].fail(ZeroDivisionError("a bug"))
    elif end == "cancelled":
        tasks[0].cancel()
    else:
        tasks[1].cancel()
        await settle()
        inner.calls[0].answer()
    await settle()
    for _ in range(2):
        for call in inner.running:
            call.answer()
        await settle()
    await asyncio.wait(tasks)

    gone = 1 if end == "cancelled in the queue" else 0
    assert [i for i, task in enumerate(tasks) if task.cancelled() or task.exception()] == [gone]
    assert inner.asked == [(str(i),) for i in range(3) if i != gone or not gone]
    assert inner.calls[-1].has_ended


async def test_a_greedy_key_does_not_keep_others_waiting():
    """A thousand waiting calls of one key delay another key's call by one turn; and each key's
    calls go in the order they came."""
    inner = Held()
    layer = make_limit(inner, 1)
    tasks = [ask(layer, f"g{i}", "greedy") for i in range(1001)]
    await until(lambda: layer.waiting == 1000)
    tasks += [ask(layer, f"m{i}", "modest") for i in range(2)]
    await until(lambda: layer.waiting == 1002)

    for _ in range(7):
        inner.running[0].answer()
        await settle()
    assert [texts[0] for texts in inner.asked] == ["g0", "g1", "m0", "g2", "m1", "g3", "g4", "g5"]

    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert (layer.waiting, layer.headroom.in_flight) == (0, 0)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30)), min_size=1, max_size=40),
    st.integers(1, 3),
)
async def test_turns(calls, concurrency):
    """Whatever comes: the calls of a key go in the order they came, and between two of one key at
    most one of each other key goes first."""
    inner = Held()
    layer = make_limit(inner, concurrency)
    tasks = [ask(layer, f"{key}{i}", key) for i, (key, _) in enumerate(calls)]
    await settle()
    while inner.running:
        inner.running[0].answer()
        await settle()
    await asyncio.gather(*tasks)

    order = [texts[0] for texts in inner.asked]
    for key in "abc":
        own = [text for text in order if text[0] == key]
        assert own == [f"{k}{i}" for i, (k, _) in enumerate(calls) if k == key]
        waited = order[concurrency:]
        places = [i for i, text in enumerate(waited) if text[0] == key]
        for one, after in pairwise(places):
            between = [text[0] for text in waited[one + 1 : after]]
            assert len(between) == len(set(between))


async def test_the_line_is_bounded():
    """Whoever comes when the line is full is refused at once, with the time that the line takes;
    nobody who waits is harmed."""
    inner = Held()
    layer = make_limit(inner, 2, max_waiting=10)
    tasks = begin(layer, 12)
    await settle()
    layer.clock.advance(4.0)
    for call in inner.running:
        call.answer()  # an answer takes four seconds
    await settle()
    tasks += begin(layer, 2)
    await settle()

    with pytest.raises(Overloaded) as caught:
        await ask(layer, "one too many")
    assert caught.value.retry_after_s == 10 * 4.0 / 2
    assert "10 calls already wait for openai" in caught.value.message

    while inner.running:
        for call in inner.running:
            call.answer()
        await settle()
    assert [len((await task).embeddings) for task in tasks] == [1] * 14


async def test_a_greedy_key_does_not_fill_the_line():
    """When the line is full the last call of the key that has most waiting makes room for another
    key's, until that one has as many itself."""
    inner = Held()
    layer = make_limit(inner, 1, max_waiting=4)
    greedy = [ask(layer, f"g{i}", "greedy") for i in range(5)]
    await settle()
    modest = [ask(layer, f"m{i}", "modest") for i in range(3)]
    for refused in (greedy[4], greedy[3], modest[2]):
        with pytest.raises(Overloaded):
            await refused
    assert layer.waiting == 4

    while inner.running:
        inner.running[0].answer()
        await settle()
    assert [texts[0] for texts in inner.asked] == ["g0", "g1", "m0", "g2", "m1"]
    await asyncio.gather(*greedy[:3], *modest[:2])


async def test_the_gone_do_not_fill_the_line():
    """Callers who left take no room in the line, wherever they stood."""
    inner = Held()
    layer = make_limit(inner, 1, max_waiting=4)
    first, second = ask(layer, "first"), ask(layer, "second")
    for _ in range(5):
        tasks = begin(layer, 3)
        await settle()
        assert layer.waiting == 4
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert layer.waiting == 1
    inner.calls[0].answer()
    await first
    await settle()
    inner.calls[1].answer()
    await second
    assert inner.asked == [("first",), ("second",)]


async def test_who_leaves_as_his_turn_comes_gives_it_back():
    """A call that is cancelled between its turn and its start leaves the place to the next."""
    inner = Held()
    layer = make_limit(inner, 1)
    first, second, third = begin(layer, 3)
    await settle()
    inner.calls[0].answer()
    await until(lambda: layer.waiting == 1)  # the turn of the second has come
    second.cancel()
    await asyncio.wait([first, second])
    assert second.cancelled()
    await settle()

    assert inner.asked == [("0",), ("2",)]
    inner.calls[1].answer()
    await third
    assert layer.headroom.in_flight == 0


async def test_waiting_for_time():
    """Calls that only time keeps waiting are let go by one timer, at their moments, and nothing
    is left running afterwards."""
    inner, clock = ScriptedEmbedder(), Alarms()
    layer = make_limit(inner, 100, clock, requests_per_minute=60)
    tasks = begin(layer, 20)
    await settle()
    assert len(inner.requests) == 6  # the burst
    assert clock.sleeping == [1001.0]

    for second in range(1, 15):
        await clock.pass_time(1)
        assert len(inner.requests) == 6 + second
    assert [request.inputs[0] for request in inner.requests] == [str(i) for i in range(20)]
    await asyncio.gather(*tasks)
    assert clock.most_sleepers == 1
    assert len(asyncio.all_tasks()) == 1


async def test_the_timer_follows_the_first():
    """When a large call that waited for its tokens leaves, a small one goes as soon as it may, or
    at once; when all have left, no timer runs on."""
    inner, clock = Held(), Alarms()
    layer = make_limit(inner, 100, clock, tokens_per_minute=600)
    first = ask(layer, "x" * 60)
    await settle()
    clock.advance(1)
    large = ask(layer, "x" * 50)
    await settle()
    small = ask(layer, "x" * 5)
    await settle()
    assert len(inner.calls) == 1
    large.cancel()
    await settle()
    assert inner.asked[1] == ("x" * 5,)

    last, sooner = ask(layer, "x" * 60), ask(layer, "x" * 10)
    await settle()
    assert clock.sleeping == [1006.5]
    last.cancel()
    await settle()
    assert clock.sleeping == [1001.5]
    sooner.cancel()
    await settle()
    assert len(asyncio.all_tasks()) == 3  # this test, and the two that are held
    for task in (first, small):
        task.cancel()
    await asyncio.wait([first, small, large, last, sooner])


async def test_held_until_the_reset():
    """An answer whose headers say that nothing is left holds those who can wait until the reset;
    they go then."""
    inner, clock = Held(), Alarms()
    layer = make_limit(inner, 2, clock)
    tasks = [ask(layer, str(i), deadline=1060.0) for i in range(5)]
    await settle()
    request = inner.calls[0].request
    attempt = make_attempt(told=Told(20.0, requests=0))
    inner.calls[0].outcome.set_result(respond(request, attempts=(attempt,)))
    await settle()
    assert len(inner.calls) == 2
    await clock.pass_time(19.9)
    assert len(inner.calls) == 2
    await clock.pass_time(0.1)
    assert len(inner.calls) == 3
    while inner.running:
        inner.running[0].answer()
        await settle()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("by_retry_after", [True, False])
async def test_nobody_waits_in_vain(by_retry_after):
    """Whose deadline comes before the account takes anything is told so at once, with the time it
    takes, whether he waited already or comes then; others wait."""
    inner, clock = Held(), Alarms()
    layer = make_limit(inner, 1, clock)
    first = ask(layer, "first")
    patient = ask(layer, "patient", deadline=1060.0)
    hasty = ask(layer, "hasty", deadline=1010.0)
    await settle()
    error = UpstreamRateLimited(
        "full", provider="openai", retry_after_s=30.0 if by_retry_after else None
    )
    told = None if by_retry_after else Told(30.0, requests=0)
    error.attempts = (make_attempt(is_success=False, status=429, told=told),)
    inner.calls[0].fail(error)
    with pytest.raises(UpstreamRateLimited):
        await first

    for task in (hasty, ask(layer, "late", deadline=1029.0)):
        with pytest.raises(UpstreamRateLimited) as caught:
            await task
        assert (caught.value.provider, caught.value.retry_after_s) == ("openai", 30.0)
        assert caught.value.attempts == ()
    assert clock.monotonic() == 1000.0
    await clock.pass_time(30)
    inner.calls[1].answer()
    await patient
    assert inner.asked == [("first",), ("patient",)]


@pytest.mark.parametrize(
    "error",
    [
        UpstreamRateLimited("full", provider="openai"),
        UpstreamTimeout("slow", provider="openai"),
        UpstreamRejected("no", provider="openai"),
        ZeroDivisionError("a bug"),
    ],
)
async def test_errors_pass_through(error):
    """What fails below comes out as it is."""
    layer = make_limit(ScriptedEmbedder([error]))
    with pytest.raises(type(error)) as caught:
        await ask(layer, "a text")

    assert caught.value is error
    assert layer.headroom.in_flight == 0


@pytest.mark.parametrize(("waits_s", "expected"), [(59, 10), (60, 7)])
async def test_who_waits_until_his_deadline_says_that_the_account_is_slow(waits_s, expected):
    """A call that is cancelled at its deadline counts as a timeout, one whose caller hung up does
    not."""
    inner, clock = Held(), Alarms()
    layer = make_limit(inner, 10, clock)
    task = ask(layer, "a text", deadline=1060.0)
    await settle()
    clock.advance(waits_s)
    task.cancel()
    await asyncio.wait([task])

    assert layer.headroom.concurrency == expected
    assert layer.headroom.in_flight == 0


@pytest.mark.parametrize("is_refused", [True, False])
async def test_the_limits_of_a_callers_own_account_are_not_ours(is_refused):
    """What a provider says of a call that was made under the caller's own credential neither holds
    our account nor slows it down."""
    attempt = make_attempt(credential_type="byok", told=Told(30.0, requests=0))
    error = UpstreamRateLimited("full", provider="openai", retry_after_s=30.0)
    error.attempts = (attempt,)
    answer = error if is_refused else (lambda request: respond(request, attempts=(attempt,)))
    layer = make_limit(ScriptedEmbedder([answer]), 10)
    await asyncio.wait([ask(layer, "a text")])

    assert layer.headroom.concurrency == 10
    assert layer.headroom.wait_s(0) == 0


async def test_another_account_is_asked_meanwhile():
    """While an account takes nothing more, calls go to another of the model at once; if all are
    closed they wait."""
    clock = Alarms()
    ends = {"a": ScriptedEmbedder(), "b": ScriptedEmbedder()}
    limits = {name: make_limit(end, 4, clock, requests_per_minute=10) for name, end in ends.items()}
    health = {name: Health(clock, lambda: 0.0) for name in ends}
    balance = Balance(
        "m", limits, health, lambda: 0.0, closed_s=lambda name: limits[name].headroom.closed_s
    )
    for _ in range(2):
        await ask(balance, "a text")
    assert [len(end.requests) for end in ends.values()] == [1, 1]

    third = ask(balance, "a text")
    await settle()
    assert not third.done()
    await clock.pass_time(6)
    await third
    assert sum(len(end.requests) for end in ends.values()) == 3


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "answer", "fail", "cancel", "time", "settle"]),
        st.integers(0, 30),
    ),
    max_size=60,
)


class Callers:
    """Many callers of one account, and what becomes of them."""

    def __init__(self, layer, inner):
        self.layer, self.inner, self.tasks = layer, inner, []

    async def do(self, step, number):
        """One step; two ends within one round of the loop are possible."""
        running = [call for call in self.inner.running if not call.outcome.done()]
        if step == "ask":
            deadline = self.layer.clock.monotonic() + (1e9 if number % 2 else number)
            text, key = "x" * max(1, number), "abc"[number % 3]
            self.tasks.append(ask(self.layer, text, key, deadline=deadline))
        elif step == "time":
            await self.layer.clock.pass_time(number / 10)
        elif step == "settle":
            await settle(number)
        elif step == "cancel" and self.tasks:
            self.tasks[-1 - number % len(self.tasks)].cancel()
        elif step == "answer" and running:
            running[number % len(running)].answer()
        elif step == "fail" and running:
            running[number % len(running)].fail(
                UpstreamRateLimited("full", provider="openai", retry_after_s=1.0)
            )

    async def end(self):
        """Answer whoever is left."""
        while not all(task.done() for task in self.tasks):
            await self.layer.clock.pass_time(5)
            await settle()
            await self.do("answer", 0)
        await settle()


@given(STEPS, st.integers(1, 4), st.booleans(), st.integers(1, 6))
async def test_nothing_leaks(steps, concurrency, is_rated, max_waiting):
    """However calls come, end, and are cancelled at any moment, also at the very moment their turn
    comes: never more than allowed run, and in the end no place, no turn and no task is left."""
    inner, clock = Held(), Alarms()
    limits = {"requests_per_minute": 120, "tokens_per_minute": 600} if is_rated else {}
    layer = make_limit(inner, concurrency, clock, max_waiting, **limits)
    callers = Callers(layer, inner)
    for step, number in steps:
        await callers.do(step, number)
        assert layer.headroom.in_flight <= concurrency
        assert layer.waiting <= max_waiting
        assert len(clock.sleeping) <= 1
    await callers.end()
    for task in callers.tasks:
        refused = UpstreamRateLimited | Overloaded | None
        assert task.cancelled() or isinstance(task.exception(), refused)

    assert (layer.headroom.in_flight, layer.waiting) == (0, 0)
    assert len(asyncio.all_tasks()) == 1
    assert clock.sleeping == []
