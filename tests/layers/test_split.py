"""Split cuts a request to the provider's limits and puts the answer together again."""

import asyncio
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embedway.layers.split
from embedway.errors import (
    InputTooLong,
    InvalidInput,
    UpstreamInputTooLong,
    UpstreamModelNotFound,
    UpstreamRejected,
    UpstreamTooLarge,
    UpstreamUnavailable,
)
from embedway.layers.split import Split
from embedway.parts import Limits, plan
from tests.fakes import ScriptedEmbedder, make_attempt, make_request, make_vector, respond
from tests.layers.held import Bill, Held, proof_of, settle


def cut_at(inputs, **limits):
    """A Split into parts of so many inputs, over a Held."""
    inner = Held()
    return inner, Split(inner, Limits(inputs=inputs), **limits)


def rejected(message="no", kind=UpstreamRejected, **fields):
    """A refusal that names no input."""
    error = kind(message, provider="openai", upstream_status=400)
    for name, value in fields.items():
        setattr(error, name, value)
    return error


class Provider:
    """Refuses what holds a bad text or is too large, as *refuse* tells; else answers at once."""

    def __init__(self, refuse):
        self.refuse = refuse
        self.bill = Bill()
        self.asked = []

    async def __call__(self, request, /):
        """Answer, or refuse."""
        self.asked.append(request.inputs)
        await asyncio.sleep(0)
        error = self.refuse(request.inputs)
        if error is not None:
            error.attempts = (make_attempt(is_success=False),)
            raise error
        return self.bill.answer(request)


def refuses(*bad, kind=UpstreamRejected):
    """Refuses requests with any of these texts, without a word on which."""
    return lambda inputs: rejected("no", kind) if set(bad) & set(inputs) else None


async def ask(provider, *inputs, limits=None):
    """A request through Split; the error if it fails."""
    split = Split(provider, limits or Limits(inputs=2048))
    (outcome,) = await asyncio.gather(split(make_request(*inputs)), return_exceptions=True)
    return outcome


def vectors(response):
    """The vectors of an answer."""
    return [embedding.vector for embedding in response.embeddings]


def proofs(*inputs):
    """What the vectors must be."""
    return [proof_of(value, make_request()) for value in inputs]


@pytest.mark.parametrize(
    ("inputs", "limit", "parts"),
    [(1, 3, [1]), (3, 3, [3]), (4, 3, [3, 1]), (9, 3, [3, 3, 3]), (5, 1, [1] * 5), (2, 10, [2])],
)
async def test_parts(inputs, limit, parts):
    """No part is over the limit, none is cut finer than needed, and the answer is in order."""
    inner = ScriptedEmbedder()
    texts = [f"text {i}" for i in range(inputs)]

    response = await Split(inner, Limits(inputs=limit))(make_request(*texts, user="u"))

    assert [len(request.inputs) for request in inner.requests] == parts
    assert [text for request in inner.requests for text in request.inputs] == texts
    params = inner.requests[0].params
    assert [e.vector for e in response.embeddings] == [make_vector(t, params) for t in texts]
    assert response.params == params
    assert {request.call.user for request in inner.requests} == {"u"}


@pytest.mark.parametrize(
    ("limits", "parts"),
    [
        (Limits(inputs=9, tokens=4, tokenizer="cl100k_base"), ["ab", "c", "def"]),
        (Limits(inputs=9, bytes=12), ["ab", "c", "def"]),
        (Limits(inputs=2, tokens=4, tokenizer="cl100k_base"), ["ab", "c", "de", "f"]),
    ],
)
async def test_limits(limits, parts):
    """Parts heed the tokens and the bytes that one request may hold, too."""
    texts = {"a": "one", "b": "two", "c": "a few more words", "d": "x", "e": "y", "f": "z"}
    inner = ScriptedEmbedder()
    await Split(inner, limits, parallel=1)(make_request(*texts.values()))

    assert [r.inputs for r in inner.requests] == [tuple(texts[n] for n in part) for part in parts]


async def test_counting_leaves_the_loop_free(monkeypatch):
    """A plan that must count tokens is made in a thread: others go on meanwhile."""
    loop, made = asyncio.get_running_loop(), []

    def seen(inputs, limits):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            made.append("thread")
        else:
            made.append("loop")
        return plan(inputs, limits)

    monkeypatch.setattr(embedway.layers.split, "plan", seen)
    limits = Limits(inputs=9, tokens=3, tokenizer="cl100k_base")
    await Split(ScriptedEmbedder(), limits)(make_request("abc"))
    await Split(ScriptedEmbedder(), limits)(make_request("abc", "d"))

    assert loop.is_running()
    assert made == ["loop", "thread"]


async def test_a_small_request_is_not_touched():
    """A request within the limit is handed on as the very object it was, and its answer up."""
    inner, split = cut_at(2)
    request = make_request("a", "b")
    task = asyncio.create_task(split(request))
    await inner.arrived(1)
    inner.calls[0].answer()

    assert await task is inner.calls[0].outcome.result()
    assert inner.calls[0].request is request


@pytest.mark.parametrize(
    "error",
    [
        UpstreamUnavailable("down", provider="openai"),
        rejected(),
        rejected(kind=UpstreamTooLarge),
        InvalidInput("no"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_one_error(error):
    """The error of a request with one text is the very object from below, and names no input
    that nobody has named."""
    inner, split = cut_at(2)
    task = asyncio.create_task(split(make_request("a")))
    await inner.arrived(1)
    inner.calls[0].fail(error)
    (outcome,) = await asyncio.gather(task, return_exceptions=True)

    assert outcome is error
    assert (error.param, dict(error.finished), len(inner.calls)) == (None, {}, 1)


async def test_order_does_not_depend_on_speed():
    """Parts that come back in another order are put in the order of the inputs; the attempts are
    told in the order in which they ended."""
    inner, split = cut_at(1)
    task = asyncio.create_task(split(make_request("0", "1", "2")))
    await inner.arrived(3)
    for call in reversed(inner.calls):
        call.answer()
        await settle()
    response = await task

    assert vectors(response) == proofs("0", "1", "2")
    assert [attempt.upstream_model for attempt in response.attempts] == ["2", "1", "0"]


async def test_side_by_side():
    """Parts run side by side, but not more of them at once than allowed."""
    inner, split = cut_at(1, parallel=3)
    task = asyncio.create_task(split(make_request(*map(str, range(20)))))
    most = 0
    while not task.done():
        most = max(most, len(inner.running))
        for call in inner.running[-1:]:
            call.answer()
        await settle()

    assert most == 3
    assert inner.asked == [(str(i),) for i in range(20)]


@pytest.mark.parametrize("at", [0, 3, 4])
async def test_positions(at):
    """An error that names an input names it by its position in the whole request."""

    def answer(request):
        if str(at) in request.inputs:
            inside = request.inputs.index(str(at))
            raise InputTooLong(f"input[{inside}] is too long.", param=f"input[{inside}]")
        return respond(request)

    with pytest.raises(InputTooLong) as caught:
        await Split(ScriptedEmbedder(answer), Limits(inputs=2))(make_request(*"01234"))

    assert caught.value.param == f"input[{at}]"
    assert caught.value.message == str(caught.value) == f"input[{at}] is too long."


async def test_a_failure_without_position():
    """An error that is no input's fault says of its part what it said."""
    inner, split = cut_at(1)
    task = asyncio.create_task(split(make_request(*"0123")))
    await inner.arrived(4)
    inner.calls[2].fail(InvalidInput("no words on inputs", param="dimensions"))
    for i in (0, 1, 3):
        inner.calls[i].answer()
    (error,) = await asyncio.gather(task, return_exceptions=True)

    assert (error.message, error.param) == ("no words on inputs", "dimensions")


async def test_after_a_failure():
    """After a failure no new part begins, but those under way end, and what they brought travels
    up with the error, as does what the failed part had finished."""
    inner, split = cut_at(2, parallel=3)
    task = asyncio.create_task(split(make_request(*"0123456789")))
    await inner.arrived(3)
    error = UpstreamUnavailable("down", provider="openai")
    error.attempts = (make_attempt(is_success=False),)
    inner.calls[1].fail(error, finished=[1])
    await settle()
    assert not task.done()
    inner.calls[2].answer()
    inner.calls[0].answer()
    (caught,) = await asyncio.gather(task, return_exceptions=True)

    assert len(inner.calls) == 3
    assert type(caught) is UpstreamUnavailable
    assert {i: e.vector for i, e in caught.finished.items()} == dict(
        zip([0, 1, 3, 4, 5], proofs("0", "1", "3", "4", "5"), strict=True)
    )
    assert sum(e.cost for e in caught.finished.values()) == inner.bill.billed
    assert [a.is_success for a in caught.attempts] == [False, True, True]


async def test_several_failed_parts():
    """When several parts fail, the first error stands for all, and no attempt is forgotten."""
    inner, split = cut_at(1)
    task = asyncio.create_task(split(make_request(*"012")))
    await inner.arrived(3)
    for i in (2, 0, 1):
        error = UpstreamUnavailable(f"down {i}", provider="openai")
        error.attempts = (make_attempt(upstream_model=str(i)),)
        inner.calls[i].fail(error)
        await settle()
    (caught,) = await asyncio.gather(task, return_exceptions=True)

    assert caught.message == "down 2"
    assert [attempt.upstream_model for attempt in caught.attempts] == ["2", "0", "1"]


@pytest.mark.parametrize("kind", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_bug_or_a_cancellation(kind):
    """A bug or a cancellation in one part comes out as itself, not in a group, and the parts under
    way are ended where it is a bug."""
    inner, split = cut_at(1)
    task = asyncio.create_task(split(make_request(*"012")))
    await inner.arrived(3)
    error = kind("from below")
    inner.calls[1].fail(error)
    await settle()
    for call in inner.running:
        call.answer()
    (caught,) = await asyncio.gather(task, return_exceptions=True)

    assert type(caught) is kind
    assert [call.is_cancelled for call in inner.calls] == [
        kind is ZeroDivisionError,
        kind is asyncio.CancelledError,
        kind is ZeroDivisionError,
    ]


async def test_the_caller_leaves():
    """When the caller goes, all parts under way are cancelled and none begins."""
    inner, split = cut_at(1, parallel=2)
    task = asyncio.create_task(split(make_request(*"0123")))
    await inner.arrived(2)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert [call.is_cancelled for call in inner.calls] == [True, True]


@pytest.mark.parametrize("kind", [UpstreamRejected, UpstreamInputTooLong])
@pytest.mark.parametrize("size", [2, 3, 64, 100])
async def test_one_bad_text(kind, size):
    """A refusal that names no input is halved until it is clear which one is bad, with about two
    calls for each halving; what was embedded on the way is kept."""
    for at in {0, 1, size // 2, size - 1}:
        texts = [f"text {i}" for i in range(size)]
        provider = Provider(refuses(f"text {at}", kind=kind))
        error = await ask(provider, *texts)

        assert type(error) is kind
        assert (error.param, error.message) == (f"input[{at}]", f"input[{at}]: no")
        assert str(error) == error.message
        assert len(provider.asked) <= 2 * ceil(log2(size)) + 2
        assert set(range(at)) <= error.finished.keys()
        assert sum(e.cost for e in error.finished.values()) == provider.bill.billed
        assert len(provider.bill.texts) == len(set(provider.bill.texts))
        assert len(error.attempts) == len(provider.asked)


@pytest.mark.parametrize("bad", [(3, 5), (0, 7), (0, 1), (6, 7), (0, 4), (1, 2, 3)])
async def test_several_bad_texts(bad):
    """Of several bad texts the leftmost is named."""
    texts = [str(i) for i in range(8)]
    error = await ask(Provider(refuses(*map(str, bad))), *texts)

    assert error.param == f"input[{bad[0]}]"


async def test_a_bad_text_in_a_later_part():
    """A bad text is named by its position in the whole request, whatever part it is in."""
    texts = [str(i) for i in range(20)]
    error = await ask(Provider(refuses("13")), *texts, limits=Limits(inputs=4))
    assert error.param == "input[13]"

    error = await ask(Provider(refuses("13")), *texts, limits=Limits(inputs=1))
    assert error.param == "input[13]"


@pytest.mark.parametrize("size", [2, 3, 50])
@pytest.mark.parametrize("limit", [1, 2048])
async def test_the_request_is_refused(size, limit):
    """Where every part is refused alike no input is blamed."""
    provider = Provider(lambda inputs: rejected("unknown option"))
    error = await ask(provider, *map(str, range(size)), limits=Limits(inputs=limit))

    assert (error.param, error.message) == (None, "unknown option")
    assert len(provider.asked) <= max(ceil(log2(size)) + 3, 8)


async def test_all_texts_too_long():
    """A verdict on the length is about an input, also where all are too long: the first one."""
    provider = Provider(lambda inputs: rejected("too long", UpstreamInputTooLong))
    error = await ask(provider, *"abcdefgh")

    assert (error.param, error.message) == ("input[0]", "input[0]: too long")
    assert len(provider.asked) == 4


async def test_a_failure_while_blame_is_sought():
    """If the provider fails while blame is sought, that is the error, and nothing more is asked."""
    answers = iter([rejected(), UpstreamUnavailable("down", provider="openai")])
    provider = Provider(lambda inputs: next(answers))
    error = await ask(provider, *"abcd")

    assert (type(error), error.param) == (UpstreamUnavailable, None)
    assert len(provider.asked) == 2


async def test_no_such_model():
    """That the account has no such model is no text's fault: nothing is halved."""
    provider = Provider(lambda inputs: rejected("no model", UpstreamModelNotFound))
    error = await ask(provider, *"abcd")

    assert (type(error), len(provider.asked)) == (UpstreamModelNotFound, 1)


@pytest.mark.parametrize("most", [1, 5, 20])
async def test_too_many_tokens_together(most):
    """A refusal because all inputs together are too long is cured by halving."""

    def refuse(inputs):
        too_long = sum(map(len, inputs)) > most
        return rejected("too many tokens", UpstreamInputTooLong) if too_long else None

    texts = "abcdefghijklmnop"
    provider = Provider(refuse)
    response = await ask(provider, *texts)

    assert vectors(response) == proofs(*texts)
    assert sorted(provider.bill.texts) == sorted(texts)


def hidden(most, told):
    """A provider that takes so many inputs, and tells it in one of the ways there are."""

    def refuse(inputs):
        if len(inputs) <= most:
            return None
        fields = {"number": (most, True), "words": (None, True), "lie": (9999, True)}
        number, counts = fields.get(told, (None, False))
        return rejected("too large", UpstreamTooLarge, max_inputs=number, counts_inputs=counts)

    return Provider(refuse)


@pytest.mark.parametrize("told", ["number", "words", "bytes", "lie"])
async def test_a_lower_limit_is_believed(told):
    """A provider that reveals a lower limit is believed: this request is cut to it, and later ones
    are planned so from the beginning."""
    texts = [f"text {i:03}" for i in range(100)]
    provider = hidden(32, told)
    split = Split(provider, Limits(inputs=2048))
    assert vectors(await split(make_request(*texts))) == proofs(*texts)
    assert sorted(provider.bill.texts) == texts

    refused_so_far = len(provider.asked)
    response = await split(make_request(*texts))
    later = [len(inputs) for inputs in provider.asked[refused_so_far:]]

    assert vectors(response) == proofs(*texts)
    assert max(later) <= 32
    assert later[:-1] == [32 if told == "number" else 25] * (len(later) - 1)


async def test_a_lower_limit_of_tokens_is_believed():
    """A provider that finds a request too long, though no input of it is, takes fewer tokens at
    once than was known: after a while nothing is refused any more."""
    texts = [f"text {i:03}" for i in range(64)]

    def refuse(inputs):
        if sum(map(len, inputs)) <= 16 * len(texts[0]):
            return None
        return rejected("too many tokens", UpstreamInputTooLong)

    provider, limits = Provider(refuse), Limits(inputs=2048)
    split = Split(provider, limits)
    counts = []
    for _ in range(3):
        before = len(provider.asked)
        assert vectors(await split(make_request(*texts))) == proofs(*texts)
        counts.append(len(provider.asked) - before)
    assert counts[-1] == 4
    assert counts[0] > counts[1]


async def test_pieces_run_side_by_side():
    """Where parts are cut further the pieces run side by side, too, and what waits is cut before
    it is asked in vain."""
    inner, split = cut_at(8, parallel=4)
    texts = [str(i) for i in range(48)]
    task = asyncio.create_task(split(make_request(*texts)))
    await inner.arrived(4)
    for call in inner.calls[:4]:
        call.fail(rejected("too large", UpstreamTooLarge, max_inputs=2, counts_inputs=True))
    await settle()

    assert len(inner.running) == 4
    while inner.running:
        inner.running[-1].answer()
        await settle()
    assert [len(inputs) for inputs in inner.asked] == [8] * 4 + [2] * 24
    assert vectors(await task) == proofs(*texts)


async def test_a_text_too_large_alone():
    """A text that is too large even alone is named, if others went through."""

    def refuse(inputs):
        too_large = sum(map(len, inputs)) > 50
        return rejected("too large", UpstreamTooLarge) if too_large else None

    error = await ask(Provider(refuse), "a", "b", "x" * 51, "c")

    assert (type(error), error.param) == (UpstreamTooLarge, "input[2]")


async def test_the_lowest_limit_is_believed():
    """Of what parts side by side reveal the lowest limit stands, whichever came last."""
    inner, split = cut_at(8)
    texts = [str(i) for i in range(32)]
    task = asyncio.create_task(split(make_request(*texts)))
    await inner.arrived(4)
    for call, told in zip(inner.calls[:4], (2, None, 6, None), strict=True):
        call.fail(rejected("too large", UpstreamTooLarge, max_inputs=told, counts_inputs=True))
        await settle()
        assert split.believed.inputs == 2
    while inner.running:
        for call in inner.running:
            call.answer()
        await settle()
    assert vectors(await task) == proofs(*texts)


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 40),
    limit=st.integers(1, 40),
    most=st.integers(1, 40),
    bad=st.sets(st.integers(0, 39), max_size=3),
    told=st.sampled_from(["number", "words", "bytes", "lie"]),
)
def test_whatever_the_provider_dislikes(size, limit, most, bad, told):
    """Whatever lower limit a provider has and whichever texts it dislikes, a request without bad
    texts is answered, one with them blames one of those or none, no text is embedded twice, and
    all that was embedded is told."""
    texts = [str(i) for i in range(size)]
    too_large, is_bad = hidden(most, told).refuse, refuses(*map(str, bad))
    provider = Provider(lambda inputs: too_large(inputs) or is_bad(inputs))
    outcome = asyncio.run(ask(provider, *texts, limits=Limits(inputs=limit)))

    if not any(i < size for i in bad):
        assert vectors(outcome) == proofs(*texts)
        found = dict(enumerate(outcome.embeddings))
    else:
        found = outcome.finished
        named = None if outcome.param is None else int(outcome.param[6:-1])
        assert named in bad if found else named in {None, *bad}
    assert {i: e.vector for i, e in found.items()} == {i: proofs(texts[i])[0] for i in found}
    assert sum(e.cost for e in found.values()) == provider.bill.billed
    assert len(provider.bill.texts) == len(set(provider.bill.texts))
    assert len(outcome.attempts) == len(provider.asked)
