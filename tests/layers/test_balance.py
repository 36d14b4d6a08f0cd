"""Balance chooses an account of the same model, as the caller wishes."""

import pytest

from embedway.errors import InvalidRequest
from embedway.layers.balance import Balance
from tests.fakes import ScriptedEmbedder, make_call, make_request

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


def test_choice_is_pure():
    """Choosing twice for one call gives one account, since nothing is remembered."""
    balance = Balance("m", {name: ScriptedEmbedder() for name in ACCOUNTS})
    call = make_call(order=("spare",))

    assert [balance.choose(call), balance.choose(call)] == ["spare", "spare"]
