"""What `/v1/management/{budgets,projects,usage}` takes and answers, as types."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from embedway.server.schemas import Body, Count, Usd

Amount = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,7}(\.[0-9]{1,12})?$",
        description="USD as decimal text, such as 5 or 0.25; at most 4000000.",
    ),
]
Moment = Annotated[str, Meta(description="RFC 3339, in UTC.")]


class BudgetBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The most that may be spent in each period."""

    amount: Amount


class BudgetUse(Body, frozen=True):
    """A budget in its present period. A total one has no beginning and no end."""

    amount: Usd
    spent: Usd
    reserved: Annotated[Usd, Meta(description="USD held back for requests under way.")]
    remaining: Usd
    starts_at: Moment | None
    ends_at: Moment | None


class OwnerBudgets(Body, frozen=True):
    """Null where there is no such budget."""

    day: BudgetUse | None
    month: BudgetUse | None
    total: BudgetUse | None


class BudgetRecord(BudgetUse, frozen=True):
    """Whose budget it is, and how much of it is left."""

    id: str
    object: Literal["budget"]
    owner_kind: Literal["key", "project"]
    owner: Annotated[str, Meta(description="The key's id, or the project's name.")]
    period: Literal["day", "month", "total"]


class BudgetList(Body, frozen=True):
    """All budgets."""

    object: Literal["list"]
    data: list[BudgetRecord]


class DeletedBudget(Body, frozen=True):
    """What there was, and is no more."""

    object: Literal["budget"]
    owner_kind: Literal["key", "project"]
    owner: str
    period: Literal["day", "month", "total"]
    deleted: Literal[True]


class Sums(Body, frozen=True):
    """What requests add up to; `saved` is what the cache spared, at list price."""

    requests: Count
    errors: Count
    inputs: Count
    tokens: Count
    cost: Usd
    market_cost: Usd
    saved: Usd


class ProjectRecord(Body, frozen=True):
    """A project: it is there as soon as a key or a budget names it."""

    name: str
    object: Literal["project"]
    keys: Annotated[int, Meta(ge=0, description="Those that work.")]
    budgets: OwnerBudgets
    this_month: Annotated[Sums, Meta(description="Since the first of the month, UTC.")]


class ProjectList(Body, frozen=True):
    """All projects, by name."""

    object: Literal["list"]
    data: list[ProjectRecord]


class UsageRow(Sums, frozen=True):
    """The sums of one group, with its value of each thing that was grouped by."""

    key: str | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    provider: str | UnsetType | None = UNSET
    project: str | UnsetType | None = UNSET
    user: str | UnsetType | None = UNSET
    tag: str | UnsetType | None = UNSET
    day: str | UnsetType | None = UNSET


class UsagePeriod(Body, frozen=True):
    """From `start` until before `end`; null: without a bound."""

    start: Moment | None
    end: Moment | None


class UsageSummary(Body, frozen=True):
    """Everything that was chosen, once: a request with two tags counts one time here."""

    total_requests: Count
    total_errors: Count
    total_inputs: Count
    total_tokens: Count
    total_cost: Usd
    total_market_cost: Usd
    cache_savings: Usd
    effective_cost_per_request: Annotated[
        Usd, Meta(description="USD, rounded down to 12 decimal places.")
    ]


class UsageAnswer(Body, frozen=True):
    """The answer of `GET /v1/management/usage`."""

    object: Literal["list"]
    period: UsagePeriod
    data: list[UsageRow]
    summary: UsageSummary


class AttemptsAnswer(Body, frozen=True):
    """What the requests to providers add up to, by what is known of them."""

    period: UsagePeriod
    settled_tokens: Count
    settled_cost: Usd
    unknown_attempts: Annotated[int, Meta(ge=0, description="They may have been billed.")]
    unknown_tokens_reserved: Annotated[int, Meta(ge=0, description="The most they can have had.")]
    unbilled_attempts: Count
    reserved_attempts: Annotated[int, Meta(ge=0, description="Under way.")]


class UnknownAttemptRecord(Body, frozen=True):
    """One request to a provider, to be looked for on its bill."""

    id: str
    request_id: str
    key_id: str
    project: str
    model: str
    provider: str
    inputs: Count
    reserved_tokens: Count
    reserved_cost: Usd
    created_at: Moment
    ended_at: Moment | None
    status: int | None
    code: str | None


class UnknownAttemptList(Body, frozen=True):
    """Oldest first."""

    object: Literal["list"]
    data: list[UnknownAttemptRecord]
