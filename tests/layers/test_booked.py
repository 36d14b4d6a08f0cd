"""Booked writes every call down before it leaves, and what became of it."""

import asyncio

import pytest

from embedway.errors import (
    DeadlineExceeded,
    LedgerUnavailable,
    MalformedResponse,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.ids import Ids
from embedway.layers.booked import Booked
from embedway.secret import Secret
from tests.fakes import (
    FakeClock,
    ScriptedEmbedder,
    make_attempt,
    make_call,
    make_deployment,
    make_grant,
    make_request,
    respond,
)
from tests.layers.held import Held
from tests.memory_ledger import MemoryLedger, unavailable


@pytest.fixture
def ledger():
    """Where attempts are written down."""
    return MemoryLedger()


def make_booked(inner, ledger, **deployment):
    """The layer over *inner*, at 20 picodollars a token and at most 10 tokens a request."""
    clock = FakeClock(now=1_800_000_000.0)
    deployment = make_deployment(**({"price": 20} | deployment))
    return Booked(inner, deployment, "openai", ledger, lambda request: 10, Ids(clock), clock)


def failed(kind, was_sent=True, **fields):
    """A provider's failure."""
    error = kind("it failed", provider="openai", **fields)
    error.was_sent = was_sent
    return error


async def test_written_down_before_it_leaves(ledger):
    """When the provider is asked, the attempt stands in the book at the most it may cost."""

    def answer(request):
        [begun] = ledger.begun
        assert (begun.reserved_tokens, begun.reserved_cost) == (10, 200)
        assert (begun.request_id, begun.key_id, begun.project) == ("R", "k9", "p")
        assert (begun.inputs, begun.provider) == (2, "openai")
        assert not ledger.ended
        return respond(request, source="openai", tokens=3, cost=60, attempts=(make_attempt(),))

    call = make_call(id="R", grant=make_grant(key_id="k9", project="p"))
    booked = make_booked(ScriptedEmbedder(answer), ledger)
    await booked(make_request("one", "two", call=call))
    [ended] = ledger.ended
    assert ended.id == ledger.begun[0].id
    assert (ended.state, ended.tokens, ended.cost, ended.status) == ("settled", 6, 120, 200)


async def test_without_a_book_nobody_is_asked(ledger):
    """What cannot be written down is not paid for."""
    ledger.trouble = unavailable()
    inner = ScriptedEmbedder()
    with pytest.raises(LedgerUnavailable):
        await make_booked(inner, ledger)(make_request())
    assert inner.requests == []
    assert ledger.ended == []


@pytest.mark.parametrize("who", ["a free server", "the caller himself"])
async def test_what_is_free_does_not_wait(ledger, who):
    """A free server, or a caller's own credential, needs no book to go on, but is in it."""
    ledger.trouble = unavailable()
    price = {"price": 0} if who == "a free server" else {}
    own = {} if price else {"credentials": {"openai": Secret("own")}}
    booked = make_booked(ScriptedEmbedder(), ledger, **price)
    await booked(make_request(call=make_call(**own)))
    assert [one.reserved_cost for one in ledger.noted] == [0]
    assert [one.state for one in ledger.ended] == ["settled"]


async def test_characters_are_counted_where_they_are_billed(ledger):
    """The reserve covers providers that bill by the character."""
    booked = make_booked(ScriptedEmbedder(), ledger, price=0, price_per_character=7)
    await booked(make_request("abc", "de"))
    assert [one.reserved_cost for one in ledger.begun] == [35]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (failed(UpstreamUnavailable, was_sent=False), "unbilled"),
        (failed(UpstreamTimeout, was_sent=False), "unbilled"),
        (failed(UpstreamUnavailable), "unknown"),
        (failed(UpstreamTimeout), "unknown"),
        (failed(UpstreamUnavailable, upstream_status=503), "unbilled"),
        (failed(UpstreamRateLimited, upstream_status=429), "unbilled"),
        (failed(UpstreamRejected, upstream_status=400), "unbilled"),
        (failed(UpstreamUnauthorized, upstream_status=401), "unbilled"),
        (failed(MalformedResponse, upstream_status=200), "unknown"),
        (DeadlineExceeded("late"), "unbilled"),
        (RuntimeError("a bug"), "unknown"),
    ],
    ids=lambda value: f"{type(value).__name__}" if isinstance(value, Exception) else value,
)
async def test_what_failed(ledger, error, state):
    """What the provider cannot have billed is unbilled; what it may have is unknown, at the
    reserve."""
    with pytest.raises(type(error)):
        await make_booked(ScriptedEmbedder([error]), ledger)(make_request())
    [ended] = ledger.ended
    charged = (10, 200) if state == "unknown" else (0, 0)
    assert (ended.state, ended.tokens, ended.cost) == (state, *charged)
    assert ended.status == getattr(error, "upstream_status", None)


async def test_a_caller_who_left(ledger):
    """What was under way for a caller who left is unknown: the provider may go on and bill it."""
    held = Held()
    task = asyncio.create_task(make_booked(held, ledger)(make_request()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(one.state, one.cost, one.code) for one in ledger.ended] == [
        ("unknown", 200, "abandoned")
    ]
