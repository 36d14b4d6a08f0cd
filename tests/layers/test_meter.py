"""Meter writes one line for each request, whatever its end."""

import asyncio

import pytest

from embedway.errors import InvalidRequest, RateLimited, UpstreamUnavailable
from embedway.layers.meter import Meter
from embedway.ledger import UsageLine
from embedway.types import CACHED, Embedding
from tests.fakes import (
    FakeClock,
    MemoryBook,
    ScriptedEmbedder,
    make_attempt,
    make_call,
    make_grant,
    make_request,
    make_vector,
    respond,
)

SMALL = "openai/text-embedding-3-small"
LARGE = "openai/text-embedding-3-large"
NAMES = {"small": SMALL, SMALL: SMALL, LARGE: LARGE}


def make_meter(inner, clock=None):
    """The layer, with its book and its counter."""
    book, count = MemoryBook(), MemoryBook()
    prices = {SMALL: 20_000, LARGE: 130_000}
    meter = Meter(
        inner,
        book,
        count,
        prices,
        lambda name: NAMES.get(name, name),
        clock or FakeClock(),
        lambda params: f"{params.model}@8",
    )
    return meter, book, count


async def test_success():
    """An answered request is written down with its tokens, its cost and its time."""
    clock = FakeClock(now=1_800_000_000.0)

    def answer(request):
        clock.advance(0.25)
        return respond(request, source="openai", tokens=5, cost=100_000)

    meter, book, count = make_meter(ScriptedEmbedder(answer), clock)
    call = make_call(
        id="ID", grant=make_grant(key_id="k9"), user="u", tags=("a", "b"), trace="t", app="x"
    )
    await meter(make_request("one", "two", "three", model="small", call=call))

    assert book.lines == [
        UsageLine(
            id="ID",
            created_ms=1_800_000_000_000,
            key_id="k9",
            model=SMALL,
            provider="openai",
            inputs=3,
            tokens=15,
            cost=300_000,
            market_cost=15 * 20_000,
            latency_ms=250,
            status=200,
            user="u",
            tags=("a", "b"),
            trace="t",
            app="x",
            space="small@8",
        )
    ]
    assert count.lines == book.lines


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidRequest("no"), 400, "invalid_parameter"),
        (RateLimited("no"), 429, "rate_limit_exceeded"),
        (UpstreamUnavailable("no", provider="p"), 503, "provider_unavailable"),
        (asyncio.CancelledError(), 499, "caller_gone"),
        (ZeroDivisionError("a bug"), 500, "internal_error"),
        (KeyError("another"), 500, "internal_error"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_failure(error, status, code):
    """Each other end is written down once, with its status and code, and without cost."""
    meter, book, count = make_meter(ScriptedEmbedder([error]))

    with pytest.raises(type(error)):
        await meter(make_request("one", "two", model="small"))

    (line,) = book.lines
    assert (line.status, line.code, line.model) == (status, code, SMALL)
    assert (line.provider, line.inputs, line.tokens, line.cost) == (None, 2, 0, 0)
    assert count.lines == book.lines


async def test_what_was_answered_of_a_failure():
    """What was embedded before a request failed is paid and kept: the line has its tokens and its
    cost, as the budgets have it."""
    error = UpstreamUnavailable("no", provider="p")
    error.finished = {
        0: Embedding(make_vector("one"), 5, "openai", 100_000),
        2: Embedding(make_vector("three"), 7, CACHED),
    }
    error.attempts = (make_attempt(provider="openai", is_success=False),)
    meter, book, _ = make_meter(ScriptedEmbedder([error]))

    with pytest.raises(UpstreamUnavailable):
        await meter(make_request("one", "two", "three", model="small"))

    (line,) = book.lines
    assert (line.status, line.inputs, line.tokens, line.cost) == (503, 3, 12, 100_000)
    assert (line.provider, line.space, line.saved) == ("openai", None, 7 * 20_000)


async def test_names_the_model_that_served():
    """After a fallback the line names the model that served, and its list price."""

    def answer(request):
        return respond(make_request("one", model=LARGE), tokens=2)

    meter, book, _ = make_meter(ScriptedEmbedder(answer))
    await meter(make_request("one", model="small"))

    assert [(line.model, line.market_cost) for line in book.lines] == [(LARGE, 260_000)]


async def test_unknown_model():
    """A name that a caller made up is written as "unknown", so that he cannot flood the metrics."""
    meter, book, _ = make_meter(ScriptedEmbedder([InvalidRequest("no")]))

    with pytest.raises(InvalidRequest):
        await meter(make_request(model="made/up"))

    assert [line.model for line in book.lines] == ["unknown"]


async def test_a_price_of_zero_is_known():
    """A model without price is written under its name, at a market cost of zero."""
    book = MemoryBook()
    meter = Meter(
        ScriptedEmbedder(), book, MemoryBook(), {"local/m": 0}, lambda name: name, FakeClock(), str
    )
    await meter(make_request(model="local/m"))

    assert [(line.model, line.market_cost) for line in book.lines] == [("local/m", 0)]


@pytest.mark.parametrize("kinds", [(), ("system",), ("byok",), ("system", "byok")])
async def test_who_paid(kinds):
    """The line says whether the caller's own credential was used in any attempt."""

    def answer(request):
        attempts = tuple(make_attempt(credential_type=kind) for kind in kinds)
        return respond(request, attempts=attempts)

    meter, book, _ = make_meter(ScriptedEmbedder(answer))
    await meter(make_request(model="small"))

    assert [line.is_byok for line in book.lines] == ["byok" in kinds]


async def test_who_failed():
    """The line of a failure names the account that was tried last, if any was."""
    error = UpstreamUnavailable("no", provider="second")
    error.attempts = (make_attempt(provider="first"), make_attempt(provider="second"))
    meter, book, _ = make_meter(ScriptedEmbedder([error]))

    with pytest.raises(UpstreamUnavailable):
        await meter(make_request(model="small"))

    assert [line.provider for line in book.lines] == ["second"]
