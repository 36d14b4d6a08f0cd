"""`/v1/management/budgets` and `/v1/management/projects`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import insert

from embedway.ledger import UsageLine
from embedway.server.app import App
from embedway.server.management_key_schemas import KeyRecord
from embedway.server.management_money_schemas import (
    BudgetList,
    BudgetRecord,
    DeletedBudget,
    OwnerBudgets,
    ProjectList,
    Sums,
)
from embedway.store.database import WINDOWS
from tests.asgi import bearer
from tests.fakes import FakeClock
from tests.server.managing import answered, ask, managing

pytestmark = pytest.mark.asyncio(loop_scope="session")

BUDGETS = "/budgets"
USD = 10**12
JANUARY_MS = 1_798_761_600_000
NOTHING = OwnerBudgets(None, None, None)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def without(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    """A server without budgets, for those who are refused."""
    async with managing(tmp_path_factory.mktemp("managed")) as app:
        yield app


async def put(app: App, name: str, amount: str) -> BudgetRecord:
    """Set a budget."""
    return answered(
        await ask(app, "PUT", f"{BUDGETS}/{name}", (), {"amount": amount}), BudgetRecord
    )


async def listed(app: App) -> list[BudgetRecord]:
    """All of them."""
    return answered(await ask(app, "GET", BUDGETS), BudgetList).data


def spend(app: App, budget: BudgetRecord, spent: int, reserved: int) -> None:
    """What the ledger writes of this month."""
    row = {
        "budget_id": budget.id,
        "starts_ms": JANUARY_MS,
        "ends_ms": JANUARY_MS + 31 * 86_400_000,
        "spent": spent,
        "reserved": reserved,
    }
    with app.runtime.database.begin() as connection:
        connection.execute(insert(WINDOWS).values(row))


async def test_set_and_set_again(own: App) -> None:
    """A budget is there as it was set; to set it again changes the amount, and what is spent stays
    spent."""
    first = await put(own, "project/team-a/month", "5")
    assert (first.owner_kind, first.owner, first.period) == ("project", "team-a", "month")
    assert (first.amount, first.spent, first.reserved, first.remaining) == ("5", "0", "0", "5")
    assert (first.starts_at, first.ends_at) == (
        "2027-01-01T00:00:00.000Z",
        "2027-02-01T00:00:00.000Z",
    )
    spend(own, first, spent=2 * USD + 1, reserved=USD // 4)
    second = await put(own, "project/team-a/month", "10.5")
    assert second.id == first.id
    assert (second.amount, second.spent) == ("10.5", "2.000000000001")
    assert (second.reserved, second.remaining) == ("0.25", "8.249999999999")
    assert await listed(own) == [second]


async def test_what_is_overspent(own: App) -> None:
    """Nothing remains of a budget that was lowered below what is spent; never less than nothing."""
    spend(own, await put(own, "project/team-a/month", "5"), spent=4 * USD, reserved=0)
    assert (await put(own, "project/team-a/month", "3")).remaining == "0"


async def test_a_new_period(own: App, clock: FakeClock) -> None:
    """At its end a period's count begins anew."""
    spend(own, await put(own, "project/team-a/month", "5"), spent=4 * USD, reserved=0)
    clock.advance(31 * 86_400)
    (state,) = await listed(own)
    assert (state.spent, state.remaining) == ("0", "5")
    assert state.starts_at == "2027-02-01T00:00:00.000Z"


async def test_remove(own: App) -> None:
    """A budget that is removed is gone, and to remove it again is a 404."""
    await put(own, "project/team-a/day", "1")
    await put(own, "project/team-a/total", "100")
    path = f"{BUDGETS}/project/team-a/day"
    gone = answered(await ask(own, "DELETE", path), DeletedBudget)
    assert gone == DeletedBudget("budget", "project", "team-a", "day", True)
    (left,) = await listed(own)
    assert (left.period, left.starts_at, left.ends_at) == ("total", None, None)
    again = await ask(own, "DELETE", path)
    assert (again.status, again.error["code"]) == (404, "not_found")


async def test_a_key_has_its_budgets(own: App) -> None:
    """What is set for a key stands in its record; its project's does not."""
    key = own.runtime.keys.create("one")[0]
    headers = {"authorization": f"Bearer {own.runtime.keys.create('b', type='admin')[1].reveal()}"}
    for name in (f"key/{key.id}/day", "project/default/total"):
        response = await ask(own, "PUT", f"{BUDGETS}/{name}", headers, {"amount": "0"})
        answered(response, BudgetRecord)
    shown = answered(await ask(own, "GET", f"/api-keys/{key.id}", headers), KeyRecord)
    assert shown.budgets.day is not None
    assert shown.budgets.day.amount == "0"
    assert shown.budgets.month is shown.budgets.total is None


@pytest.mark.parametrize(
    ("name", "body", "status", "param"),
    [
        ("team/a/month", {"amount": "5"}, 400, "owner_kind"),
        ("project/team-a/week", {"amount": "5"}, 400, "period"),
        ("project/team-a/MONTH", {"amount": "5"}, 400, "period"),
        ("project/a%20b/month", {"amount": "5"}, 400, "project"),
        ("project/key:1/month", {"amount": "5"}, 400, "project"),
        ("key/000000000000/month", {"amount": "5"}, 404, "owner"),
        ("key/loopback/month", {"amount": "5"}, 404, "owner"),
        ("project/team-a/month", {}, 400, "amount"),
        ("project/team-a/month", {"amount": 5}, 400, "amount"),
        ("project/team-a/month", {"amount": "-5"}, 400, "amount"),
        ("project/team-a/month", {"amount": "5usd"}, 400, "amount"),
        ("project/team-a/month", {"amount": "5\n"}, 400, "amount"),
        ("project/team-a/month", {"amount": "5,00"}, 400, "amount"),
        ("project/team-a/month", {"amount": "٥"}, 400, "amount"),
        ("project/team-a/month", {"amount": "4000000.000000000001"}, 400, "amount"),
        ("project/team-a/month", {"amount": "5", "period": "day"}, 400, "period"),
        ("project/team-a/month", b'{"amount": "5", "amount": "6"}', 400, "amount"),
        ("project/team-a/month", b"", 400, None),
    ],
    ids=str,
)
async def test_wrong_budgets(
    without: App, name: str, body: Any, status: int, param: str | None
) -> None:
    """A budget that holds nobody back, or is not clear, is refused by the name of what is wrong."""
    response = await ask(without, "PUT", f"{BUDGETS}/{name}", (), body)
    assert (response.status, response.error["param"]) == (status, param), response.body
    assert await listed(without) == []


async def test_the_most(own: App) -> None:
    """The largest amount that fits is kept to the last digit."""
    assert (await put(own, "project/team-a/total", "4000000")).remaining == "4000000"
    assert (await put(own, "project/team-a/total", "3999999.999999999999")).amount == (
        "3999999.999999999999"
    )


def line(number: int, **fields: Any) -> UsageLine:
    """A request of one text."""
    plain: dict[str, Any] = {
        "id": f"{number:026d}",
        "created_ms": JANUARY_MS,
        "key_id": "open",
        "model": "local/wordllama-256",
        "provider": "local",
        "inputs": 1,
        "tokens": 2,
        "cost": 3,
        "market_cost": 5,
        "latency_ms": 1,
        "status": 200,
    }
    return UsageLine(**plain | fields)


async def test_projects(own: App) -> None:
    """A project is listed as soon as a key, a budget or a request names it, with what it has spent
    since the first of the month."""
    own.runtime.keys.create("one", project="keys")
    own.runtime.keys.create("two", project="keys")
    own.runtime.keys.create("gone", project="keys")
    own.runtime.keys.revoke("gone")
    own.runtime.budgets.set("project", "budget", "month", USD)
    own.runtime.book.add(line(1, project="asked"))
    own.runtime.book.add(line(2, project="asked", code="invalid_input", status=400, saved=7))
    own.runtime.book.add(line(3, project="asked", created_ms=JANUARY_MS - 1))
    own.runtime.book.add(line(4, project="long ago", created_ms=JANUARY_MS - 1))
    boss = own.runtime.keys.create("boss", type="admin", project="keys")[1]
    answer = await ask(own, "GET", "/projects", bearer(boss))
    found = {one.name: one for one in answered(answer, ProjectList).data}
    assert list(found) == ["asked", "budget", "keys"]
    assert (found["keys"].keys, found["budget"].keys) == (3, 0)
    assert found["keys"].budgets == NOTHING
    month = found["budget"].budgets.month
    assert month is not None
    assert (month.amount, month.remaining) == ("1", "1")
    spent = Sums(2, 1, 2, 4, "0.000000000006", "0.00000000001", "0.000000000007")
    assert found["asked"].this_month == spent
    assert found["keys"].this_month == Sums(0, 0, 0, 0, "0", "0", "0")
