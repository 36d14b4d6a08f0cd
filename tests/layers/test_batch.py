"""Batch asks at once while there is a free slot, and joins what has to wait."""

import asyncio
import gc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedway.errors import Overloaded, UpstreamRejected, UpstreamUnavailable
from embedway.layers.batch import Batch
from embedway.secret import Secret
from embedway.store.keys import is_project
from tests.fakes import make_attempt, make_grant, make_request, until
from tests.layers.held import Held, proof_of, settle

GREEDY, MODEST = make_grant(key_id="greedy"), make_grant(key_id="modest")


class Shared:
    """A Batch over a Held, and the callers of a test."""

    def __init__(self, slots=1, max_inputs=96, **fields):
        self.inner = Held()
        self.layer = Batch(self.inner, lambda: slots, max_inputs, **fields)

    async def begin(self, *inputs, **fields):
        """A caller of his own, who is asked for or waits."""
        task = asyncio.create_task(self.layer(make_request(*inputs, **fields)))
        await settle(3)
        return task

    async def occupied(self):
        """A caller who holds the only slot; returns his call."""
        await self.begin("first")
        return self.inner.calls[0]

    async def drain(self):
        """Answer everything until nobody waits."""
        while self.inner.running or self.layer.waiting or self.layer._running:
            for call in self.inner.running:
                if not call.outcome.done():
                    call.answer()
            await settle(2)


def vectors(response):
    """The vectors of an answer."""
    return [embedding.vector for embedding in response.embeddings]


def proofs(*inputs, **fields):
    """What the vectors must be."""
    request = make_request(*inputs, **fields)
    return [proof_of(value, request) for value in inputs]


def refused(position=None):
    """A refusal, of an input or of the request."""
    return UpstreamRejected(
        "no" if position is None else f"input[{position}] is bad",
        provider="openai",
        param=None if position is None else f"input[{position}]",
    )


async def test_idle_is_at_once():
    """While a slot is free a request goes down as the very object it is, in the caller's own
    task, and its answer comes up untouched."""
    shared, request = Shared(slots=2), make_request("a", "b")
    tasks = [asyncio.create_task(shared.layer(request)) for _ in range(2)]
    await asyncio.sleep(0)

    assert [call.request for call in shared.inner.calls] == [request] * 2
    assert all(call.request is request for call in shared.inner.calls)
    assert asyncio.all_tasks() == {asyncio.current_task(), *tasks}
    await shared.drain()
    assert [task.result() for task in tasks] == [
        call.outcome.result() for call in shared.inner.calls
    ]


async def test_a_thousand_callers():
    """A thousand different texts at the same time are at most 15 calls of 96 in 4 slots, never
    more than 4 at a time, and everybody gets his own."""
    shared, most = Shared(slots=4, max_inputs=96), 0
    texts = [f"text {i}" for i in range(1000)]
    tasks = [asyncio.create_task(shared.layer(make_request(text))) for text in texts]
    await settle(2)
    while running := shared.inner.running:
        most = max(most, len(running))
        running[0].answer()
        await settle(2)

    assert most == 4
    assert len(shared.inner.calls) <= 15
    assert max(len(inputs) for inputs in shared.inner.asked) == 96
    assert [vectors(await task) for task in tasks] == [proofs(text) for text in texts]
    assert sorted(shared.inner.bill.texts) == sorted(texts)


async def test_what_waits_goes_together():
    """What waits while all slots are busy goes in one call when one is free, in order."""
    shared = Shared()
    first = await shared.occupied()
    tasks = [await shared.begin("a", "b"), await shared.begin("c"), await shared.begin("a", "d")]
    assert len(shared.inner.calls) == 1
    first.answer()
    await shared.drain()

    assert shared.inner.asked[1:] == [("a", "b", "c", "a", "d")]
    assert [vectors(await task) for task in tasks] == [
        proofs("a", "b"),
        proofs("c"),
        proofs("a", "d"),
    ]
    call = shared.inner.calls[1]
    assert {(await task).attempts for task in tasks} == {call.outcome.result().attempts}
    assert {(await task).params for task in tasks} == {call.request.params}
    paid = sum(e.cost for task in tasks for e in task.result().embeddings)
    assert paid == shared.inner.bill.billed - first.outcome.result().embeddings[0].cost


async def test_a_call_is_not_overfull():
    """No call has more than so many inputs, unless one caller alone has more."""
    shared = Shared(max_inputs=3)
    first = await shared.occupied()
    for inputs in ("ab", "c", "de", "fghij", "k", "lmn"):
        await shared.begin(*inputs)
    first.answer()
    await shared.drain()

    assert ["".join(inputs) for inputs in shared.inner.asked[1:]] == [
        "abc", "de", "fghij", "k", "lmn",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "calls"),
    [
        ({"dimensions": 4}, {"dimensions": 8}, 2),
        ({"input_type": "query"}, {"input_type": "document"}, 2),
        ({"options": b"{}"}, {}, 2),
        ({"user": "u-1"}, {"user": "u-2"}, 2),
        ({"only": ("x",)}, {}, 2),
        ({"order": ("x",)}, {}, 2),
        ({"sort": "cost"}, {}, 2),
        ({"credentials": {"openai": Secret("a")}}, {}, 2),
        (
            {"credentials": {"openai": Secret("a")}, "id": "1"},
            {"credentials": {"openai": Secret("a")}, "id": "2"},
            2,
        ),
        ({"grant": make_grant(project="p"), "id": "1"}, {"grant": make_grant(project="q")}, 1),
        ({"tags": ("t",), "deadline": 1.0, "cache": "skip"}, {"trace": "t", "app": "x"}, 1),
    ],
)
async def test_who_travels_together(one, other, calls):
    """Only requests with equal parameters and equal terms travel together."""
    shared = Shared()
    first = await shared.occupied()
    tasks = [await shared.begin("a", **one), await shared.begin("b", **other)]
    first.answer()
    await shared.drain()

    assert len(shared.inner.calls) == 1 + calls
    assert [vectors(await task) for task in tasks] == [proofs("a", **one), proofs("b", **other)]


async def test_a_joined_call_is_nobodys():
    """A joined request has time until the last caller's deadline and as many attempts as any of
    them, and carries what they have in common and nothing that is one caller's own."""
    shared = Shared()
    first = await shared.occupied()
    for retries, deadline in enumerate((10.0, 30.0, 20.0)):
        await shared.begin(
            str(deadline),
            deadline=deadline,
            retries=retries,
            share=deadline / 40,
            user="u",
            order=("x",),
            grant=make_grant(key_id=f"k{deadline}", name="mine", project="p"),
            tags=("mine",),
            trace="mine",
            app="mine",
            fallbacks=("mine",),
        )
    first.answer()
    await shared.drain()
    call = shared.inner.calls[1].request.call

    assert (call.deadline, call.retries, call.share) == (30.0, 2, 0.75)
    assert (call.user, call.order) == ("u", ("x",))
    assert "mine" not in repr(call)
    assert (call.grant.is_admin, call.grant.project) == (False, "p")


@pytest.mark.parametrize(
    ("one", "other", "key", "project"),
    [
        ({"key_id": "k1", "project": "p"}, {"key_id": "k1", "project": "p"}, "k1", "p"),
        ({"key_id": "k1", "project": "p"}, {"key_id": "k2", "project": "p"}, "shared", "p"),
        ({"key_id": "k1", "project": "p"}, {"key_id": "k2", "project": "q"}, "shared", "(several)"),
    ],
)
async def test_whose_a_joined_call_is(one, other, key, project):
    """A joined call is booked on the key and the project of its callers where they have one; no
    project is charged for what another one asked."""
    shared = Shared()
    first = await shared.occupied()
    for text, grant in (("a", one), ("b", other)):
        await shared.begin(text, grant=make_grant(**grant))
    first.answer()
    await shared.drain()

    grant = shared.inner.calls[1].request.call.grant
    assert (grant.key_id, grant.project) == (key, project)
    assert not is_project("(several)")


async def test_a_lone_traveller_keeps_his_request():
    """Who waited and then travels alone is asked for with his very own request."""
    shared = Shared()
    first = await shared.occupied()
    request = make_request("a", user="u")
    task = asyncio.create_task(shared.layer(request))
    await settle(3)
    first.answer()
    await shared.drain()

    assert shared.inner.calls[1].request is request
    assert vectors(await task) == proofs("a")


async def test_every_queue_gets_its_turn():
    """A queue that is never empty does not keep the others waiting: each has its turn."""
    shared = Shared(max_inputs=2)
    first = await shared.occupied()
    for text in "abcdef":
        await shared.begin(text, user="busy")
    for user in ("x", "y"):
        await shared.begin(user, user=user)
    first.answer()
    for turn in range(1, 6):
        await shared.inner.arrived(turn + 1)
        await shared.begin(f"more {turn}", user="busy")
        shared.inner.calls[turn].answer()
        await settle(3)

    turns = [call.request.call.user for call in shared.inner.calls[1:]]
    assert turns[:4] == ["busy", "x", "y", "busy"]
    await shared.drain()


async def test_a_greedy_key_does_not_keep_others_waiting():
    """A thousand waiting texts of one key, on however many terms, delay another key's by one
    call; and each key's go in the order they came."""
    shared = Shared(max_inputs=2)
    first = await shared.occupied()
    tasks = [await shared.begin(f"g{i}", user=f"u{i % 3}", grant=GREEDY) for i in range(1000)]
    tasks += [await shared.begin(f"m{i}", grant=MODEST) for i in range(3)]
    first.answer()
    for turn in range(1, 6):
        await shared.inner.arrived(turn + 1)
        shared.inner.calls[turn].answer()
        await settle(3)

    assert shared.inner.asked[1:6] == [
        ("g0", "g3"), ("m0", "m1"), ("g1", "g4"), ("m2",), ("g2", "g5"),
    ]  # fmt: skip
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert shared.layer.waiting == 0


async def test_a_greedy_key_leaves_room_in_a_call():
    """In a call that several keys share, keys take turns as well."""
    shared = Shared(max_inputs=4)
    first = await shared.occupied()
    for i in range(6):
        await shared.begin(f"g{i}", grant=GREEDY)
    for i in range(2):
        await shared.begin(f"m{i}", grant=MODEST)
    first.answer()
    await shared.drain()

    assert shared.inner.asked[1:] == [("g0", "m0", "g1", "m1"), ("g2", "g3", "g4", "g5")]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), min_size=1, max_size=40),
    st.integers(1, 3),
)
def test_turns(callers, slots):
    """Whatever comes: what a key asks for on the same terms goes in the order it came, and
    between two calls with texts of one key no other key has two that the first one is not in."""

    async def check():
        shared = Shared(slots=slots, max_inputs=1)
        for i, (key, user) in enumerate(callers):
            await shared.begin(f"{key}{user}{i}", user=user, grant=make_grant(key_id=key))
        while shared.inner.running:
            shared.inner.running[0].answer()
            await settle(3)
        order = [texts[0] for texts in shared.inner.asked]
        assert sorted(order) == sorted(f"{key}{user}{i}" for i, (key, user) in enumerate(callers))
        for terms in set(callers):
            places = [int(text[2:]) for text in order if (text[0], text[1]) == terms]
            assert places == sorted(places)
        waited = order[slots:]
        for key in "abc":
            places = [i for i, text in enumerate(waited) if text[0] == key]
            for one, after in pairwise(places):
                between = [text[0] for text in waited[one + 1 : after]]
                assert len(between) == len(set(between))

    asyncio.run(check())


async def test_what_waits_is_bounded():
    """Whoever comes when so many inputs wait is refused at once, with the time that they
    take; nobody who waits is harmed."""
    asked = []
    shared = Shared(max_inputs=4, max_waiting=8, drain_s=lambda *drain: asked.append(drain) or 7.5)
    first = await shared.occupied()
    tasks = [await shared.begin(*inputs) for inputs in ("abc", "def", "gh")]
    with pytest.raises(Overloaded) as caught:
        await shared.layer(make_request("one too many"))
    assert caught.value.retry_after_s == 7.5
    assert "8 inputs already wait for openai/text-embedding-3-small" in caught.value.message
    assert asked == [(2, 8 * 3)]  # as if each had as many tokens as the one too many
    assert shared.layer.waiting == 3

    first.answer()
    await shared.drain()
    assert [len((await task).embeddings) for task in tasks] == [3, 3, 2]


async def test_a_greedy_key_does_not_fill_the_line():
    """When no more may wait, the last request of the key that has most of them makes room for
    another key's, until that one has as many itself."""
    shared = Shared(max_inputs=1, max_waiting=4)
    first = await shared.occupied()
    greedy = [await shared.begin(f"g{i}", user=f"u{i}", grant=GREEDY) for i in range(4)]
    modest = [await shared.begin(f"m{i}", grant=MODEST) for i in range(3)]
    for refused_one in (greedy[3], greedy[2], modest[2]):
        with pytest.raises(Overloaded):
            await refused_one
    assert shared.layer.waiting == 4

    first.answer()
    await shared.drain()
    await asyncio.gather(*greedy[:2], *modest[:2])
    assert [texts[0] for texts in shared.inner.asked[1:]] == ["g0", "m0", "g1", "m1"]


async def test_more_than_may_wait_waits_alone():
    """A request of more inputs than may wait is let in when nobody else waits."""
    shared = Shared(max_inputs=1, max_waiting=2)
    first = await shared.occupied()
    task = await shared.begin(*"abcde")
    with pytest.raises(Overloaded):
        await shared.layer(make_request("f"))
    first.answer()
    await shared.drain()
    assert vectors(await task) == proofs(*"abcde")


async def test_who_leaves_while_he_waits_is_dropped():
    """The inputs of a caller who left before his turn are not asked."""
    shared = Shared()
    first = await shared.occupied()
    leaver, stays = await shared.begin("gone"), await shared.begin("a")
    also = await shared.begin("gone too", user="other")
    leaver.cancel()
    also.cancel()
    await asyncio.wait([leaver, also])
    first.answer()
    await shared.drain()

    assert shared.inner.asked[1:] == [("a",)]
    assert vectors(await stays) == proofs("a")


async def test_who_leaves_on_the_way():
    """A caller who leaves while his inputs travel does not disturb those aboard with him; when
    the last has gone the call is cancelled, and its slot is free."""
    shared = Shared()
    first = await shared.occupied()
    tasks = [await shared.begin("a"), await shared.begin("b")]
    first.answer()
    await shared.inner.arrived(2)
    tasks[0].cancel()
    await settle()
    assert not shared.inner.calls[1].is_cancelled
    tasks[1].cancel()
    await asyncio.wait(tasks)

    assert shared.inner.calls[1].is_cancelled
    last = await shared.begin("c")
    shared.inner.calls[2].answer()
    assert vectors(await last) == proofs("c")


async def test_one_bad_text():
    """One bad text fails its own caller only, at his own position; the others are answered, and
    nothing that was embedded already is asked again."""
    shared = Shared()
    first = await shared.occupied()
    before = await shared.begin("a", "b")
    guilty = await shared.begin("c", "bad", "d")
    after = await shared.begin("e")
    split = await shared.begin("f", "g")
    first.answer()
    await shared.inner.arrived(2)
    others = await shared.begin("z", user="other")
    shared.inner.calls[1].fail(refused(3), finished=[0, 1, 2, 6])
    await shared.drain()

    assert vectors(await before) == proofs("a", "b")
    assert vectors(await after) == proofs("e")
    assert vectors(await split) == proofs("f", "g")
    assert shared.inner.asked[2:] == [("e", "g"), ("z",)]
    assert vectors(await others) == proofs("z", user="other")
    with pytest.raises(UpstreamRejected) as caught:
        await guilty
    assert (caught.value.param, str(caught.value)) == ("input[1]", "input[1] is bad")
    assert {i: e.vector for i, e in caught.value.finished.items()} == {0: proofs("c")[0]}


async def test_a_blame_without_a_position():
    """Where nobody can say whose input is bad, each is asked alone, and only he whose request is
    refused then gets the error."""
    shared = Shared()
    first = await shared.occupied()
    tasks = [await shared.begin(text) for text in ("a", "bad", "b")]
    first.answer()
    await shared.inner.arrived(2)
    shared.inner.calls[1].fail(refused())
    late = await shared.begin("late")
    while shared.inner.running or shared.layer._running:
        for call in shared.inner.running:
            call.fail(refused()) if "bad" in call.request.inputs else call.answer()
        await settle(3)

    assert shared.inner.asked[1:] == [("a", "bad", "b"), ("a",), ("bad",), ("b",), ("late",)]
    assert [vectors(await tasks[0]), vectors(await tasks[2])] == [proofs("a"), proofs("b")]
    assert vectors(await late) == proofs("late")
    with pytest.raises(UpstreamRejected):
        await tasks[1]


async def test_what_was_embedded_on_the_first_way_is_kept():
    """Who must travel again and then fails is told what was embedded on the way before."""
    shared = Shared()
    first = await shared.occupied()
    task = await shared.begin("a", "b")
    await shared.begin("c")
    first.answer()
    await shared.inner.arrived(2)
    shared.inner.calls[1].fail(refused(), finished=[0])
    await shared.inner.arrived(3)
    assert shared.inner.asked[2] == ("b",)
    shared.inner.calls[2].fail(refused(0))
    await shared.drain()
    (error,) = await asyncio.gather(task, return_exceptions=True)

    assert error.param == "input[1]"
    assert {i: e.vector for i, e in error.finished.items()} == {0: proofs("a")[0]}


async def test_a_failure_of_the_provider_is_everybodys():
    """A failure that is not about the request reaches all aboard, each as an error of his own,
    with what was tried and what was embedded for him; nobody is asked for again."""
    shared = Shared()
    first = await shared.occupied()
    tasks = [await shared.begin("a", "b"), await shared.begin("c")]
    first.answer()
    await shared.inner.arrived(2)
    error = UpstreamUnavailable("input[2] fell down", provider="openai", retry_after_s=3.0)
    error.attempts = (make_attempt(is_success=False),)
    shared.inner.calls[1].fail(error, finished=[1])
    await shared.drain()
    errors = [task.exception() for task in tasks]

    assert len(shared.inner.calls) == 2
    assert errors[0] is not errors[1]
    assert [str(error) for error in errors] == ["an input fell down", "input[0] fell down"]
    assert [error.retry_after_s for error in errors] == [3.0, 3.0]
    assert [error.attempts for error in errors] == [error.attempts] * 2
    assert [[*error.finished] for error in errors] == [[1], []]


@pytest.mark.parametrize(("is_exact", "marked"), [(True, False), (False, True)])
async def test_estimated_shares(is_exact, marked):
    """Where tokens of joined texts are only shares of a sum, they say so; a lone one's do not."""
    shared = Shared(is_exact=is_exact)
    first = await shared.occupied()
    tasks = [await shared.begin("a"), await shared.begin("b")]
    alone = await shared.begin("c", user="alone")
    first.answer()
    await shared.drain()

    assert [(await task).embeddings[0].is_estimated for task in tasks] == [marked] * 2
    assert not (await alone).embeddings[0].is_estimated
    assert not first.outcome.result().embeddings[0].is_estimated


async def test_a_bug_reaches_its_callers():
    """A bug below comes out of every request aboard as itself, also an answer that is too short,
    and the slot is free again."""
    shared, bug = Shared(), ZeroDivisionError("a bug")
    first = await shared.occupied()
    tasks = [await shared.begin("a"), await shared.begin("b")]
    first.answer()
    await shared.inner.arrived(2)
    more = [await shared.begin("c"), await shared.begin("d")]
    shared.inner.calls[1].fail(bug)
    assert await asyncio.gather(*tasks, return_exceptions=True) == [bug, bug]

    await shared.inner.arrived(3)
    short = shared.inner.bill.answer(make_request("c"))
    shared.inner.calls[2].outcome.set_result(short)
    errors = await asyncio.gather(*more, return_exceptions=True)
    assert [type(error) for error in errors] == [ValueError] * 2
    await until(lambda: not shared.layer._running)


async def test_an_error_that_nobody_hears():
    """An error that comes in the moment its caller leaves is not reported as unnoticed."""
    shared, reported = Shared(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    first = await shared.occupied()
    tasks = [await shared.begin("a"), await shared.begin("b")]
    first.answer()
    await shared.inner.arrived(2)
    shared.inner.calls[1].fail(UpstreamUnavailable("down", provider="openai"))
    asyncio.get_running_loop().call_soon(tasks[0].cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[0].cancelled()
    del tasks, first
    shared.inner.calls.clear()
    gc.collect()

    assert reported == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 4), st.sampled_from(["u", "v", "w"])),
        st.tuples(st.just("leave"), st.integers(0, 20), st.none()),
        st.tuples(st.just("answer"), st.integers(0, 3), st.none()),
        st.tuples(st.just("refuse"), st.integers(0, 3), st.integers(0, 5)),
        st.tuples(st.just("fail"), st.integers(0, 3), st.none()),
        st.tuples(st.just("wait"), st.integers(0, 5), st.none()),
    ),
    max_size=40,
)


class Play:
    """Callers who come and leave, and calls that end, as hypothesis tells."""

    def __init__(self):
        self.shared = Shared(slots=2, max_inputs=3)
        self.callers = []

    def step(self, verb, what, more):
        """One thing that happens."""
        open_calls = [c for c in self.shared.inner.running if not c.outcome.done()]
        if verb == "ask":
            inputs = [f"{len(self.callers)}.{i}" for i in range(what)]
            request = make_request(*inputs, user=more)
            self.callers.append((inputs, asyncio.create_task(self.shared.layer(request))))
        elif verb == "leave" and self.callers:
            self.callers[what % len(self.callers)][1].cancel()
        elif open_calls:
            call = open_calls[what % len(open_calls)]
            size = len(call.request.inputs)
            if verb == "answer":
                call.answer()
            elif verb == "fail":
                call.fail(UpstreamUnavailable("down", provider="openai"), range(size - 1))
            elif verb == "refuse":
                call.fail(refused(more if more < size else None), range(min(more, size)))

    def check_calls(self):
        """What holds at any time."""
        inner = self.shared.inner
        assert len(inner.running) <= 2
        for call in inner.calls:
            callers = {str(value).partition(".")[0] for value in call.request.inputs}
            assert len(call.request.inputs) <= 3 or len(callers) == 1

    async def run(self, steps):
        """All steps, then answers for whatever is left."""
        for verb, what, more in steps:
            self.step(verb, what, more)
            for _ in range(what if verb == "wait" else 0):
                await asyncio.sleep(0)
            self.check_calls()
        await settle(3)
        await self.shared.drain()
        await asyncio.wait([task for _, task in self.callers] or [asyncio.ensure_future(settle(1))])


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_whoever_comes_and_goes(steps):
    """Whoever comes, leaves or fails, there are never more calls than slots, none overfull, every
    answer is the caller's own, no input is embedded twice, and in the end all slots are free."""

    async def check():
        play = Play()
        await play.run(steps)
        for inputs, task in play.callers:
            if not task.cancelled() and task.exception() is None:
                assert vectors(task.result()) == proofs(*inputs)
        texts = play.shared.inner.bill.texts
        assert len(texts) == len(set(texts))
        assert not play.shared.layer._running
        assert not play.shared.layer.waiting

    asyncio.run(check())
