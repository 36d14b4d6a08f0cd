"""One model's stack with everything on: its order, and what the operator can choose."""

import asyncio
import re

import orjson
import pytest

from embedway.catalog_file import load_catalog
from embedway.errors import UpstreamInputTooLong
from embedway.gateway import LOCAL_MODEL, Kept, build_gateway
from embedway.layers.balance import Balance
from embedway.secret import Secret
from embedway.settings import AccountSettings, CacheSettings, ModelSettings, Settings
from embedway.store.recent import RecentVectors
from embedway.tokens import count_cl100k
from embedway.vectors import as_array
from embedway.wrong_settings import SettingsError
from tests.fakes import (
    FakeClock,
    MemoryBook,
    ScriptedEmbedder,
    ScriptedSend,
    json_response,
    make_request,
    make_vector,
    openai_body,
)

CATALOG = load_catalog()
SMALL = "openai/text-embedding-3-small"
OPENAI = AccountSettings(api_key=Secret("sk-operator"))
COHERE = AccountSettings(api_key=Secret("co-operator"))
PAGE = "word " * 9000


def answer(request):
    """OpenAI's, with its own count of tokens; a text of more than 8,192 is refused."""
    inputs = orjson.loads(request.body)["input"]
    tokens = [count_cl100k(text) for text in inputs]
    if max(tokens) > 8192:
        told = f"This model's maximum context length is 8192 tokens, not {max(tokens)}."
        return json_response({"error": {"message": told}}, 400)
    vectors = [make_vector(text, dimensions=1536) for text in inputs]
    return json_response(openai_body(*vectors, tokens=sum(tokens)))


class Built:
    """A gateway that keeps vectors in memory, over a scripted transport."""

    def __init__(self, send=answer, **settings):
        self.send, self.clock = ScriptedSend(send), FakeClock()
        self.local = ScriptedEmbedder(dimensions=256)
        recent = RecentVectors(
            max_bytes=2**20, ttl_s=0, clock=self.clock, count=lambda event, number: None
        )
        self.gateway = build_gateway(
            settings=Settings(home="/nowhere", **settings),
            catalog=CATALOG,
            local=self.local,
            send=self.send,
            book=MemoryBook(),
            count=MemoryBook(),
            clock=self.clock,
            kept=Kept(recent, None),
            count_local=len,
        )

    async def __call__(self, *inputs, **fields):
        """Ask for some inputs."""
        return await self.gateway(make_request(*inputs, **fields))


def order_of(gateway, model):
    """The layers of one model's stack, outermost first."""
    shown = repr(gateway.stack.inner.inner.inner.inner.stacks[model])
    return [name for name in re.findall(r"\b([A-Z]\w+)\(", shown) if name != "RecentVectors"]


def test_order_of_a_model():
    """The repr of a model's stack shows its layers in the order of the architecture."""
    built = Built(
        providers={"openai": OPENAI},
        models={SMALL: ModelSettings(on_overlong="truncate", hedge=True)},
    )

    layers = ["Chunk", "Cache", "Coalesce", "Batch", "Retry", "Hedge", "Balance", "Split"]
    layers += ["Limit", "Upstream"]
    assert [name for name in order_of(built.gateway, SMALL) if name in layers] == layers


def test_what_is_not_wanted_is_absent():
    """A layer that has nothing to do is not in the stack: callers of a model whose tokens nobody
    counts by text are not joined, nobody's calls are hedged, and the local model, which joins by
    itself, has nobody to be retried at."""
    built = Built(providers={"cohere": COHERE})

    assert "Batch" not in order_of(built.gateway, "cohere/embed-v4.0")
    assert "Chunk" not in order_of(built.gateway, "cohere/embed-v4.0")
    assert order_of(built.gateway, LOCAL_MODEL)[:3] == ["Cache", "Coalesce", "Balance"]
    assert "Batch" not in order_of(built.gateway, LOCAL_MODEL)
    assert "Retry" not in order_of(built.gateway, LOCAL_MODEL)
    assert "Hedge" not in order_of(built.gateway, "cohere/embed-v4.0")


@pytest.mark.parametrize("name", [SMALL, "text-embedding-3-small"])
async def test_an_overlong_input_is_cut_where_the_operator_wants_it(name):
    """With "truncate" a text of more tokens than the model takes is embedded as far as they go,
    and said to be cut; others are not touched."""
    built = Built(
        providers={"openai": OPENAI}, models={name: ModelSettings(on_overlong="truncate")}
    )

    response = await built("short", PAGE, model=SMALL)

    short, long = orjson.loads(built.send.requests[0].body)["input"]
    assert (short, count_cl100k(long)) == ("short", 8192)
    assert PAGE.startswith(long)
    assert [e.is_truncated for e in response.embeddings] == [False, True]
    assert [e.tokens for e in response.embeddings] == [count_cl100k("short"), 8192]


async def test_an_overlong_input_is_averaged_where_the_operator_wants_it():
    """With "mean" all of it is embedded in pieces, and the vector is their mean, of length 1."""
    built = Built(providers={"openai": OPENAI}, models={SMALL: ModelSettings(on_overlong="mean")})

    response = await built(PAGE, "short", model=SMALL)

    pieces = orjson.loads(built.send.requests[0].body)["input"][:-1]
    assert "".join(pieces) == PAGE
    assert [e.is_averaged for e in response.embeddings] == [True, False]
    vector = as_array(response.embeddings[0].vector)
    assert float((vector * vector).sum()) == pytest.approx(1, abs=1e-6)

    again = await built(PAGE, "short", model=SMALL)
    assert len(built.send.requests) == 1
    assert [e.vector for e in again.embeddings] == [e.vector for e in response.embeddings]
    assert sum(e.cost for e in again.embeddings) == 0


async def test_an_overlong_input_is_refused_by_default():
    """Nobody's text is cut unless the operator says so: the error names the input."""
    built = Built(providers={"openai": OPENAI})

    with pytest.raises(UpstreamInputTooLong) as caught:
        await built("short", PAGE, "other", model=SMALL)

    assert caught.value.param == "input[1]"
    assert "8192 tokens" in caught.value.message


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (
            {"fast": ModelSettings(model=SMALL, on_overlong="mean")},
            r'models."fast".on_overlong: an alias .* models."openai/text-embedding-3-small"',
        ),
        ({"nobody/knows": ModelSettings(on_overlong="mean")}, "set either model, or dimensions"),
    ],
)
def test_a_policy_for_no_model(models, told):
    """What becomes of long inputs is said of a model, not of an alias or of nothing."""
    with pytest.raises(SettingsError, match=told):
        Built(models=models)


def balance_of(gateway, model):
    """The layer that chooses the account."""
    layer = gateway.models[model].top
    while not isinstance(layer, Balance):
        layer = layer.inner
    return layer


NOMIC = "nomic/nomic-embed-text-v1.5"
EMBED_4 = "cohere/embed-v4.0"
PROVIDERS = {
    "cohere": COHERE,
    "bedrock": AccountSettings(
        region="us-east-1", access_key_id="id", secret_access_key=Secret("s")
    ),
    "nomic": AccountSettings(api_key=Secret("n")),
    "fireworks": AccountSettings(api_key=Secret("f")),
}


@pytest.mark.parametrize(
    ("fields", "only", "chosen"),
    [
        ({"model": EMBED_4}, (), {"cohere", "bedrock"}),
        ({"model": EMBED_4, "input_type": "query"}, (), {"cohere", "bedrock"}),
        ({"model": EMBED_4, "options": b'{"cohere":{"priority":1}}'}, (), {"cohere"}),
        ({"model": EMBED_4, "options": b'{"cohere":{"priority":1}}'}, ("bedrock",), {"bedrock"}),
        (
            {"model": EMBED_4, "options": b'{"bedrock":{"truncate":"END"},"cohere":{}}'},
            (),
            {"bedrock"},
        ),
        ({"model": NOMIC, "input_type": "document"}, (), {"nomic", "fireworks"}),
        ({"model": NOMIC, "input_type": "clustering"}, (), {"nomic"}),
        ({"model": NOMIC, "input_type": "clustering"}, ("fireworks",), {"fireworks"}),
    ],
)
def test_words_go_to_whom_they_are_for(fields, only, chosen):
    """Options for one provider, and an input type that is one provider's word, are not sent to an
    account of another, which would make another vector; unless the caller insists."""
    balance = balance_of(Built(providers=PROVIDERS).gateway, fields["model"])

    found = {balance.choose(make_request(**fields, only=only)) for _ in range(50)}

    assert found == chosen


async def test_a_hedged_model_is_asked_twice_when_it_is_slow():
    """Where the operator wants it, and once it is known how long answers take, a slow one is asked
    for at another account too; the answer tells both, and nothing is left over."""
    silent = asyncio.Event()

    async def answer_but(request):
        if b"slow" in request.body and b"sk-main" in str(request.headers).encode():
            await silent.wait()
        return answer(request)

    account = {"kind": "openai"}
    built = Built(
        answer_but,
        providers={
            "main": AccountSettings(**account, api_key=Secret("sk-main")),
            "spare": AccountSettings(**account, api_key=Secret("sk-spare")),
        },
        models={SMALL: ModelSettings(hedge=True)},
    )
    for number in range(20):
        await built(f"text {number}", model=SMALL, only=("main",))

    response = await built("slow", model=SMALL, order=("main",))

    assert [(a.provider, a.is_success) for a in response.attempts] == [
        ("main", False),
        ("spare", True),
    ]
    assert response.attempts[0].error == "superseded"
    stack = built.gateway.models[SMALL]
    assert [one.in_flight for one in stack.health.values()] == [0, 0]
    assert [one.headroom.in_flight for one in stack.limits.values()] == [0, 0]


def test_how_long_what_waits_takes():
    """The accounts of a model work side by side, each as much as it can: what waits takes as long
    as the slowest of them with its share."""
    accounts = {
        "openai": AccountSettings(api_key=Secret("sk-a"), concurrency=2),
        "other": AccountSettings(
            kind="openai", api_key=Secret("sk-b"), concurrency=6, tokens_per_minute=600_000
        ),
    }
    batch = Built(providers=accounts).gateway.models[SMALL].batch
    assert batch.drain_s(8, 0) == 1.0  # a second a call, until one was measured
    assert batch.drain_s(80, 0) == 10.0
    assert batch.drain_s(8, 800_000) == 600_000 / 10_000 - 6  # a tenth of it goes at once


async def test_scopes():
    """By default the keys of one project share what is known; nobody else does."""
    built = Built(providers={"openai": OPENAI})
    keyed = Built(providers={"openai": OPENAI}, cache=CacheSettings(scope="key"))
    shared = Built(providers={"openai": OPENAI}, cache=CacheSettings(scope="global"))
    for gateway, calls in ((built, 2), (keyed, 3), (shared, 1)):
        for key_id, project in (("k1", "red"), ("k2", "red"), ("k3", "blue")):
            grant = make_request().call.grant
            grant = type(grant)(key_id=key_id, name=key_id, project=project)
            await gateway("a", model=SMALL, grant=grant)
        assert len(gateway.send.requests) == calls
