"""Balance chooses an account of the same model, as the caller wishes."""

import pytest

from embedway.errors import InvalidRequest
from embedway.layers.balance import Balance
from embedway.types import replace
from tests.fakes import ScriptedEmbedder, make_attempt, make_call, make_request, respond

ACCOUNTS = ("main", "spare", "azure")


@pytest.mark.parametrize(
    ("only", "order", "chosen"),
    [
        ((), (), "main"),
        (("spare",), (), "spare"),
        (("azure", "spare"), (), "spare"),
        (("foreign", "azure"), (), "azure"),
        ((), ("azure",), "azure"),
        ((), ("foreign", "spare", "azure"), "spare"),
        ((), ("foreign",), "main"),
        (("spare", "azure"), ("azure", "main"), "azure"),
        (("spare",), ("main",), "spare"),
    ],
)
async def test_choice(only, order, chosen):
    """Of the accounts allowed by `only`, the first of `order` is asked, else the operator's first;
    names that serve something else are passed over."""
    accounts = {name: ScriptedEmbedder() for name in ACCOUNTS}
    request = make_request("a text", only=only, order=order)

    await Balance("openai/small", accounts)(request)

    asked = {name: inner.requests for name, inner in accounts.items() if inner.requests}
    assert asked == {chosen: [request]}


@pytest.mark.parametrize("only", [("foreign",), ("foreign", "Main")])
async def test_nobody_allowed(only):
    """If no account is allowed, the refusal says who serves the model."""
    balance = Balance("openai/small", {name: ScriptedEmbedder() for name in ACCOUNTS})

    with pytest.raises(InvalidRequest) as caught:
        await balance(make_request(only=only, order=("main",)))

    assert caught.value.param == "provider"
    assert caught.value.message == (
        f"No provider among {', '.join(only)} serves openai/small; "
        "it is served by main, spare, azure."
    )


@pytest.mark.parametrize(
    ("only", "order", "chosen"),
    [((), (), "azure"), (("main", "spare"), (), "spare"), ((), ("main",), "main")],
)
async def test_by_cost(only, order, chosen):
    """Sorted by cost the cheapest account that is allowed is asked; `order` still goes first."""
    accounts = {name: ScriptedEmbedder() for name in ACCOUNTS}
    balance = Balance("m", accounts, {"main": 30, "spare": 20, "azure": 10})

    await balance(make_request(only=only, order=order, sort="cost"))

    assert [name for name in ACCOUNTS if accounts[name].requests] == [chosen]


async def test_by_latency():
    """Sorted by latency each account gets its chance, then the fastest of late is asked; one that
    slows down loses its place."""
    taken = {"main": 50, "spare": 20, "azure": 90}

    def answering(name):
        def answer(request):
            attempt = make_attempt(provider=name, started_ms=0, ended_ms=taken[name])
            return replace(respond(request), attempts=(attempt,))

        return ScriptedEmbedder(answer)

    accounts = {name: answering(name) for name in ACCOUNTS}
    balance = Balance("m", accounts)

    async def asked(times):
        before = {name: len(accounts[name].requests) for name in ACCOUNTS}
        for _ in range(times):
            await balance(make_request(sort="latency"))
        return {name: len(accounts[name].requests) - before[name] for name in ACCOUNTS}

    assert await asked(3) == {"main": 1, "spare": 1, "azure": 1}
    assert await asked(10) == {"main": 0, "spare": 10, "azure": 0}
    taken["spare"] = 500
    assert (await asked(10))["main"] == 9


async def test_failed_attempts_are_no_measure():
    """An attempt that failed says nothing of how long a success takes: it is not averaged in."""

    def answer(request):
        failed = make_attempt(provider="main", started_ms=0, ended_ms=1, is_success=False)
        served = make_attempt(provider="main", started_ms=0, ended_ms=50)
        return replace(respond(request), attempts=(failed, served))

    balance = Balance("m", {"main": ScriptedEmbedder(answer)})
    await balance(make_request())

    assert balance.milliseconds == {"main": 50}


def test_choice_is_pure():
    """Choosing twice for one call gives one account, since nothing is remembered."""
    balance = Balance("m", {name: ScriptedEmbedder() for name in ACCOUNTS})
    call = make_call(order=("spare",))

    assert [balance.choose(call), balance.choose(call)] == ["spare", "spare"]
