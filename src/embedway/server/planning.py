"""Who could serve a request, in which order, and why: what `planningReasoning` says.

Made when the answer is: what was tried is known then, and what was not tried stands in the order
that `layers/balance.py` would have gone on in.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from embedway.gateway import Gateway
from embedway.model_stack import ModelStack
from embedway.types import Attempt, Call, Plan

_WHY = {
    "order": "the request's own",
    "cost": "the cheapest first",
    "latency": "the fastest first",
    "health": "by health and load",
}


def make_plan(
    gateway: Gateway,
    call: Call,
    *,
    asked: str,
    model: str,
    others: tuple[str, ...],
    attempts: Sequence[Attempt],
    is_known: bool = False,
) -> Plan:
    """The plan for *model*, which served or, after an error, was asked for.

    asked: the caller's word. others: what that could also have meant. is_known: every vector was.
    """
    stack = gateway.models.get(model)
    if stack is None:
        return Plan(asked, model, (), f"No account here serves {model}.")
    allowed = gateway.accounts[model]
    if call.only or call.grant.providers is not None:
        allowed = tuple(name for name in allowed if _may_serve(name, call))
    if is_known:
        return _plan_of_a_hit(asked, model, allowed, others)
    own = [one for one in attempts if one.model == model and one.provider]
    byok = {one.provider for one in own if one.credential_type == "byok"}
    order = _order(call, stack, allowed, [one.provider for one in own])
    why = "order" if call.order else call.sort or "health"
    credentials = tuple("byok" if name in byok else "system" for name in order)
    return Plan(
        asked, model, order, _words(order, credentials, why, _left_out(stack, order), others)
    )


def _may_serve(account: str, call: Call) -> bool:
    """Whether both the caller and his key allow it; he need not know of others."""
    own = call.grant.providers
    return (not call.only or account in call.only) and (own is None or account in own)


def _order(
    call: Call, stack: ModelStack, allowed: Sequence[str], tried: Sequence[str]
) -> tuple[str, ...]:
    rest = list(allowed)
    if call.sort == "cost":
        rest.sort(key=lambda name: stack.prices.get(name, 0))
    if call.sort == "latency":
        rest.sort(key=lambda name: stack.health[name].milliseconds or 0.0)
    wanted = [name for name in call.order if name in allowed]
    return tuple(dict.fromkeys((*tried, *wanted, *rest)))


def _left_out(stack: ModelStack, order: Sequence[str]) -> tuple[str, ...]:
    """Who is not asked at the moment, and why."""
    found = []
    for name in order:
        health = stack.health[name]
        if health.state != "closed":
            found.append(f"{name} (failed again and again)")
        elif health.is_full:
            found.append(f"{name} (at its limit)")
    return tuple(found)


# The same for most answers of a model, and no word of it comes from a caller.
@lru_cache(1024)
def _words(
    order: tuple[str, ...],
    credentials: tuple[str, ...],
    why: str,
    left_out: tuple[str, ...],
    others: tuple[str, ...],
) -> str:
    system = [name for name, kind in zip(order, credentials, strict=True) if kind == "system"]
    own = [name for name, kind in zip(order, credentials, strict=True) if kind == "byok"]
    steps = " → ".join(f"{name}({kind})" for name, kind in zip(order, credentials, strict=True))
    return " ".join(
        (
            *([f"Own credentials planned for: {', '.join(own)}."] if own else []),
            *([f"System credentials planned for: {', '.join(system)}."] if system else []),
            f"Total execution order: {steps}.",
            *([f"Order: {_WHY[why]}."] if len(order) > 1 else []),
            *([f"Let alone for now: {', '.join(left_out)}."] if left_out else []),
            *_also(others),
        )
    )


@lru_cache(1024)
def _plan_of_a_hit(
    asked: str, model: str, allowed: tuple[str, ...], others: tuple[str, ...]
) -> Plan:
    planned = f"Every vector was known. Else it would be: {', '.join(allowed)}."
    return Plan(asked, model, allowed, " ".join((planned, *_also(others))))


def _also(others: tuple[str, ...]) -> list[str]:
    return [f"The bare name also fits {', '.join(others)}."] if others else []
