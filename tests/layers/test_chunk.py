"""Inputs that are too long are cut to their beginning, or into pieces whose mean they get."""

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from embedway import recent_cuts
from embedway.catalog_file import load_catalog
from embedway.errors import InputTooLong, UpstreamInputTooLong, UpstreamUnavailable
from embedway.layers.cache import Cache
from embedway.layers.chunk import Chunk
from embedway.layers.coalesce import Coalesce
from embedway.local import Local
from embedway.recent_cuts import RecentCuts
from embedway.static_model import load_wordllama
from embedway.store.recent import RecentVectors
from embedway.tokens import count_cl100k
from embedway.types import Embedding, EmbedResponse
from embedway.vectors import as_array, from_numbers
from tests.fakes import (
    FakeClock,
    ScriptedEmbedder,
    allowing,
    make_attempt,
    make_params,
    make_request,
    make_vector,
    respond,
    until,
)
from tests.store.store_laws import Counts

POLICY = pytest.mark.parametrize("policy", ["truncate", "mean"])
PRICE = 7


def count_words(text):
    """A toy tokenizer: words, and each letter beyond the first eight of one."""
    return sum(max(1, len(word) - 7) for word in text.split())


def tokens_of(value, count):
    """The tokens of any input."""
    return count(value) if isinstance(value, str) else len(value)


class Provider:
    """Refuses inputs of more than *limit* tokens, naming the first; what fits is embedded even
    then, and billed. Remembers what it was asked and what it took for it."""

    def __init__(self, limit, count):
        self.limit, self.count = limit, count
        self.requests, self.billed = [], 0

    def embed(self, value):
        """The embedding of one input."""
        tokens = tokens_of(value, self.count)
        return Embedding(make_vector(value), tokens, "scripted", tokens * PRICE)

    async def __call__(self, request):
        """Embed what fits; raise if something does not."""
        self.requests.append(request)
        is_long = [tokens_of(value, self.count) > self.limit for value in request.inputs]
        fit = {i: self.embed(v) for i, v in enumerate(request.inputs) if not is_long[i]}
        self.billed += sum(embedding.cost for embedding in fit.values())
        attempt = make_attempt(started_ms=len(self.requests), is_success=not any(is_long))
        if not any(is_long):
            return EmbedResponse(
                params=request.params, embeddings=tuple(fit.values()), attempts=(attempt,)
            )
        at = f"input[{is_long.index(True)}]"
        error = UpstreamInputTooLong(f"{at}: too many tokens.", provider="openai", param=at)
        error.finished, error.attempts = fit, (attempt,)
        raise error

    @property
    def asked(self):
        """The inputs of all that was embedded or refused, in turn."""
        return [value for request in self.requests for value in request.inputs]

    @property
    def embedded(self):
        """The inputs that were embedded."""
        return [value for value in self.asked if tokens_of(value, self.count) <= self.limit]


def mean(embeddings):
    """The definition of the mean, in float64."""
    rows = np.array([as_array(one.vector) for one in embeddings], np.float64)
    total = np.array([one.tokens for one in embeddings], np.float64) @ rows
    return total / np.linalg.norm(total)


WORDS = st.sampled_from(("a", "word", "internationalization", "é", "😀"))
# No piece stands twice in an input, so that it is clear which pieces a mean is of.
TEXTS = st.lists(WORDS, min_size=1, max_size=40).map(
    lambda words: " ".join(f"{word}{i}" for i, word in enumerate(words))
)
IDS = st.lists(st.integers(0, 99), min_size=1, max_size=40, unique=True).map(tuple)
INPUTS = st.lists(st.one_of(TEXTS, IDS), min_size=1, max_size=5).flatmap(
    lambda inputs: st.permutations(inputs + inputs[:2])
)
KNOWN = pytest.mark.parametrize("known", [True, False], ids=["counted", "guessed"])


@KNOWN
@POLICY
@given(inputs=INPUTS, limit=st.integers(2, 12))
async def test_any_inputs(known, policy, inputs, limit):
    """Short and long inputs, texts and ids, doubles and all: each gets its vector, its tokens and
    its flags, and the whole costs what the provider took."""
    provider = Provider(limit, count_words)
    chunk = Chunk(provider, policy, limit, count_words if known else None)

    response = await chunk(make_request(*inputs))

    assert len(response.embeddings) == len(inputs)
    for value, embedding in zip(inputs, response.embeddings, strict=True):
        is_long = tokens_of(value, count_words) > limit
        assert embedding.is_truncated == (is_long and policy == "truncate")
        assert embedding.is_averaged == (is_long and policy == "mean")
        if not is_long:
            assert embedding == provider.embed(value)
        elif policy == "truncate":
            assert embedding.tokens <= limit
            beginnings = [v for v in provider.embedded if v == value[: len(v)]]
            assert embedding.vector in map(make_vector, beginnings)
        else:
            check_mean(embedding, value, provider)
    assert sum(embedding.cost for embedding in response.embeddings) == provider.billed
    assert [a.started_ms for a in response.attempts] == [
        n + 1 for n in range(len(provider.requests))
    ]
    assert len(provider.requests) <= (1 if known else 1 + 12 * len(inputs))


def check_mean(embedding, value, provider):
    """The vector is the mean of pieces that were embedded and together are the input."""
    ways = [(value[:0], ())]
    finished = []
    while ways:  # all ways of putting the input together from what was embedded
        joined, parts = ways.pop()
        if joined == value:
            finished.append(parts)
        for part in dict.fromkeys(provider.embedded):
            if type(part) is type(value) and value[len(joined) :][: len(part)] == part:
                ways.append((joined + part, (*parts, part)))
    made = [[provider.embed(part) for part in parts] for parts in finished]
    near = [one for one in made if np.allclose(mean(one), as_array(embedding.vector), atol=1e-6)]
    assert near
    assert embedding.tokens in [sum(e.tokens for e in one) for one in near]


@POLICY
@pytest.mark.parametrize("count", [count_words, None])
async def test_what_fits_is_not_touched(policy, count):
    """Inputs that fit go down as the very request, and come up as the very answer."""
    given_up = []
    inner = ScriptedEmbedder(lambda request: given_up.append(respond(request)) or given_up[0])
    request = make_request("one two three four five", "a", "a b", params=make_params())

    assert await Chunk(inner, policy, 5, count)(request) is given_up[0]
    assert inner.requests[0] is request


@POLICY
async def test_short_token_ids_need_no_thread(policy):
    """A list of ids is as long as it is: nothing is counted for it."""
    chunk = Chunk(ScriptedEmbedder(), policy, 3, pytest.fail)

    response = await chunk(make_request((1, 2, 3), (4,)))
    assert [e.is_truncated or e.is_averaged for e in response.embeddings] == [False, False]


@POLICY
async def test_token_ids(policy):
    """A list of too many ids is cut by their number, whether or not texts can be counted."""
    for count in (None, pytest.fail):
        inner = ScriptedEmbedder()
        await Chunk(inner, policy, 3, count)(make_request((1, 2, 3, 4, 5, 6, 7)))
        pieces = [(1, 2, 3), (4, 5, 6), (7,)]
        assert inner.requests[0].inputs == (*pieces[: 1 if policy == "truncate" else 3],)


@POLICY
async def test_with_a_real_vocabulary(policy):
    """With cl100k's vocabulary the pieces have at most as many tokens as are allowed, and all of
    them together are the text."""
    provider = Provider(50, count_cl100k)
    text = "The quick brown fox jumps over Übergrößenträger 日本語 🦜. " * 30
    response = await Chunk(provider, policy, 50, count_cl100k)(make_request("short", text))

    [request] = provider.requests
    if policy == "truncate":
        assert text.startswith(request.inputs[1])
        assert 48 <= response.embeddings[1].tokens <= 50
    else:
        assert "".join(request.inputs[1:]) == text
        made = [provider.embed(piece) for piece in request.inputs[1:]]
        assert as_array(response.embeddings[1].vector) == pytest.approx(mean(made), abs=1e-6)
        assert response.embeddings[1].tokens == sum(one.tokens for one in made)
        assert response.embeddings[1].cost == provider.billed - response.embeddings[0].cost


async def test_flags_and_source_of_a_mean():
    """A mean is estimated or truncated if one of its pieces is, and its source is who was asked."""

    def answer(request):
        pieces = [
            Embedding(make_vector("a"), 3, "cache"),
            Embedding(make_vector("b"), 0, "scripted", 5, is_estimated=True, is_truncated=True),
            Embedding(make_vector("c"), 2, "cache"),
        ]
        assert len(request.inputs) == 3
        return changed(respond(request), embeddings=tuple(pieces))

    response = await Chunk(ScriptedEmbedder([answer]), "mean", 2)(make_request((1, 2, 3, 4, 5)))

    [mean_of_all] = response.embeddings
    assert changed(mean_of_all, vector=b"") == Embedding(
        b"", 5, "scripted", 5, is_estimated=True, is_truncated=True, is_averaged=True
    )
    known = ScriptedEmbedder([lambda request: respond(request, source="cache", tokens=0)])
    response = await Chunk(known, "mean", 2)(make_request((1, 2, 3, 4)))
    assert response.embeddings[0].source == "cache"
    halves = [Embedding(make_vector(ids), 1, "") for ids in ((1, 2), (3, 4))]
    assert as_array(response.embeddings[0].vector) == pytest.approx(mean(halves), abs=1e-6)


async def test_pieces_that_cancel_each_other_out():
    """A mean of zeros is no vector: it is refused, naming the input, with all that was done."""

    def answer(request):
        vectors = [from_numbers(row) for row in ([0, 1], [1, 0], [-1, 0])]
        made = tuple(Embedding(vector, 2, "scripted") for vector in vectors)
        return changed(respond(request, attempts=(make_attempt(),)), embeddings=made)

    with pytest.raises(InputTooLong, match=r"input\[1\].*cancel") as caught:
        await Chunk(ScriptedEmbedder([answer]), "mean", 2)(make_request((9,), (1, 2, 3, 4)))

    assert caught.value.param == "input[1]"
    assert caught.value.attempts == (make_attempt(),)
    assert list(caught.value.finished) == [0]


@KNOWN
@POLICY
async def test_positions_of_an_error(known, policy):
    """An error about a piece names the caller's input, and carries what was finished for whole
    inputs only."""

    def fail(request):
        at = request.inputs.index("bad")
        error = UpstreamUnavailable(f"input[{at}] failed", provider="openai")
        error.param = f"input[{at}]"
        error.finished = {
            i: Embedding(make_vector(value), 3, "scripted")
            for i, value in enumerate(request.inputs)
            if value not in ("bad", (8, 9))
        }
        error.attempts = (make_attempt(is_success=False),)
        return error

    chunk = Chunk(ScriptedEmbedder([fail]), policy, 2, count_words if known else None)
    with pytest.raises(UpstreamUnavailable) as caught:
        await chunk(make_request((1, 2, 3), "bad", (6, 7, 8, 9), "a"))

    error = caught.value
    assert (error.param, error.message) == ("input[1]", "input[1] failed")
    assert error.attempts == (make_attempt(is_success=False),)
    if policy == "truncate":
        assert sorted(error.finished) == [0, 2, 3]
        assert [error.finished[i].is_truncated for i in (0, 2, 3)] == [True, True, False]
    else:
        assert sorted(error.finished) == [0, 3]
        assert [error.finished[i].is_averaged for i in (0, 3)] == [True, False]


@POLICY
async def test_an_error_about_other_things_is_the_same(policy):
    """An error that shorter pieces cannot cure leaves as the same object, after one call."""
    for error in (
        UpstreamUnavailable("no", provider="openai"),
        UpstreamInputTooLong("all together", provider="openai"),
        InputTooLong("not an input", param="dimensions"),
    ):
        inner = ScriptedEmbedder([error])
        with pytest.raises(type(error)) as caught:
            await Chunk(inner, policy, 4)(make_request("a text of some length"))
        assert caught.value is error
        assert len(inner.requests) == 1


@POLICY
@pytest.mark.parametrize("count", [None, count_words])
@pytest.mark.parametrize("value", ["word " * 2000, tuple(range(5000)), "a"])
async def test_a_refusal_that_nothing_cures(policy, count, value):
    """Where every length is refused, it is said after a bounded number of tries, with all of
    them."""

    def refuse(request):
        error = UpstreamInputTooLong("input[0] no", provider="openai", param="input[0]")
        error.attempts = (make_attempt(started_ms=len(inner.requests), is_success=False),)
        return error

    inner = ScriptedEmbedder(refuse)
    with pytest.raises(UpstreamInputTooLong) as caught:
        await Chunk(inner, policy, 512, count)(make_request(value))

    tried = len(inner.requests)
    assert tried <= 15
    assert [a.started_ms for a in caught.value.attempts] == [n + 1 for n in range(tried)]
    assert caught.value.param == "input[0]"


@POLICY
async def test_a_count_that_is_mistaken(policy):
    """Where the provider counts more tokens than we do, its refusal counts."""
    provider = Provider(10, lambda text: 2 * count_words(text))
    response = await Chunk(provider, policy, 10, count_words)(make_request("word " * 50, "a"))

    assert all(tokens_of(value, provider.count) <= 10 for value in provider.requests[-1].inputs)
    assert sum(e.cost for e in response.embeddings) == provider.billed
    long = response.embeddings[0]
    assert (long.is_truncated, long.is_averaged) == (policy == "truncate", policy == "mean")


async def test_what_was_finished_is_not_asked_again():
    """What was embedded beside a refused input is not asked for, or paid for, a second time."""
    provider = Provider(3, count_words)
    inputs = ("a", "word " * 8, "b c", "word " * 8)
    response = await Chunk(provider, "truncate", 3)(make_request(*inputs))

    assert provider.embedded.count("a") == provider.embedded.count("b c") == 1
    assert [e.tokens for e in response.embeddings][::2] == [1, 2]
    assert sum(e.cost for e in response.embeddings) == provider.billed
    assert make_vector(provider.embedded[-1]) == response.embeddings[3].vector


async def test_counting_is_off_the_loop():
    """Long texts are counted in another thread, and others are served meanwhile."""
    threads, release = set(), threading.Event()

    def count(text):
        threads.add(threading.get_ident())
        assert release.wait(30)
        return len(text.split())

    inner = ScriptedEmbedder()
    chunk = Chunk(inner, "truncate", 10, count)
    slow = asyncio.create_task(chunk(make_request("word " * 20)))
    await until(lambda: threads)
    assert len((await chunk(make_request("short"))).embeddings) == 1
    release.set()
    await slow

    assert threading.get_ident() not in threads
    assert [len(request.inputs[0].split()) for request in inner.requests] == [1, 10]


@POLICY
async def test_over_the_local_model_and_a_cache(policy):
    """Over the local model and a cache a long text gets its vector out of its pieces, which are
    kept: asked again it costs no work, and its pieces are known one by one."""
    model, clock, counts = load_wordllama(), FakeClock(), Counts()
    found = load_catalog().find("local/wordllama-256").model
    local = Local(
        model,
        clock=clock,
        name=found.id,
        max_input_tokens=40,
        batch_inputs=64,
        queue_inputs=2048,
    )
    recent = RecentVectors(max_bytes=2**20, ttl_s=0, clock=clock, count=counts)
    inner = Coalesce(local, "project", counts)
    cache = Cache(
        inner,
        found,
        recent,
        None,
        {"local": b"thelocal"},
        allowing(["local"]),
        "project",
        clock,
        counts,
    )
    chunk = Chunk(cache, policy, 40, local.count_tokens)
    text = "The quick brown fox jumps over the lazy dog while rain falls. " * 20
    request = make_request("short", text, text, model=found.id, dimensions=256)

    first, again = await chunk(request), await chunk(request)
    await local.close()

    assert [e.vector for e in first.embeddings] == [e.vector for e in again.embeddings]
    assert {e.source for e in again.embeddings} == {"cache"}
    assert again.attempts == ()
    short, one, other = first.embeddings
    assert one.vector == other.vector
    assert float(np.linalg.norm(as_array(one.vector))) == pytest.approx(1, abs=1e-6)
    if policy == "truncate":
        assert (short.is_truncated, one.is_truncated, one.tokens <= 40) == (False, True, True)
    else:
        # This model's vector is the mean of its tokens', so a mean of pieces is near the whole.
        whole = model.sum_tokens(model.tokenize([text]))[0]
        whole /= np.linalg.norm(whole)
        assert one.is_averaged
        assert float(np.dot(as_array(one.vector), whole)) > 0.98


@POLICY
@pytest.mark.parametrize("count", [None, lambda text: len(text.split())], ids=["none", "mistaken"])
async def test_what_was_refused_once_is_not_sent_again(policy, count):
    """Where only a refusal tells that an input is too long, the second time it is cut as it had to
    be the first time: nothing is refused, and the pieces and so the vector are the same."""
    provider = Provider(20, count_words)
    chunk = Chunk(provider, policy, 20, count)
    texts = ["short", "a" * 300, "bb " * 50, "a" * 300]
    first = await chunk(make_request(*texts))
    refused = len(provider.requests) - 1
    again = await chunk(make_request(*reversed(texts)))

    assert refused > 0
    assert len(provider.requests) == refused + 2
    last, second = provider.requests[refused].inputs, provider.requests[-1].inputs
    assert {*second} >= {*last}
    assert [e.vector for e in again.embeddings] == [e.vector for e in first.embeddings][::-1]
    assert all(attempt.is_success for attempt in again.attempts)


def test_recent_cuts(monkeypatch):
    """Cuts are known by the whole input and its kind, the ones used last are kept, and very long
    lists of them are not."""
    monkeypatch.setattr(recent_cuts, "_KEPT", 3)
    monkeypatch.setattr(recent_cuts, "_MOST_PIECES", 2)
    cuts = RecentCuts()
    cuts.note("abcdef", ["abc", "def"])
    cuts.note((1, 2, 3), [(1, 2)])
    assert cuts.find("abcdef") == ["abc", "def"]
    assert cuts.find((1, 2, 3)) == [(1, 2)]
    assert cuts.find("(1, 2, 3)") is None
    cuts.note("long", ["l", "o", "ng"])
    assert cuts.find("long") is None
    assert cuts.find("abcdef") is not None
    for text in ("x", "y"):
        cuts.note(text, [text])
    assert cuts.find((1, 2, 3)) is None
    assert cuts.find("abcdef") is not None
