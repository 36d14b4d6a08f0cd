"""The gateway as its own provider, in process: the client half of the dialect and the server half
check each other."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import orjson
import pytest
import pytest_asyncio

from embedway.accounts import served_models
from embedway.errors import (
    InputTooLong,
    InvalidRequest,
    Overloaded,
    RateLimited,
    UnsupportedDimensions,
    UpstreamInputTooLong,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.ids import Ids
from embedway.provider import HttpResponse
from embedway.runtime import open_runtime
from embedway.secret import Secret
from embedway.server.app import App
from embedway.settings import AccountSettings, LocalSettings, Settings
from embedway.types import EmbedRequest
from embedway.vectors import as_array
from tests.asgi import call
from tests.fakes import FakeClock, ScriptedEmbedder, make_call, make_params

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOCAL = "local/wordllama-256"
TEXTS = ("Hello, world!", "Ein Hund läuft 🐕", " ", "日本語", "a" * 5000, "Hello, world!")


class ToApp:
    """A transport that calls an ASGI application in process."""

    def __init__(self, app):
        self.app = app
        self.requests = []

    async def __call__(self, request, /, *, timeout_s, max_bytes):
        """Hand the request to the application."""
        self.requests.append(request)
        path = request.url.removeprefix("http://127.0.0.1:1536")
        answer = await call(self.app, request.method, path, request.headers, request.body)
        assert len(answer.body) <= max_bytes
        return HttpResponse(answer.status, answer.headers, answer.body)


class Pair:
    """The inner gateway, with the local model, and the outer one, whose only account it is."""

    def __init__(self, app, inner, outer, send):
        self.app, self.inner, self.outer, self.send = app, inner, outer, send
        self.ids = Ids(outer.clock)

    async def ask(self, runtime, *inputs, model=LOCAL, **changes):
        """Ask one of the two gateways."""
        params = {name: changes.pop(name) for name in ("dimensions", "input_type") & changes.keys()}
        request = EmbedRequest(
            params=make_params(model, **params),
            inputs=inputs,
            call=make_call(
                **{
                    "id": self.ids.new(),
                    "deadline": runtime.clock.monotonic() + 60,
                    **changes,
                }
            ),
        )
        return await runtime.gateway(request)

    async def through_one(self, *inputs, **fields):
        """Ask the inner one."""
        return await self.ask(self.inner, *inputs, **fields)

    async def through_two(self, *inputs, **fields):
        """Ask the outer one, which asks the inner one."""
        return await self.ask(self.outer, *inputs, **fields)

    @property
    def hop(self):
        """The outer gateway's provider and deployment for the local model."""
        served = served_models(self.outer.settings, self.outer.catalog)
        return next((s.provider, s.deployment) for s in served if s.deployment.model == LOCAL)


@asynccontextmanager
async def open_pair(home, api_key=None):
    """Both gateways; the inner one's clock is moved by hand."""
    settings, clock = Settings(home=str(home / "inner")), FakeClock()
    app = App(lambda: open_runtime(settings, clock=clock), is_loopback_only=True)
    inner = await app.start()
    account = AccountSettings(
        kind="openai-compatible",
        base_url="http://127.0.0.1:1536/v1",
        private=True,
        api_key=api_key,
        models={LOCAL: LOCAL, "openai/text-embedding-3-small": "text-embedding-3-small"},
    )
    settings = Settings(
        home=str(home / "outer"),
        local=LocalSettings(enabled=False),
        providers={"hop": account},
    )
    send = ToApp(app)
    try:
        async with open_runtime(settings, send=send) as outer:
            yield Pair(app, inner, outer, send)
    finally:
        await app.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory):
    """One pair for all tests that leave no traces."""
    async with open_pair(tmp_path_factory.mktemp("itself")) as pair:
        yield pair


@pytest.mark.parametrize("dimensions", [None, 64, 128, 256])
async def test_vectors(pair, dimensions):
    """Vectors through two gateways equal those through one, in order, with the same tokens."""
    one = await pair.through_one(*TEXTS, dimensions=dimensions)
    two = await pair.through_two(*TEXTS, dimensions=dimensions)

    assert len(two.embeddings) == len(TEXTS)
    for ours, theirs in zip(one.embeddings, two.embeddings, strict=True):
        assert len(theirs.vector) == 4 * (dimensions or 256)
        assert np.abs(as_array(ours.vector) - as_array(theirs.vector)).max() < 1e-6
    assert sum(e.tokens for e in one.embeddings) == sum(e.tokens for e in two.embeddings)
    assert not any(e.is_estimated for e in two.embeddings)


async def test_bit_for_bit(pair):
    """At its full width a vector comes through bit for bit."""
    one, two = await pair.through_one(*TEXTS), await pair.through_two(*TEXTS)

    assert [e.vector for e in one.embeddings] == [e.vector for e in two.embeddings]


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_both_forms(pair, form):
    """The adapter reads the same bytes from the server's floats as from its base64."""
    body = {"model": LOCAL, "input": list(TEXTS), "encoding_format": form}
    answer = await call(pair.app, "POST", "/v1/embeddings", (), body)
    provider, deployment = pair.hop
    request = EmbedRequest(params=make_params(LOCAL), inputs=TEXTS, call=make_call())

    parsed = provider.parse(request, deployment, HttpResponse(200, {}, answer.body))

    one = await pair.through_one(*TEXTS)
    assert [e.vector for e in parsed] == [e.vector for e in one.embeddings]


async def test_asks_for_base64(pair):
    """What goes between the two is OpenAI's dialect with base64."""
    await pair.through_two("a", user="u-1")
    body = orjson.loads(pair.send.requests[-1].body)

    assert body == {"model": LOCAL, "input": ["a"], "encoding_format": "base64", "user": "u-1"}


async def test_token_ids(pair):
    """Token ids mean the same text through two gateways as through one."""
    one = await pair.through_one((9906, 11, 1917, 0))
    two = await pair.through_two((9906, 11, 1917, 0))
    text = await pair.through_one("Hello, world!")

    assert one.embeddings[0].vector == two.embeddings[0].vector == text.embeddings[0].vector


async def test_many(pair):
    """Two thousand texts and many callers at once come back in order and to the right caller."""
    texts = [f"text number {i}" for i in range(2048)]
    one, two = await asyncio.gather(pair.through_one(*texts), pair.through_two(*texts))
    assert [e.vector for e in one.embeddings] == [e.vector for e in two.embeddings]

    callers = await asyncio.gather(*(pair.through_two(text) for text in texts[:60]))
    assert [response.embeddings[0].vector for response in callers] == [
        e.vector for e in one.embeddings[:60]
    ]


async def test_errors_of_the_request(pair):
    """What the inner gateway refuses is the caller's error through the outer one, with the inner
    one's words."""
    text = "word " * 70_000
    with pytest.raises(InputTooLong):
        await pair.through_one(text)
    with pytest.raises(UpstreamRejected) as caught:
        await pair.through_two("fine", text)

    assert isinstance(caught.value, UpstreamInputTooLong)
    assert (caught.value.status, caught.value.code) == (400, "token_limit_exceeded")
    assert "input[1]" in caught.value.message


async def test_errors_that_need_no_hop(pair):
    """What is wrong anywhere is refused by the first gateway, without asking the second."""
    count = len(pair.send.requests)
    with pytest.raises(UnsupportedDimensions):
        await pair.through_two("a", dimensions=100)
    with pytest.raises(InvalidRequest, match="input_type"):
        await pair.through_two("a", input_type="RETRIEVAL_QUERY")

    assert len(pair.send.requests) == count


async def test_unserved_model(pair):
    """A model that the inner gateway does not serve is told as that, with its advice."""
    with pytest.raises(UpstreamModelNotFound) as caught:
        await pair.through_two("a", model="openai/text-embedding-3-small")

    assert "OPENAI_API_KEY" in caught.value.message


@pytest.mark.parametrize(
    ("error", "kind", "retry_after_s"),
    [
        (RateLimited("slow down", retry_after_s=7), UpstreamRateLimited, 7),
        (Overloaded("busy", retry_after_s=2), UpstreamUnavailable, 2),
        (ZeroDivisionError("a bug"), UpstreamUnavailable, None),
    ],
    ids=["rate", "overload", "bug"],
)
async def test_errors_of_the_gateway(tmp_path, error, kind, retry_after_s):
    """An inner gateway's limit, overload or bug is an upstream's limit or failure to the outer
    one, with the time to wait."""
    async with open_pair(tmp_path) as pair:
        object.__setattr__(pair.inner.gateway, "stack", ScriptedEmbedder([error]))
        with pytest.raises(kind) as caught:
            await pair.through_two("a", cache="skip", retries=0)

    assert caught.value.retry_after_s == retry_after_s
    assert "a bug" not in caught.value.message


async def test_keys(tmp_path):
    """With a key made, the outer gateway needs it; the refusal is the operator's, not the
    caller's."""
    async with open_pair(tmp_path) as pair:
        _, secret = pair.inner.keys.create("outer")
        pair.inner.clock.advance(2)
        with pytest.raises(UpstreamUnauthorized) as caught:
            await pair.through_two("a")
        assert caught.value.status == 502

        response = await pair.through_two("a", credentials={"openai-compatible": secret})
        assert response.attempts[-1].credential_type == "byok"

    async with open_pair(tmp_path, api_key=Secret(secret.reveal())) as pair:
        assert len((await pair.through_two("a")).embeddings) == 1


async def test_two_books(pair):
    """Each gateway writes its own line for a request that went through both."""
    response = await pair.through_two("a", id="OUTERID", cache="skip")
    line = pair.outer.book.find("OUTERID")
    inner_total = pair.inner.metrics.render().decode()

    assert (line.provider, line.tokens) == ("hop", response.embeddings[0].tokens)
    assert 'embedway_requests_total{model="local/wordllama-256",provider="local"' in inner_total
