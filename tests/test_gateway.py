"""The assembled stack, with a scripted transport: the order of the layers, seen from outside."""

import threading

import orjson
import pytest

from embedway.accounts import served_models
from embedway.catalog_file import load_catalog
from embedway.clock import SystemClock
from embedway.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotAllowed,
    ModelNotFound,
    UnsupportedDimensions,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.gateway import LOCAL_MODEL, build_gateway, list_price
from embedway.provider import HttpResponse, TransportError
from embedway.runtime import open_runtime
from embedway.secret import Secret
from embedway.settings import AccountSettings, LocalSettings, ModelSettings, Settings
from embedway.store.database import StoreError
from embedway.wrong_settings import SettingsError
from tests.fakes import (
    FakeClock,
    MemoryBook,
    ScriptedEmbedder,
    ScriptedSend,
    answer_openai,
    json_response,
    make_call,
    make_grant,
    make_request,
    make_vector,
    numbers,
    openai_body,
)

CATALOG = load_catalog()
SMALL = "openai/text-embedding-3-small"
LARGE = "openai/text-embedding-3-large"
OPENAI = AccountSettings(api_key=Secret("sk-operator"))
DOWN = HttpResponse(503, {}, b"{}")
RESET_AFTER_7_S = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7s"}


def answer(request):
    """OpenAI's answer at the model's own width."""
    body = orjson.loads(request.body)
    width = body.get("dimensions", 3072 if "large" in body["model"] else 1536)
    inputs = body["input"]
    return json_response(
        openai_body(*(make_vector(str(text), dimensions=width) for text in inputs), tokens=10)
    )


class Built:
    """A gateway with all that it stands on, in the test's hands."""

    def __init__(self, *answers, local=True, **settings):
        self.send = ScriptedSend(*(answers or (answer,)))
        self.local = ScriptedEmbedder(dimensions=256) if local else None
        self.book, self.counted, self.clock = MemoryBook(), MemoryBook(), FakeClock()
        self.gateway = build_gateway(
            settings=Settings(home="/nowhere", **settings),
            catalog=CATALOG,
            local=self.local,
            send=self.send,
            book=self.book,
            count=self.counted,
            clock=self.clock,
            chance=lambda: 0.0,
        )

    async def __call__(self, *inputs, **fields):
        """Ask for some inputs."""
        return await self.gateway(make_request(*inputs, **fields))


def test_order_of_layers():
    """The repr shows the layers in the order of the architecture, and no credential."""
    shown = repr(Built(providers={"openai": OPENAI}, local=False).gateway)
    order = ["Gateway", "Meter", "Admit", "Deadline", "Fallback", "Route", "Retry", "Balance"]
    order += ["Split", "Limit", "Upstream"]
    rest = shown
    for layer in order:
        assert f"{layer}(" in rest, f"{layer} does not stand below those before it"
        rest = rest.partition(f"{layer}(")[2]
    assert "sk-operator" not in shown


async def test_local_model():
    """Without any account the local model serves, under each of its names, and costs nothing."""
    built = Built()
    for name in (LOCAL_MODEL, "wordllama-256"):
        response = await built("a", model=name)
        assert response.params.model == LOCAL_MODEL
    assert [request.params.dimensions for request in built.local.requests] == [256, 256]
    assert [(line.model, line.cost, line.status) for line in built.book.lines] == [
        (LOCAL_MODEL, 0, 200)
    ] * 2
    assert built.counted.lines == built.book.lines


async def test_upstream():
    """An account serves the catalogue's models with its credential, and the ledger has what it
    cost."""
    built = Built(providers={"openai": OPENAI})
    response = await built("a", "b", model="text-embedding-3-small", dimensions=512)

    assert [len(numbers(e.vector)) for e in response.embeddings] == [512, 512]
    (request,) = built.send.requests
    assert request.url == "https://api.openai.com/v1/embeddings"
    assert request.headers["authorization"] == "Bearer sk-operator"
    assert built.send.bodies[0]["model"] == "text-embedding-3-small"
    (line,) = built.book.lines
    assert (line.model, line.provider, line.tokens, line.cost) == (SMALL, "openai", 10, 200_000)


async def test_refusals_are_written_down():
    """A key that may not use the model is refused before anybody is asked, and the refusal stands
    in the ledger."""
    built = Built(providers={"openai": OPENAI})
    grant = make_grant(models=(LOCAL_MODEL,))

    with pytest.raises(ModelNotAllowed):
        await built("a", model=SMALL, grant=grant)

    assert built.send.requests == []
    assert [(line.status, line.code) for line in built.book.lines] == [(403, "model_not_allowed")]


async def test_one_clock_for_the_chain():
    """A request whose time is over ends so, whatever fallbacks it has left."""
    built = Built(providers={"openai": OPENAI})

    with pytest.raises(DeadlineExceeded):
        await built("a", model=SMALL, deadline=999.0, fallbacks=(LARGE, LARGE))

    assert built.send.requests == []
    assert [line.status for line in built.book.lines] == [504]


async def test_fallback_is_one_whole_request():
    """When the asked model fails, all inputs go to the other one; the answer and the ledger name
    it, and the failed attempts are told: one retry, for the other model has the third attempt."""
    built = Built(DOWN, providers={"openai": OPENAI})
    response = await built("a", "b", model=SMALL, fallbacks=(LOCAL_MODEL,))

    assert response.params.model == LOCAL_MODEL
    assert [request.inputs for request in built.local.requests] == [("a", "b")]
    assert {len(e.vector) for e in response.embeddings} == {4 * 256}
    assert [(a.model, a.is_success) for a in response.attempts] == [(SMALL, False)] * 2
    assert [line.model for line in built.book.lines] == [LOCAL_MODEL]


async def test_no_fallback_unless_asked():
    """When the asked model fails, nobody else is asked behind the caller's back."""
    built = Built(DOWN, providers={"openai": OPENAI})

    with pytest.raises(UpstreamUnavailable):
        await built("a", model=SMALL)

    assert built.local.requests == []


async def test_wrong_parameters_reach_nobody():
    """Dimensions that the model does not have are refused here."""
    built = Built(providers={"openai": OPENAI})

    with pytest.raises(UnsupportedDimensions):
        await built("a", model=SMALL, dimensions=5000)
    with pytest.raises(InvalidRequest, match="No provider among nobody"):
        await built("a", model=SMALL, only=("nobody",))

    assert built.send.requests == []


TWO = {
    "main": AccountSettings(kind="openai", api_key=Secret("sk-main")),
    "spare": AccountSettings(kind="openai", api_key=Secret("sk-spare")),
}


def by_account(**answers):
    """Answers by the account whose credential is sent; a text for the other ones."""

    def choose(request):
        name = request.headers["authorization"].removeprefix("Bearer sk-")
        return answers[name](request) if name in answers else answer(request)

    return choose


def asked(built):
    """The accounts that were asked, in turn."""
    return [r.headers["authorization"].removeprefix("Bearer sk-") for r in built.send.requests]


async def test_two_accounts():
    """Any account of the model serves, unless the caller says which."""
    built = Built(providers=TWO)
    await built("a", model=SMALL)
    await built("a", model=SMALL, only=("spare",))
    await built("a", model=SMALL, order=("spare",))

    assert asked(built) == ["main", "spare", "spare"]
    assert built.gateway.accounts[SMALL] == ("main", "spare")


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 529])
async def test_a_failing_account_is_made_up_for(status):
    """What one account cannot do another one does at once; the answer tells both attempts, and
    the caller pays for one."""
    failing = by_account(main=lambda _: HttpResponse(status, {"retry-after": "30"}, b"{}"))
    built = Built(failing, providers=TWO)

    response = await built("a", "b", model=SMALL)

    assert asked(built) == ["main", "spare"]
    assert [(a.provider, a.is_success) for a in response.attempts] == [
        ("main", False),
        ("spare", True),
    ]
    assert built.clock.slept == []
    assert [(line.status, line.cost) for line in built.book.lines] == [(200, 200_000)]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_refused_request_goes_nowhere_else(status):
    """A request that a provider refuses is not taken to another account, and its status says that
    the caller must change something."""
    refusing = by_account(main=lambda _: HttpResponse(status, {}, b"{}"))
    built = Built(refusing, providers=TWO)

    with pytest.raises(UpstreamRejected):
        await built("a", model=SMALL)

    assert asked(built) == ["main"]
    assert built.book.lines[0].status in (400, 404)


async def test_an_account_that_is_silent_is_given_up_in_time():
    """An account that never answers gets half of the time, so that another one can serve; an
    account alone gets nearly all of it."""
    silent = TransportError("no answer", was_sent=True, is_timeout=True)
    built = Built(silent, answer, answer, providers=TWO)

    response = await built("a", model=SMALL)
    await built("a", model=SMALL, only=("spare",))

    assert asked(built) == ["main", "spare", "spare"]
    assert [timeout_s for timeout_s, _ in built.send.limits] == [30.0, 59.97, 59.97]
    assert [a.error for a in response.attempts] == ["provider_timeout", None]


@pytest.mark.parametrize(
    "headers", [{"retry-after": "7"}, {"retry-after-ms": "7000"}, RESET_AFTER_7_S]
)
async def test_an_account_alone_is_asked_when_it_says(headers):
    """A full account is asked again when it said it would have room, in whichever header."""
    built = Built(HttpResponse(429, headers, b"{}"), answer, providers={"openai": OPENAI})

    await built("a", model=SMALL)

    assert built.clock.slept == [7.125]


async def test_a_time_beyond_the_deadline_is_told_at_once():
    """If a full account has room only after the caller's time he is told when, without waiting."""
    full = HttpResponse(429, {"retry-after": "90"}, b"{}")
    built = Built(full, providers={"openai": OPENAI})

    with pytest.raises(UpstreamRateLimited) as caught:
        await built("a", model=SMALL)

    assert caught.value.retry_after_s == 90
    assert (len(built.send.requests), built.clock.slept) == (1, [])


async def test_a_fallback_that_cannot_honour_the_dimensions():
    """A model that does not have the dimensions asked for is passed over, and that is told; the
    vectors have the length that was asked for."""
    down = by_account(operator=lambda r: DOWN if b"small" in r.body else answer(r))
    built = Built(down, providers={"openai": OPENAI})

    response = await built("a", model=SMALL, dimensions=1000, fallbacks=(LOCAL_MODEL, LARGE))

    assert [(a.model, a.error) for a in response.attempts] == [
        (SMALL, "provider_unavailable"),
        (LOCAL_MODEL, "unsupported_dimensions"),
        (LARGE, None),
    ]
    assert [len(numbers(e.vector)) for e in response.embeddings] == [1000]
    assert built.local.requests == []


async def test_a_bad_credential_takes_its_account_out():
    """An account whose credential is refused is asked once and left alone; its health says why."""
    refusing = by_account(main=lambda _: HttpResponse(401, {}, b"{}"))
    built = Built(refusing, providers=TWO)

    for number in range(5):
        await built(f"text {number}", model=SMALL)

    assert asked(built) == ["main"] + ["spare"] * 5
    health = built.gateway.models[SMALL].health["main"]
    assert health.state == "open"
    assert isinstance(health.last_error, UpstreamUnauthorized)


async def test_a_callers_bad_credential_takes_nothing_out():
    """A caller's own credential that is refused does not take the account from the others."""
    refusing = by_account(his=lambda _: HttpResponse(401, {}, b"{}"))
    built = Built(refusing, providers={"openai": OPENAI})
    for _ in range(5):
        with pytest.raises(UpstreamUnauthorized):
            await built("a", model=SMALL, credentials={"openai": Secret("sk-his")})

    await built("a", model=SMALL)

    assert asked(built) == ["his"] * 5 + ["operator"]


async def test_aliases():
    """An operator's alias is its model in all respects."""
    built = Built(
        providers={"openai": OPENAI}, models={"fast": ModelSettings(model="text-embedding-3-small")}
    )
    response = await built("a", model="fast", grant=make_grant(models=(SMALL,)))

    assert response.params.model == SMALL
    assert [line.model for line in built.book.lines] == [SMALL]


async def test_token_ids():
    """Token ids go on to OpenAI as they are, and become text for the local model."""
    built = Built(providers={"openai": OPENAI})
    await built((9906, 11, 1917), model=SMALL)
    await built((9906, 11, 1917), model=LOCAL_MODEL)

    assert built.send.bodies[0]["input"] == [[9906, 11, 1917]]
    assert built.local.requests[0].inputs == ("Hello, world",)


async def test_token_ids_for_mixed_accounts():
    """Where one of the accounts takes text only, ids become text for all of them."""
    built = Built(
        providers={
            "openai": OPENAI,
            "rack": AccountSettings(
                kind="openai-compatible", base_url="https://rack.example/v1", models={SMALL: "s"}
            ),
        }
    )
    await built((9906,), model=SMALL)

    assert built.send.bodies[0]["input"] == ["Hello"]


async def test_local_model_is_off():
    """Without the local model its name is refused, with advice."""
    built = Built(local=False)

    with pytest.raises(ModelNotFound, match=f"serves {LOCAL_MODEL}"):
        await built("a", model=LOCAL_MODEL)


async def test_large_requests_are_split():
    """An account gets no more inputs at once than the operator says, and the answer is in order."""
    account = AccountSettings(api_key=Secret("k"), max_inputs=2)
    built = Built(providers={"openai": account})
    texts = [f"text {i}" for i in range(5)]

    response = await built(*texts, model=SMALL)

    assert sorted(len(body["input"]) for body in built.send.bodies) == [1, 2, 2]
    expected = [make_vector(text, dimensions=1536) for text in texts]
    assert [e.vector for e in response.embeddings] == expected


@pytest.mark.parametrize(
    ("account", "told"),
    [
        (AccountSettings(kind="opneai"), "there is no provider 'opneai'.*did you mean openai"),
        (AccountSettings(), "there is no provider 'mine'"),
        (AccountSettings(kind="openai-compatible"), "base_url must be set"),
        (
            AccountSettings(kind="openai-compatible", base_url="https://x.example"),
            "models must say which models",
        ),
        (AccountSettings(kind="openai", base_url="http://x.example/v1"), "private = true"),
        (AccountSettings(kind="openai", base_url="https://127.0.0.1/v1"), "private = true"),
        (AccountSettings(kind="openai", base_url="https://[::1]/v1"), "private = true"),
        (AccountSettings(kind="openai", base_url="https://localhost/v1"), "private = true"),
        (AccountSettings(kind="openai", base_url="https://169.254.169.254"), "private = true"),
        (AccountSettings(kind="openai", base_url="ftp://x.example"), "like https://host/path"),
        (AccountSettings(kind="openai", base_url="x.example"), "like https://host/path"),
        (AccountSettings(kind="openai", base_url="https://u:p@x.example"), "like https://host"),
        (AccountSettings(kind="openai", models={"nothing": "x"}), "'nothing' is no model"),
        (
            AccountSettings(kind="openai", models={"text-embedding-3-smal": "x"}),
            "did you mean text-embedding-3-small",
        ),
    ],
)
def test_wrong_accounts(account, told):
    """An account that makes no sense stops the start, and is named."""
    with pytest.raises(SettingsError, match=f"^providers.mine.*{told}"):
        Built(providers={"mine": account})


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ({"fast": ModelSettings(model="openai/nothing")}, "is no model"),
        ({SMALL: ModelSettings(model=LARGE)}, "is the name of a model"),
        ({"fast": ModelSettings()}, "set either model, or dimensions"),
        ({"fast": ModelSettings(model=SMALL, dimensions=3)}, "set either model, or dimensions"),
        ({"mine": ModelSettings(dimensions=3)}, "is named like"),
        ({SMALL: ModelSettings(dimensions=3)}, "the catalogue has a model of that name"),
        ({"rack/m": ModelSettings(dimensions=3)}, "no account serves it"),
        (
            {"rack/m": ModelSettings(dimensions=3, price_usd_per_million_tokens="cheap")},
            "price_usd_per_million_tokens: 'cheap'",
        ),
    ],
)
def test_wrong_names(models, told):
    """A name of the operator's own that makes no sense stops the start."""
    with pytest.raises(SettingsError, match=told):
        Built(models=models)


async def test_own_model():
    """A model that no catalogue knows is served by the account that has it, at the operator's
    price, and cut where he says so."""
    built = Built(
        answer_openai,
        providers={
            "rack": AccountSettings(
                kind="vllm",
                base_url="http://10.0.0.7:8000/v1/",
                private=True,
                models={"rack/m": "BAAI/m"},
            )
        },
        models={
            "rack/m": ModelSettings(
                dimensions=8, matryoshka=True, price_usd_per_million_tokens="0.5"
            )
        },
    )
    whole = await built("a", model="rack/m")
    assert built.send.requests[0].url == "http://10.0.0.7:8000/v1/embeddings"
    assert built.send.bodies[0]["model"] == "BAAI/m"
    assert len(whole.embeddings[0].vector) == 32
    assert built.book.lines[0].cost == 4 * 500_000

    shorter = await built("a", model="rack/m", dimensions=4)
    assert len(shorter.embeddings[0].vector) == 16


@pytest.mark.parametrize("model", CATALOG.models, ids=lambda model: model.id)
def test_list_prices(model):
    """A model's list price is that of its first live offer that has one."""
    known = [
        offer.price_picodollars_per_token
        for offer in model.live_offers
        if offer.price_picodollars_per_token is not None
    ]

    assert list_price(model) == (known[0] if known else 0)


async def test_runtime(tmp_path):
    """Everything is opened together, works, and leaves no thread behind."""
    before = set(threading.enumerate())
    async with open_runtime(Settings(home=str(tmp_path))) as runtime:
        request = make_request("a text", model=LOCAL_MODEL, deadline=runtime.clock.monotonic() + 60)
        response = await runtime.gateway(request)
        assert len(response.embeddings[0].vector) == 1024
        assert runtime.book.find(request.call.id).tokens == response.embeddings[0].tokens
        assert b"embedway_requests_total" in runtime.metrics.render()
        assert runtime.keys.all() == ()
        assert len(runtime.ids.new()) == 26
        assert isinstance(runtime.clock, SystemClock)

    mine = {thread for thread in threading.enumerate() if thread.name.startswith("embedway")}
    assert not mine - before


async def test_runtime_without_local_model(tmp_path):
    """Where the local model is off, it is not loaded, and the given transport is used."""
    settings = Settings(
        home=str(tmp_path), local=LocalSettings(enabled=False), providers={"openai": OPENAI}
    )
    send, clock = ScriptedSend(answer), FakeClock()
    async with open_runtime(settings, clock=clock, send=send) as runtime:
        await runtime.gateway(make_request("a", model=SMALL, call=make_call()))
        assert LOCAL_MODEL not in runtime.gateway.accounts
    assert len(send.requests) == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"models": {"fast": ModelSettings(model="nothing")}}, SettingsError),
        ({"home": "embedway.db"}, StoreError),
    ],
)
async def test_runtime_that_cannot_start(tmp_path, changes, error):
    """What was opened before something failed is closed again."""
    (tmp_path / "embedway.db").mkdir()
    home = tmp_path if "home" in changes else tmp_path / "fresh"
    changes = {"home": str(home), "models": changes.get("models", {})}
    before = set(threading.enumerate())

    with pytest.raises(error):
        async with open_runtime(Settings(**changes)):
            raise AssertionError("it must not start")

    mine = {thread for thread in threading.enumerate() if thread.name.startswith("embedway")}
    assert not mine - before


def served(**accounts):
    """The deployments of some accounts by model."""
    found = served_models(Settings(home="/nowhere", providers=accounts), CATALOG)
    return {one.deployment.model: one.deployment for one in found}


def test_every_model_of_an_account():
    """An account without a list of models serves what the catalogue says its provider offers and
    has not shut down, under the provider's names, limits and prices."""
    deployments = served(openai=OPENAI)
    offered = {
        model.id: offer
        for model in CATALOG.models
        if (offer := model.offer("openai")) and offer.upstream_id and not offer.is_shut_down
    }

    assert deployments.keys() == offered.keys()
    for name, offer in offered.items():
        assert deployments[name].upstream_model == offer.upstream_id
        assert deployments[name].price == offer.price_picodollars_per_token
        assert deployments[name].max_inputs == offer.max_inputs


def test_bedrock():
    """A Bedrock account's region stands in its address, and its key signs."""
    account = AccountSettings(
        region="eu-west-1",
        access_key_id="AKID",
        secret_access_key=Secret("s"),
        session_token=Secret("t"),
    )
    deployment = next(iter(served(bedrock=account).values()))

    assert "eu-west-1" in deployment.base_url
    assert deployment.access_key.id == "AKID"
    assert deployment.access_key.session_token == Secret("t")


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("us-central1", "https://us-central1-aiplatform.googleapis.com"),
        ("global", "https://aiplatform.googleapis.com"),
    ],
)
def test_vertex(location, host):
    """A Vertex account's location stands in its address, but for the global one."""
    account = AccountSettings(location=location, project="p", access_token=Secret("t"))
    deployment = next(iter(served(vertex=account).values()))

    assert deployment.base_url.startswith(host)
    assert (deployment.project, deployment.location) == ("p", location)
    assert deployment.credential == Secret("t")


def test_service_account(tmp_path):
    """A service account's file is read when its token is needed, not before."""
    account = AccountSettings(
        location="us-central1", project="p", credentials_file=str(tmp_path / "none.json")
    )

    assert "Upstream(" in repr(Built(providers={"vertex": account}).gateway)


@pytest.mark.parametrize(
    ("accounts", "told"),
    [
        ({"bedrock": AccountSettings()}, "providers.bedrock.region must be set"),
        ({"vertex": AccountSettings(project="p")}, "providers.vertex.location must be set"),
        (
            {"bedrock": AccountSettings(region="r", secret_access_key=Secret("s"))},
            "providers.bedrock.access_key_id must be set",
        ),
    ],
)
def test_incomplete_accounts(accounts, told):
    """What a provider cannot do without is asked for at start."""
    with pytest.raises(SettingsError, match=told):
        Built(providers=accounts)


def test_words_before_a_text():
    """A model that reads words before a text gets them from a server of one's own too; one that
    is told in a field no such server has is refused at start, with a way round."""
    rack = {"kind": "ollama", "private": True, "base_url": "http://127.0.0.1:11434"}
    nomic = AccountSettings(**rack, models={"nomic/nomic-embed-text-v1.5": "nomic-embed-text"})
    cohere = AccountSettings(**rack, models={"cohere/embed-v4.0": "embed"})

    (deployment,) = served(rack=nomic).values()
    assert deployment.input_type.param is None
    assert deployment.input_type.query == "search_query: "
    with pytest.raises(SettingsError, match="under a name of your own"):
        served(rack=cohere)


def test_price_of_a_passed_on_model():
    """A model of the catalogue behind a server of one's own costs nothing; behind another gateway
    it costs what its creator takes."""
    own = AccountSettings(base_url="https://x.example", models={SMALL: "s"})
    through = AccountSettings(base_url="https://x.example", models={SMALL: "s"}, kind="vercel")

    assert served(vllm=own)[SMALL].price == 0
    assert served(other=through)[SMALL].price == list_price(CATALOG.find(SMALL).model)
