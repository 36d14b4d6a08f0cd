"""What is true of each layer, whatever its verb."""

import asyncio
from pathlib import Path

import pytest

import embedway.layers
from embedway.budgets import Budget
from embedway.catalog_file import load_catalog
from embedway.directory import Directory
from embedway.errors import EmbedError, InvalidRequest, ModelNotFound, UpstreamUnavailable
from embedway.gateway import Gateway
from embedway.headroom import Headroom
from embedway.health import Health
from embedway.ids import Ids
from embedway.layers.admit import Admit
from embedway.layers.balance import Balance
from embedway.layers.batch import Batch
from embedway.layers.booked import Booked
from embedway.layers.cache import Cache
from embedway.layers.chunk import Chunk
from embedway.layers.coalesce import Coalesce
from embedway.layers.deadline import Deadline
from embedway.layers.fallback import Fallback
from embedway.layers.hedge import Hedge
from embedway.layers.limit import Limit
from embedway.layers.meter import Meter
from embedway.layers.rate import Rate
from embedway.layers.retry import Retry, RetryBudget
from embedway.layers.route import Route
from embedway.layers.split import Split
from embedway.layers.within_budget import WithinBudget
from embedway.parts import Limits
from embedway.rates import KeyRates
from embedway.store.rate_memory import MemoryRates
from embedway.store.recent import RecentVectors
from tests.fakes import (
    FakeClock,
    MemoryBook,
    ScriptedEmbedder,
    allowing,
    make_call,
    make_deployment,
    make_request,
    respond,
    until,
)
from tests.memory_ledger import MemoryLedger

MODEL = "openai/text-embedding-3-small"
CATALOG = load_catalog()
DIRECTORY = Directory(CATALOG, {}, frozenset({MODEL}))


def ignore(event, number):
    """Counts nothing."""


def make_cache(inner):
    """A cache in memory alone."""
    clock = FakeClock()
    recent = RecentVectors(max_bytes=2**20, ttl_s=0, clock=clock, count=ignore)
    model = CATALOG.find(MODEL).model
    return Cache(
        inner,
        model,
        recent,
        None,
        {"openai": b"12345678"},
        allowing(["openai"]),
        "project",
        clock,
        ignore,
    )


def make_balance(inner):
    """One account."""
    return Balance(
        MODEL, {"openai": inner}, {"openai": Health(FakeClock(), lambda: 0.0)}, lambda: 0.0
    )


def make_rate(inner):
    """In memory."""
    return Rate(inner, KeyRates(MemoryRates(FakeClock()), FakeClock()))


def make_retry(inner):
    """With one account."""
    clock, balance = FakeClock(), make_balance(inner)
    return Retry(inner, clock, RetryBudget(clock), balance, lambda: 0.0, lambda granted: None)


def make_hedge(inner):
    """With one account, and nobody else to ask."""
    balance = make_balance(inner)
    return Hedge(inner, FakeClock(), balance, lambda account: 0.1, lambda calls: True)


def make_within_budget(inner):
    """With a budget that covers everything."""
    budget = Budget(id="b", owner_kind="key", owner="k", period="day", amount=9, created_ms=0)

    async def budgets_of(grant):
        return (budget,)

    async def most_cost(request):
        return 9

    clock = FakeClock()
    return WithinBudget(inner, MemoryLedger(), budgets_of, most_cost, Ids(clock), clock)


def make_booked(inner):
    """With a book in memory."""
    clock = FakeClock()
    return Booked(
        inner, make_deployment(), "openai", MemoryLedger(), lambda request: 9, Ids(clock), clock
    )


LAYERS = {
    "meter": lambda inner: Meter(
        inner, MemoryBook(), MemoryBook(), {MODEL: 20_000}, DIRECTORY.canonical, FakeClock(), str
    ),
    "admit": lambda inner: Admit(inner, DIRECTORY.canonical),
    "rate": make_rate,
    "deadline": lambda inner: Deadline(inner, FakeClock()),
    "fallback": lambda inner: Fallback(inner),
    "route": lambda inner: Route({MODEL: inner}, DIRECTORY, {MODEL: ("openai",)}),
    "retry": lambda inner: make_retry(inner),
    "hedge": lambda inner: make_hedge(inner),
    "balance": lambda inner: make_balance(inner),
    "chunk": lambda inner: Chunk(inner, "mean", 8192, len),
    "cache": make_cache,
    "coalesce": lambda inner: Coalesce(inner, "project", ignore),
    "batch": lambda inner: Batch(inner, slots=lambda: 1, max_inputs=2),
    "split": lambda inner: Split(inner, Limits(inputs=2)),
    "limit": lambda inner: Limit(inner, "openai", Headroom(FakeClock(), 1), FakeClock(), len),
    "within_budget": make_within_budget,
    "booked": make_booked,
    "gateway": lambda inner: Gateway(inner, DIRECTORY, {}, {}, {}, str),
}
LAYER = pytest.mark.parametrize("layer", list(LAYERS.values()), ids=list(LAYERS))


@LAYER
async def test_passes_the_call_on(layer):
    """A layer hands its inner Embedder the call that it was handed, field for field."""
    inner = ScriptedEmbedder()
    call = make_call(
        cache="refresh", user="u-1", tags=("a", "b"), trace="t", app="x", sort="cost", only=()
    )

    await layer(inner)(make_request("one", "two", model=MODEL, call=call))

    assert [request.call for request in inner.requests] == [call]
    assert [request.inputs for request in inner.requests] == [("one", "two")]
    assert [request.params.model for request in inner.requests] == [MODEL]


@LAYER
async def test_passes_the_response_up(layer):
    """A layer that has nothing to change hands up the very embeddings it was handed."""
    given = []

    def answer(request):
        given.append(respond(request, cost=7))
        return given[0]

    response = await layer(ScriptedEmbedder(answer))(make_request("one", "two", model=MODEL))

    assert response.embeddings is given[0].embeddings
    assert response.params == given[0].params


@LAYER
@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("no", param="dimensions"),
        ModelNotFound("no", model="x"),
        UpstreamUnavailable("no", provider="openai"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_lets_an_error_out(layer, error):
    """An EmbedError from below, where nothing is left to be tried, leaves a layer as the same
    object."""
    with pytest.raises(EmbedError) as caught:
        await layer(ScriptedEmbedder([error]))(make_request(model=MODEL, retries=0))

    assert caught.value is error


@LAYER
async def test_lets_a_bug_out(layer):
    """A bug below is not dressed up as an error that a caller could act on."""
    bug = ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError) as caught:
        await layer(ScriptedEmbedder([bug]))(make_request(model=MODEL))

    assert caught.value is bug


@LAYER
async def test_lets_cancellation_out(layer):
    """When the caller is gone, the inner Embedder is cancelled and nothing but that comes out."""
    ended = []

    async def hang(_):
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    inner = ScriptedEmbedder(hang)
    task = asyncio.create_task(layer(inner)(make_request(model=MODEL)))
    await until(lambda: inner.requests)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]


def test_no_layer_is_forgotten():
    """Every file in `layers/` is among those tested here."""
    folder = Path(embedway.layers.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}

    assert files <= set(LAYERS)


@LAYER
def test_repr_shows_the_stack(layer):
    """The repr of a layer shows its name and what stands below it."""
    shown = repr(layer(Balance("below", {}, {}, lambda: 0.0)))

    assert "Balance(model='below'" in shown
    assert shown.count("(") >= 1
    assert "FakeClock" not in shown


@LAYER
def test_differ_by_identity(layer):
    """Two layers with the same content are two layers."""
    inner = ScriptedEmbedder()

    assert layer(inner) != layer(inner)
    assert len({layer(inner), layer(inner)}) == 2
