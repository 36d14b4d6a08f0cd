"""WithinBudget holds back what a request may cost before anybody is asked."""

import asyncio

import pytest

from embedway.budgets import Budget
from embedway.errors import BudgetExceeded, UpstreamUnavailable
from embedway.ids import Ids
from embedway.layers.within_budget import WithinBudget
from embedway.types import Embedding
from tests.fakes import (
    FakeClock,
    ScriptedEmbedder,
    make_request,
    make_vector,
    respond,
)
from tests.layers.held import Held
from tests.memory_ledger import MemoryLedger

BUDGET = Budget(
    id="b1", owner_kind="key", owner="k1", period="day", amount=1000, created_ms=1_800_000_000_000
)


@pytest.fixture
def ledger():
    """Where budgets are held back."""
    return MemoryLedger()


def make_layer(inner, ledger, *budgets, most=70):
    """The layer: these budgets for everybody, and requests that may cost *most*."""

    async def budgets_of(grant):
        return budgets

    async def most_cost(request):
        return most

    clock = FakeClock(now=1_800_000_000.0)
    return WithinBudget(inner, ledger, budgets_of, most_cost, Ids(clock), clock)


async def test_held_back_before_and_settled_after(ledger):
    """While the provider is asked the most is held back; then what it truly cost is charged."""

    def answer(request):
        [wanted] = ledger.reserved
        assert (wanted.amount, wanted.budgets) == (70, (BUDGET,))
        assert wanted.created_ms == 1_800_000_000_000
        assert not ledger.settled
        return respond(request, source="openai", cost=20)

    await make_layer(ScriptedEmbedder(answer), ledger, BUDGET)(make_request("one", "two"))
    assert [cost for _, _, cost in ledger.settled] == [40]


@pytest.mark.parametrize(("budgets", "most"), [((), 70), ((BUDGET,), 0)])
async def test_nothing_to_hold_back(ledger, budgets, most):
    """Without a budget, or without a price, nothing is written."""
    inner = ScriptedEmbedder()
    await make_layer(inner, ledger, *budgets, most=most)(make_request())
    assert len(inner.requests) == 1
    assert ledger.reserved == ledger.settled == []


async def test_beyond_the_budget_nobody_is_asked(ledger):
    """What no budget covers is refused before anybody is asked."""
    ledger.trouble = BudgetExceeded("spent")
    inner = ScriptedEmbedder()
    with pytest.raises(BudgetExceeded) as refused:
        await make_layer(inner, ledger, BUDGET)(make_request())
    assert refused.value.status == 402
    assert not refused.value.caller_may_retry
    assert inner.requests == []
    assert ledger.settled == []


async def test_a_failure_costs_what_was_made(ledger):
    """Of a request that failed only what was finished of it is charged."""
    error = UpstreamUnavailable("no", provider="openai")
    error.finished = {1: Embedding(make_vector("a"), 3, "openai", 25)}
    with pytest.raises(UpstreamUnavailable):
        await make_layer(ScriptedEmbedder([error]), ledger, BUDGET)(make_request("one", "two"))
    assert [cost for _, _, cost in ledger.settled] == [25]


async def test_a_caller_who_left_is_charged_at_the_most(ledger):
    """What was asked for a caller who left may have been billed."""
    task = asyncio.create_task(make_layer(Held(), ledger, BUDGET)(make_request()))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [cost for _, _, cost in ledger.settled] == [70]
