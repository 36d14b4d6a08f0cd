"""How often a provider is asked, and what for: the promises of the whole gateway, counted."""

import asyncio
from collections import Counter

import orjson
import pytest

from embedway.catalog_file import load_catalog
from embedway.gateway import Kept, build_gateway
from embedway.secret import Secret
from embedway.settings import AccountSettings, Settings
from embedway.store.recent import RecentVectors
from embedway.tokens import count_cl100k
from embedway.types import CACHED
from tests.fake_provider.accounts import OWN_MODEL
from tests.fake_provider.accounts import settings as fake_settings
from tests.fake_provider.server import FakeProvider
from tests.fake_provider.vectors import expected_vector
from tests.fakes import (
    FakeClock,
    MemoryBook,
    json_response,
    make_request,
    make_vector,
    numbers,
    openai_body,
)
from tests.layers.held import settle

CATALOG = load_catalog()
SMALL = "openai/text-embedding-3-small"
PRICE = 20_000
"""Picodollars a token: two hundredths of a dollar a million."""


class OpenAI:
    """Answers as OpenAI does, with true counts of tokens, once it is let to; keeps the bill."""

    def __init__(self):
        self.calls = []
        self.tokens = 0
        self.most_at_once = 0
        self.open = asyncio.Event()
        self._running = 0

    async def __call__(self, request, /, *, timeout_s, max_bytes):
        """Answer a request."""
        body = orjson.loads(request.body)
        texts, width = body["input"], body.get("dimensions", 1536)
        self.calls.append(texts)
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        await self.open.wait()
        await asyncio.sleep(0)
        self._running -= 1
        tokens = sum(map(count_cl100k, texts))
        self.tokens += tokens
        vectors = [vector_of(text, width) for text in texts]
        return json_response(openai_body(*vectors, tokens=tokens))


def vector_of(text, width=1536):
    """The vector of a text."""
    return make_vector(text, dimensions=width)


class Built:
    """A gateway that keeps vectors in memory."""

    def __init__(self, send, settings):
        self.book, self.clock, self.counted = MemoryBook(), FakeClock(), Counter()
        recent = RecentVectors(max_bytes=2**26, ttl_s=0, clock=self.clock, count=self.counted_cache)
        self.gateway = build_gateway(
            settings=settings,
            catalog=CATALOG,
            local=None,
            send=send,
            book=self.book,
            count=MemoryBook(),
            clock=self.clock,
            kept=Kept(recent, None),
            count_cache=self.counted_cache,
        )

    def counted_cache(self, event, number):
        """Count an event of the cache."""
        self.counted[event] += number

    def begin(self, *inputs, **fields):
        """A caller of his own."""
        return asyncio.create_task(self.gateway(make_request(*inputs, **fields)))


def with_openai(**account):
    """A gateway with one account at OpenAI, and OpenAI, which holds its answers back."""
    provider = OpenAI()
    settings = Settings(
        home="/nowhere", providers={"openai": AccountSettings(api_key=Secret("sk"), **account)}
    )
    return provider, Built(provider, settings)


async def answers(provider, callers):
    """What all callers get, when each of them has asked before the first answer."""
    await settle(30)
    provider.open.set()
    return await asyncio.gather(*callers)


async def test_a_thousand_identical_texts():
    """A thousand callers who ask for one text at the same time are one text upstream."""
    provider, built = with_openai()
    responses = await answers(provider, [built.begin("same", model=SMALL) for _ in range(1000)])

    assert provider.calls == [["same"]]
    assert {one.embeddings[0].vector for one in responses} == {vector_of("same")}
    assert {one.embeddings[0].tokens for one in responses} == {1}
    assert sum(one.embeddings[0].cost for one in responses) == PRICE
    assert built.counted["collapsed"] == 999


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_callers_who_come_as_the_answer_does(turns):
    """Whoever asks for a text that is on its way, in whichever turn of the event loop its answer
    comes, asks no second time: one text upstream, paid once."""
    provider, built = with_openai()
    callers = []
    for turn in range(80):
        callers.append(built.begin("same", model=SMALL))
        if turn == turns:
            provider.open.set()
        await asyncio.sleep(0)
    responses = await asyncio.gather(*callers)

    assert provider.calls == [["same"]]
    assert {one.embeddings[0].vector for one in responses} == {vector_of("same")}
    assert sum(one.embeddings[0].cost for one in responses) == PRICE


async def test_a_thousand_different_texts():
    """A thousand callers with a text each, at an account of 4 calls at a time with 96 inputs each,
    are at most 15 calls; everybody gets his own, and his own count and cost."""
    provider, built = with_openai(concurrency=4, max_inputs=96)
    texts = [f"text number {i} {'and more ' * (i % 7)}" for i in range(1000)]
    responses = await answers(provider, [built.begin(text, model=SMALL) for text in texts])

    assert len(provider.calls) <= 15
    assert provider.most_at_once <= 4
    assert max(map(len, provider.calls)) <= 96
    assert sorted(text for call in provider.calls for text in call) == sorted(texts)
    for text, response in zip(texts, responses, strict=True):
        (embedding,) = response.embeddings
        assert embedding.vector == vector_of(text)
        assert (embedding.tokens, embedding.is_estimated) == (count_cl100k(text), False)
        assert embedding.cost == embedding.tokens * PRICE


async def test_shared_calls_add_up():
    """Tokens and costs of callers whose texts travelled together, or are partly the same, are the
    provider's bill to the last token; the ledger says the same."""
    provider, built = with_openai(concurrency=2, max_inputs=10)
    callers = [
        built.begin(*(f"text {(7 * i + j) % 60}" for j in range(1 + i % 5)), model=SMALL)
        for i in range(100)
    ]
    responses = await answers(provider, callers)
    embeddings = [embedding for one in responses for embedding in one.embeddings]

    asked = [text for call in provider.calls for text in call]
    assert sorted(asked) == sorted({f"text {i}" for i in range(60)})
    assert sum(embedding.cost for embedding in embeddings) == provider.tokens * PRICE
    assert sum(line.cost for line in built.book.lines) == provider.tokens * PRICE
    paid = sum(embedding.tokens for embedding in embeddings if embedding.cost)
    assert paid == provider.tokens


@pytest.mark.parametrize(
    "inputs",
    [("one",), ("one", "two", "one"), tuple(f"text {i}" for i in range(300))],
    ids=["one", "doubles", "many"],
)
@pytest.mark.parametrize("fields", [{}, {"dimensions": 256}], ids=["full", "short"])
async def test_the_second_run(inputs, fields):
    """The same request once more asks nobody, costs nothing, and has the same vectors and
    tokens."""
    provider, built = with_openai(max_inputs=100)
    provider.open.set()
    first = await built.begin(*inputs, model=SMALL, **fields)
    calls = len(provider.calls)
    second = await built.begin(*inputs, model=SMALL, **fields)

    assert len(provider.calls) == calls
    assert {(e.source, e.cost) for e in second.embeddings} == {(CACHED, 0)}
    assert second.attempts == ()
    assert [(e.vector, e.tokens) for e in second.embeddings] == [
        (e.vector, e.tokens) for e in first.embeddings
    ]


@pytest.mark.parametrize(
    ("max_inputs", "refused"), [(32, 0), (2048, 1)], ids=["known", "found out"]
)
async def test_a_server_of_small_batches(max_inputs, refused):
    """2,048 texts to a server that takes 32 at a time are 64 calls in order, and one refused call
    more, once only, where we were told wrong."""
    fake = FakeProvider()
    built = Built(fake.send, fake_settings(fake, "tei", max_inputs=max_inputs))
    for run in range(2):
        texts = [f"text {i} of run {run}" for i in range(2048)]
        fake.requests.clear()
        response = await built.begin(*texts, model=OWN_MODEL)

        sent = [request.json()["inputs"] for request in fake.requests]
        sizes = sorted(len(inputs) for inputs in sent)
        assert sizes == [32] * 64 + [2048] * (refused if run == 0 else 0)
        assert [text for inputs in sent if len(inputs) == 32 for text in inputs] == texts
        for text, embedding in zip(texts, response.embeddings, strict=True):
            expected = expected_vector(text, OWN_MODEL, 16)
            assert numbers(embedding.vector) == pytest.approx(numbers(expected), rel=1e-5)
