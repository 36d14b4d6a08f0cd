"""Admit asks whether the key may use the models that the call names."""

import pytest

from embedway.errors import ModelNotAllowed, PermissionDenied
from embedway.layers.admit import Admit
from tests.fakes import ScriptedEmbedder, make_call, make_grant, make_request

NAMES = {"small": "openai/small", "fast": "openai/small", "large": "openai/large"}


@pytest.mark.parametrize(
    ("allowed", "model", "fallbacks"),
    [
        (None, "anything", ("at", "all")),
        (("small",), "small", ()),
        (("small",), "openai/small", ()),
        (("openai/small",), "small", ()),
        (("fast",), "small", ()),
        (("small",), "fast", ()),
        (("small", "large"), "small", ("large",)),
        (("small",), "small", ("fast", "openai/small")),
        (("unheard-of",), "unheard-of", ()),
    ],
)
async def test_admits(allowed, model, fallbacks):
    """A key that allows a model allows it under each of its names, and as a fallback."""
    inner = ScriptedEmbedder()
    call = make_call(grant=make_grant(models=allowed), fallbacks=fallbacks)

    await Admit(inner, lambda name: NAMES.get(name, name))(make_request(model=model, call=call))

    assert inner.models == [model]


@pytest.mark.parametrize(
    ("allowed", "model", "fallbacks", "named"),
    [
        (("small",), "large", (), "large"),
        (("small",), "small", ("large",), "large"),
        (("small",), "large", ("small",), "large"),
        (("small",), "small", ("fast", "other"), "other"),
        ((), "small", (), "small"),
        (("small",), "Small", (), "Small"),
    ],
)
async def test_refuses(allowed, model, fallbacks, named):
    """One model that is not allowed, asked for or as fallback, refuses the call before anything
    is asked; the message names it and what the key may use."""
    inner = ScriptedEmbedder()
    call = make_call(grant=make_grant(name="ci", models=allowed), fallbacks=fallbacks)

    with pytest.raises(ModelNotAllowed) as caught:
        await Admit(inner, lambda name: NAMES.get(name, name))(make_request(model=model, call=call))

    assert f"'ci' may not use {named}." in caught.value.message
    assert (", ".join(allowed) or "no model") in caught.value.message
    assert caught.value.param == "model"
    assert inner.requests == []


@pytest.mark.parametrize("models", [None, ("small", "large")])
async def test_fallbacks_may_be_forbidden(models):
    """A key without fallbacks is refused as soon as a request names one, even of a model that the
    key may use, and names the field; its other requests pass."""
    inner = ScriptedEmbedder()
    admit = Admit(inner, lambda name: NAMES.get(name, name))
    grant = make_grant(name="ci", models=models, allows_fallbacks=False)
    call = make_call(grant=grant, fallbacks=("large",))
    with pytest.raises(PermissionDenied) as caught:
        await admit(make_request(model="small", call=call))

    assert (caught.value.status, caught.value.param) == (403, "gateflow.fallbacks")
    assert "'ci' may not use fallbacks" in caught.value.message
    assert inner.requests == []
    await admit(make_request(model="small", call=make_call(grant=grant)))
    assert inner.models == ["small"]


ACCOUNTS = {
    "openai/small": ("openai", "azure"),
    "openai/large": ("azure",),
    "local/own": ("local",),
}


def admit_over(inner):
    """The layer over models that some accounts serve."""
    return Admit(inner, lambda name: NAMES.get(name, name), ACCOUNTS)


@pytest.mark.parametrize(
    ("providers", "only", "left"),
    [
        (None, (), ()),
        (None, ("cohere",), ("cohere",)),
        (("openai",), (), ("openai",)),
        (("openai", "azure"), ("azure", "cohere"), ("azure",)),
        (("azure", "openai"), ("openai", "azure"), ("azure", "openai")),
    ],
)
async def test_accounts(providers, only, left):
    """Below, a call may be served only by accounts that both the key and the caller allow; a key
    without a list changes nothing."""
    inner = ScriptedEmbedder()
    call = make_call(grant=make_grant(providers=providers), only=only)
    await admit_over(inner)(make_request(model="small", call=call))

    assert inner.requests[0].call.only == left


@pytest.mark.parametrize(
    ("providers", "only", "model", "fallbacks", "param", "told"),
    [
        (("openai",), ("azure",), "small", (), "provider", "may not use azure. It may use: openai"),
        (("openai",), ("nix",), "nix", (), "provider", "may not use nix"),
        ((), (), "nix", (), "provider", "It may use: no provider"),
        ((), (), "small", (), "model", "the providers that serve small"),
        (("openai",), (), "large", (), "model", "the providers that serve large"),
        (("openai",), (), "small", ("large",), "model", "the providers that serve large"),
        (("openai",), (), "large", ("small",), "model", "the providers that serve large"),
        (("openai", "azure"), (), "fast", ("local/own",), "model", "that serve local/own"),
    ],
)
async def test_no_account_left(providers, only, model, fallbacks, param, told):
    """Where the key allows no account that could serve, the call is refused with the field and what
    the key may use, before anything is asked."""
    inner = ScriptedEmbedder()
    grant = make_grant(name="ci", providers=providers)
    call = make_call(grant=grant, only=only, fallbacks=fallbacks)
    with pytest.raises(PermissionDenied) as caught:
        await admit_over(inner)(make_request(model=model, call=call))

    assert (caught.value.status, caught.value.param) == (403, param)
    assert "The key 'ci' may not use" in caught.value.message
    assert told in caught.value.message
    assert inner.requests == []


async def test_accounts_of_fallbacks():
    """A call with fallbacks is left the same accounts for each of its models, and what nobody
    serves at all is not this layer's to tell."""
    inner = ScriptedEmbedder()
    call = make_call(grant=make_grant(providers=("azure",)), fallbacks=("large", "unserved"))
    await admit_over(inner)(make_request(model="small", call=call))

    assert inner.requests[0].call.only == ("azure",)
    assert inner.requests[0].call.fallbacks == ("large", "unserved")
