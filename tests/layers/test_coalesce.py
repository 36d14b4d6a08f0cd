"""Coalesce asks one question for one text, however many wait for it."""

import asyncio
import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embedway.layers.coalesce
from embedway.errors import (
    DeadlineExceeded,
    EmbedError,
    InvalidInput,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from embedway.layers.coalesce import Coalesce
from embedway.secret import Secret
from tests.fakes import make_attempt, make_grant, make_request
from tests.layers.held import Held, proof_of, settle


class Asked:
    """A Coalesce over a Held, and the callers of a test."""

    def __init__(self, scope="project"):
        self.inner = Held()
        self.counted = []
        self.layer = Coalesce(self.inner, scope, lambda event, n: self.counted.append((event, n)))

    def ask(self, *inputs, **fields):
        """A caller of his own, who has not begun yet."""
        return asyncio.create_task(self.layer(make_request(*inputs, **fields)))

    async def begin(self, *inputs, **fields):
        """A caller of his own, whose question is on its way or who waits for others'."""
        task = self.ask(*inputs, **fields)
        await settle(4)
        return task


def costs(response):
    """What each input cost."""
    return [embedding.cost for embedding in response.embeddings]


def vectors(response):
    """The vectors of an answer."""
    return [embedding.vector for embedding in response.embeddings]


def proofs(*inputs, **fields):
    """What the vectors must be."""
    request = make_request(*inputs, **fields)
    return [proof_of(value, request) for value in inputs]


async def test_identical_texts_are_asked_once():
    """A thousand callers with one text are one question with one text, paid once."""
    asked = Asked()
    callers = [asked.ask("same") for _ in range(1000)]
    await settle(4)
    asked.inner.calls[0].answer()
    answers = await asyncio.gather(*callers)

    assert asked.inner.asked == [("same",)]
    assert {one.embeddings[0].vector for one in answers} == set(proofs("same"))
    assert {one.embeddings[0].tokens for one in answers} == {3}
    assert sorted(sum(costs(one)) for one in answers) == [0] * 999 + [asked.inner.bill.billed]
    assert asked.counted == [("collapsed", 1)] * 999


async def test_doubles_within_a_request():
    """A text that stands twice in a request is asked once and paid once; tokens count each time."""
    asked = Asked()
    caller = await asked.begin("a", "b", "a", "a")
    asked.inner.calls[0].answer()
    response = await caller

    assert asked.inner.asked == [("a", "b")]
    assert vectors(response) == proofs("a", "b", "a", "a")
    assert [one.tokens for one in response.embeddings] == [3] * 4
    assert costs(response)[2:] == [0, 0]
    assert sum(costs(response)) == asked.inner.bill.billed
    assert asked.counted == [("collapsed", 2)]


async def test_a_lone_request_is_not_touched():
    """A caller whom nobody joins is asked for with his own request, and gets the very answer or
    the very error."""
    asked, request = Asked(), make_request("a", "b")
    caller = asyncio.create_task(asked.layer(request))
    await asked.inner.arrived(1)
    assert asked.inner.calls[0].request is request
    asked.inner.calls[0].answer()
    assert await caller is asked.inner.calls[0].outcome.result()

    error = UpstreamUnavailable("down", provider="openai")
    caller = await asked.begin("a")
    asked.inner.calls[1].fail(error)
    with pytest.raises(UpstreamUnavailable) as caught:
        await caller
    assert caught.value is error
    assert asked.counted == []


async def test_only_what_nobody_asks_is_asked():
    """Of a request only those texts are asked that are not on their way already."""
    asked = Asked()
    first = await asked.begin("a", "b")
    second = await asked.begin("b", "c", "a", "d")
    for call in reversed(asked.inner.calls):
        call.answer()

    assert asked.inner.asked == [("a", "b"), ("c", "d")]
    assert vectors(await second) == proofs("b", "c", "a", "d")
    assert vectors(await first) == proofs("a", "b")
    assert sum(costs(await first)) + sum(costs(await second)) == asked.inner.bill.billed


async def test_the_first_asker_leaves():
    """When the first asker leaves, the others are answered by the same call, and one pays."""
    asked = Asked()
    first = await asked.begin("a")
    others = [await asked.begin("a") for _ in range(3)]
    first.cancel()
    await settle()
    asked.inner.calls[0].answer()
    answers = await asyncio.gather(*others)

    assert first.cancelled()
    assert asked.inner.asked == [("a",)]
    assert sorted(sum(costs(one)) for one in answers) == [0, 0, asked.inner.bill.billed]


async def test_the_last_one_leaves():
    """When the last one leaves, the call below is cancelled and nothing stays behind."""
    asked = Asked()
    callers = [await asked.begin("a", "b"), await asked.begin("b")]
    callers[0].cancel()
    await settle()
    assert asked.inner.running
    callers[1].cancel()
    await asyncio.gather(*callers, return_exceptions=True)

    assert asked.inner.calls[0].is_cancelled
    assert asked.layer._asked == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_question_that_is_being_given_up_is_not_joined():
    """Who comes while a question is being cancelled is not dragged along: he asks anew."""
    asked, cleaned = Asked(), asyncio.Event()

    async def slow_to_end(request):
        try:
            return await asked.inner(request)
        except asyncio.CancelledError:
            await cleaned.wait()
            raise

    asked.layer = Coalesce(slow_to_end, "project", lambda event, n: None)
    first = await asked.begin("a")
    first.cancel()
    await settle(4)
    second = await asked.begin("a")
    assert not first.done()  # he waits until what was asked for him has ended
    cleaned.set()
    await asyncio.wait([first])
    asked.inner.calls[1].answer()

    assert vectors(await second) == proofs("a")
    assert asked.inner.asked == [("a",), ("a",)]
    assert asked.layer._asked == {}


async def test_who_comes_as_the_answer_does_joins_still():
    """Until the first asker has heard the answer, and may have made it known, who asks for the
    same text joins him: in no turn of the event loop is it asked again, nor paid twice."""
    asked = Asked()
    first = await asked.begin("a")

    async def come(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return None if first.done() else await asked.layer(make_request("a"))

    late = [asyncio.create_task(come(turns)) for turns in range(12)]
    asked.inner.calls[0].answer()
    joined = [one for one in [await task for task in late] if one is not None]
    assert len(joined) > 2
    assert asked.inner.asked == [("a",)]
    assert [vectors(one) for one in joined] == [proofs("a")] * len(joined)
    assert sum(sum(costs(one)) for one in [await first, *joined]) == asked.inner.bill.billed
    assert asked.layer._asked == {}


async def test_an_answered_question_waits_for_its_asker():
    """A caller who waits for another question as well has not made the first one's answer known:
    who comes meanwhile joins him; but nobody joins what has failed."""
    asked = Asked()
    other = await asked.begin("b")
    first = await asked.begin("a", "b")
    asked.inner.calls[1].answer()
    await settle(4)
    late = await asked.begin("a")
    assert vectors(await late) == proofs("a")
    assert asked.inner.asked == [("b",), ("a",)]
    asked.inner.calls[0].answer()
    assert vectors(await first) == proofs("a", "b")
    await other

    failing = await asked.begin("c", "d")
    asked.inner.calls[2].fail(UpstreamUnavailable("down", provider="openai"))
    await settle(1)
    again = await asked.begin("c")
    asked.inner.calls[3].answer()
    assert vectors(await again) == proofs("c")
    with pytest.raises(UpstreamUnavailable):
        await failing


@pytest.mark.parametrize("fewer", [{"retries": 0}, {"share": 0.5}], ids=str)
async def test_who_may_be_asked_for_more_often(fewer):
    """The failure of a question that had fewer attempts, or less time, than a caller may ask for
    is not his: he asks himself."""
    asked = Asked()
    first = await asked.begin("a", **fewer)
    joined, alike = await asked.begin("a"), await asked.begin("a", **fewer)
    asked.inner.calls[0].fail(UpstreamUnavailable("down", provider="openai"))
    await settle(6)
    for call in asked.inner.running:
        call.answer()
    assert vectors(await joined) == proofs("a")
    for one in (first, alike):
        with pytest.raises(UpstreamUnavailable):
            await one
    assert asked.inner.asked == [("a",), ("a",)]


async def test_nothing_is_remembered():
    """An answered question is forgotten: who comes later asks anew."""
    asked = Asked()
    for turn in range(2):
        caller = await asked.begin("a")
        asked.inner.calls[turn].answer()
        await caller
        await settle(2)
        assert asked.layer._asked == {}
    assert asked.inner.asked == [("a",), ("a",)]


BYOK = {"openai": Secret("sk-caller")}


@pytest.mark.parametrize(
    ("scope", "one", "other", "calls"),
    [
        ("project", {"dimensions": 4}, {"dimensions": 8}, 2),
        ("project", {"input_type": "query"}, {"input_type": "document"}, 2),
        ("project", {"options": b"{}"}, {}, 2),
        ("project", {"model": "a/b"}, {"model": "a/c"}, 2),
        ("project", {"user": "u-1"}, {"user": "u-2"}, 2),
        ("project", {"only": ("x",)}, {}, 2),
        ("project", {"order": ("x",)}, {}, 2),
        ("project", {"sort": "cost"}, {"sort": "latency"}, 2),
        ("project", {"credentials": BYOK}, {}, 2),
        ("project", {"credentials": BYOK, "id": "1"}, {"credentials": BYOK, "id": "2"}, 2),
        ("project", {"grant": make_grant(project="p")}, {"grant": make_grant(project="q")}, 2),
        ("key", {"grant": make_grant(key_id="k")}, {"grant": make_grant(key_id="l")}, 2),
        ("project", {"grant": make_grant(key_id="k")}, {"grant": make_grant(key_id="l")}, 1),
        ("global", {"grant": make_grant(project="p")}, {"grant": make_grant(project="q")}, 1),
        ("project", {"id": "1", "deadline": 1.0, "tags": ("t",)}, {"id": "2", "trace": "t"}, 1),
        ("project", {"cache": "skip", "app": "x"}, {"cache": "refresh"}, 1),
    ],
)
async def test_who_is_joined(scope, one, other, calls):
    """Callers share a question only within the scope, with equal parameters, and where the same
    account would be asked under the same name; nobody shares a caller's own credential."""
    asked = Asked(scope)
    callers = [await asked.begin("a", **one), await asked.begin("a", **other)]
    assert len(asked.inner.calls) == calls
    for call in asked.inner.calls:
        call.answer()
    answers = await asyncio.gather(*callers)

    assert vectors(answers[0]) == proofs("a", **one)
    assert vectors(answers[1]) == proofs("a", **other)


def refused(position):
    """A refusal that names an input."""
    return UpstreamRejected(
        f"input[{position}] is bad", provider="openai", param=f"input[{position}]"
    )


async def test_another_text_was_to_blame():
    """Who joined a question that failed because of another's text asks again and succeeds."""
    asked = Asked()
    guilty = await asked.begin("bad", "a", "b")
    joined = await asked.begin("b", "a")
    asked.inner.calls[0].fail(refused(0))
    with pytest.raises(UpstreamRejected):
        await guilty
    await asked.inner.arrived(2)
    asked.inner.calls[1].answer()

    assert vectors(await joined) == proofs("b", "a")
    assert asked.inner.asked == [("bad", "a", "b"), ("b", "a")]
    assert asked.counted == [("collapsed", 2)]
    assert sum(costs(await joined)) == asked.inner.bill.billed


async def test_ones_own_text_was_to_blame():
    """Everybody who asked for the text that is to blame gets the error, which names the place
    where it stands in his own request."""
    asked = Asked()
    callers = [
        await asked.begin("a", "bad"),
        await asked.begin("bad"),
        await asked.begin("x", "x", "y", "bad"),
    ]
    asked.inner.calls[1].answer()
    asked.inner.calls[0].fail(refused(1))
    errors = await asyncio.gather(*callers, return_exceptions=True)

    assert [error.param for error in errors] == ["input[1]", "input[0]", "input[3]"]
    assert [str(error) for error in errors] == [f"input[{i}] is bad" for i in (1, 0, 3)]
    assert len(asked.inner.calls) == 2


async def test_a_shared_failure():
    """A failure of the provider reaches all who wait, with one call, as errors of their own."""
    asked = Asked()
    callers = [asked.ask("a") for _ in range(50)]
    await settle(4)
    error = UpstreamUnavailable("down", provider="openai", retry_after_s=2.0)
    error.attempts = (make_attempt(is_success=False),)
    asked.inner.calls[0].fail(error)
    errors = await asyncio.gather(*callers, return_exceptions=True)

    assert len(asked.inner.calls) == 1
    assert len({id(error) for error in errors}) == 50
    errors[0].attempts += (make_attempt(),)
    errors[0].message = "changed"
    assert {(type(e), str(e), e.message, e.retry_after_s, e.attempts) for e in errors[1:]} == {
        (UpstreamUnavailable, "down", "down", 2.0, (make_attempt(is_success=False),))
    }


async def test_anothers_position_is_not_told():
    """A failure that speaks of another's text does not give its position as the caller's own."""
    asked = Asked()
    callers = [await asked.begin("x", "a"), await asked.begin("a")]
    asked.inner.calls[0].fail(UpstreamUnavailable("input[0] broke it", provider="openai"))
    errors = await asyncio.gather(*callers, return_exceptions=True)

    assert [str(error) for error in errors] == ["input[0] broke it", "an input broke it"]


async def test_a_refusal_of_the_request_is_shared():
    """A refusal that names no input is final for those who asked for nothing else: they do not
    ask one after the other what is known to be refused."""
    asked = Asked()
    callers = [asked.ask("a", "b") for _ in range(20)]
    await settle(4)
    asked.inner.calls[0].fail(InvalidInput("no", param="dimensions"))
    errors = await asyncio.gather(*callers, return_exceptions=True)

    assert {(type(error), error.param) for error in errors} == {(InvalidInput, "dimensions")}
    assert len(asked.inner.calls) == 1


async def test_a_refusal_without_a_name_may_be_anothers():
    """A refusal that names no input does not hold for him who asked for only a part of it."""
    asked = Asked()
    first = await asked.begin("a", "b")
    joined = await asked.begin("b")
    asked.inner.calls[0].fail(UpstreamRejected("no", provider="openai"))
    await asked.inner.arrived(2)
    asked.inner.calls[1].answer()

    assert vectors(await joined) == proofs("b")
    with pytest.raises(UpstreamRejected):
        await first


@pytest.mark.parametrize(
    "late",
    [DeadlineExceeded("late"), UpstreamTimeout("late", provider="openai")],
    ids=lambda error: type(error).__name__,
)
async def test_the_askers_time_was_over(late):
    """A question that ends because its asker's time was over is asked again for those who have
    more, once for all of them; who has no more than he gets the same error."""
    asked = Asked()
    first = await asked.begin("a", deadline=10.0)
    same = await asked.begin("a", deadline=10.0)
    more = [await asked.begin("a", deadline=20.0) for _ in range(2)]
    asked.inner.calls[0].fail(late)
    ended = await asyncio.gather(first, same, return_exceptions=True)
    await asked.inner.arrived(2)
    asked.inner.calls[1].answer()

    assert [type(error) for error in ended] == [type(late)] * 2
    assert [vectors(await one) for one in more] == [proofs("a")] * 2
    assert len(asked.inner.calls) == 2


async def test_finished_before_the_failure():
    """Texts that were embedded before their question failed serve those who waited for them, and
    travel up with the error of those who wanted more."""
    asked = Asked()
    first = await asked.begin("a", "b", "c")
    lucky = await asked.begin("b")
    both = await asked.begin("c", "b")
    asked.inner.calls[0].fail(UpstreamUnavailable("down", provider="openai"), finished=[0, 1])
    failed = await asyncio.gather(first, both, return_exceptions=True)

    assert vectors(await lucky) == proofs("b")
    assert {i: e.vector for i, e in failed[0].finished.items()} == dict(enumerate(proofs("a", "b")))
    assert {i: e.vector for i, e in failed[1].finished.items()} == {1: proofs("b")[0]}
    kept = [e.cost for error in failed for e in error.finished.values()]
    assert sum(kept) + sum(costs(await lucky)) == asked.inner.bill.billed
    assert len(asked.inner.calls) == 1


async def test_own_answer_is_kept_when_anothers_question_fails():
    """What a caller's own question brought travels up with the error of the one he joined."""
    asked = Asked()
    first = await asked.begin("a")
    second = await asked.begin("x", "a")
    asked.inner.calls[1].answer()
    asked.inner.calls[0].fail(UpstreamUnavailable("down", provider="openai"))
    errors = await asyncio.gather(first, second, return_exceptions=True)

    assert [dict(error.finished).keys() for error in errors] == [set(), {0}]
    assert errors[1].finished[0].cost == asked.inner.bill.billed


async def test_rounds_are_bounded(monkeypatch):
    """Whoever has joined others' failing questions as often as is allowed asks alone, and does not
    join once more."""
    monkeypatch.setattr(embedway.layers.coalesce, "_ROUNDS", 1)
    asked = Asked()
    first = await asked.begin("bad", "a")
    joined = [await asked.begin("a"), await asked.begin("a")]
    asked.inner.calls[0].fail(refused(0))
    await asked.inner.arrived(3)
    for call in asked.inner.calls[1:]:
        call.answer()

    assert asked.inner.asked[1:] == [("a",), ("a",)]
    assert [vectors(await one) for one in joined] == [proofs("a")] * 2
    with pytest.raises(UpstreamRejected):
        await first


async def test_a_bug_reaches_all():
    """A bug below comes out of every caller's request as itself."""
    asked, bug = Asked(), ZeroDivisionError("a bug")
    callers = [await asked.begin("a"), await asked.begin("a")]
    asked.inner.calls[0].fail(bug)

    assert await asyncio.gather(*callers, return_exceptions=True) == [bug, bug]


async def test_who_is_cancelled_before_he_goes_does_not_pay():
    """What a caller has heard but not taken away is paid by another who waited for it."""
    asked = Asked()
    other = await asked.begin("bad", "c")
    leaver = await asked.begin("a", "c")
    stays = await asked.begin("z", "a")
    asked.inner.calls[1].answer()  # the leaver's own, which the one who stays waits for
    asked.inner.calls[0].fail(refused(0))  # so that the leaver must ask for "c" again
    await asked.inner.arrived(4)
    leaver.cancel()
    await settle()
    asked.inner.calls[2].answer()
    await asyncio.gather(other, leaver, return_exceptions=True)

    assert leaver.cancelled()
    assert asked.inner.asked == [("bad", "c"), ("a",), ("z",), ("c",)]
    assert sum(costs(await stays)) == asked.inner.bill.billed


async def test_nobody_is_left_to_hear_an_error():
    """An error that comes when everybody has gone is not reported as unnoticed."""
    asked, reported = Asked(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    caller = await asked.begin("a")
    asked.inner.calls[0].fail(UpstreamUnavailable("down", provider="openai"))
    asyncio.get_running_loop().call_soon(caller.cancel)  # when it has come, but not to him
    await asyncio.wait([caller])
    del caller
    asked.inner.calls.clear()
    await settle()
    gc.collect()

    assert reported == []


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("ask"), st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4), st.none()
        ),
        st.tuples(st.just("answer"), st.integers(0, 9), st.none()),
        st.tuples(st.just("fail"), st.integers(0, 9), st.integers(0, 3)),
        st.tuples(st.just("refuse"), st.integers(0, 9), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(0, 9), st.none()),
    ),
    max_size=25,
)


async def play(steps):
    """Let callers come, and calls end, as told; then answer whatever is left."""
    asked, callers = Asked(), []
    for verb, what, more in steps:
        running = [call for call in asked.inner.running if not call.outcome.done()]
        if verb == "ask":
            callers.append((what, asked.ask(*what)))
        elif verb == "wait":
            await settle(what)
        elif running:
            call = running[what % len(running)]
            size = len(call.request.inputs)
            if verb == "answer":
                call.answer()
            elif verb == "fail":
                error = UpstreamUnavailable("down", provider="openai")
                call.fail(error, finished=range(min(more, size)))
            else:
                guilty = more % size
                call.fail(refused(guilty), finished=range(guilty))
    while not all(task.done() for _, task in callers):
        for call in asked.inner.running:
            if not call.outcome.done():
                call.answer()
        await settle(2)
    return asked, [(inputs, task) for inputs, task in callers]


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_whatever_joins_whatever(steps):
    """Whoever joins whomever, every answer is the caller's own, every error names an input of
    his, and all costs together are the bill to the last unit."""

    async def check():
        asked, callers = await play(steps)
        paid = 0
        for inputs, task in callers:
            error = task.exception()
            if error is None:
                found = dict(enumerate(task.result().embeddings))
                assert len(found) == len(inputs)
            else:
                assert isinstance(error, EmbedError)
                assert error.param is None or int(error.param[6:-1]) < len(inputs)
                found = error.finished
            for position, embedding in found.items():
                assert [embedding.vector] == proofs(inputs[position])
            paid += sum(embedding.cost for embedding in found.values())
        assert paid == asked.inner.bill.billed
        assert asked.layer._asked == {}

    asyncio.run(check())
