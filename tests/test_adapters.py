"""All adapters, whole: a request through every layer to the fake provider and back.

Each vector of the fake says which text, model, dimensions and task it is of, and the fake keeps
its own bill; so whatever an adapter gets wrong shows. A provider that the fake has no shape for
fails here.
"""

from __future__ import annotations

import asyncio
import base64
import re
from functools import cache
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from embedway import errors
from embedway.catalog import Model
from embedway.catalog_file import load_catalog
from embedway.errors import MalformedResponse
from embedway.providers import PROVIDERS
from embedway.server.embeddings import Embeddings
from embedway.server.messages import Incoming
from embedway.settings import ServerSettings
from embedway.transport import Transport
from embedway.types import EmbedRequest, Grant
from tests.fake_provider import faults
from tests.fake_provider.bench import (
    Bench,
    Wanted,
    check_books,
    check_vectors,
    make_bench,
    model_of,
    true_vectors,
)
from tests.fake_provider.exchange import MAX_TOKENS, NOT_GIVEN
from tests.fake_provider.payloads import WRONG_PAYLOADS, Payload, reverse
from tests.fake_provider.server import FakeProvider, cut_text, running_fake
from tests.fake_provider.shapes.all import SHAPES
from tests.fakes import make_request
from tests.texts import long_texts, varied_texts

CATALOG = load_catalog()
NO_COUNT = {"together"}
"""Providers that never say how many tokens they counted; of Google's, one model does."""

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.sampled_from(varied_texts(300)),
    st.sampled_from([text[:3000] for text in long_texts(600)]),
)


@cache
def bench(provider: str) -> Bench:
    """The bench of *provider*, without sockets."""
    fake = FakeProvider()
    return make_bench(fake, provider, fake.send)


def dimensions_of(model: Model) -> st.SearchStrategy[int]:
    """Any dimensions the model allows."""
    known = model.dimensions
    if known.minimum is None or known.maximum is None:
        return st.sampled_from(known.allowed)
    return st.integers(known.minimum, known.maximum)


@st.composite
def wanted(draw: st.DrawFn, provider: str) -> Wanted:
    """Any question that *provider* may be asked."""
    served = bench(provider)
    name = draw(st.sampled_from(sorted(served.deployments)))
    texts = draw(st.lists(TEXTS, min_size=1, max_size=5))
    texts += draw(st.lists(st.sampled_from(texts), max_size=2))
    dimensions = draw(st.none() | dimensions_of(model_of(served, name)))
    return Wanted(name, texts, dimensions, draw(st.sampled_from((None, "query", "document"))))


def check(served: Bench, asked: Wanted) -> None:
    """The whole law for one question."""
    request = make_request(
        *asked.texts,
        model=asked.model,
        dimensions=asked.dimensions,
        input_type=asked.input_type,
    )
    response = served.ask(request)
    expected = true_vectors(served, asked)
    vectors = [embedding.vector for embedding in response.embeddings]
    check_vectors(vectors, expected)
    check_books(served, asked, response)
    assert as_float(served, asked) == as_base64(served, asked) == vectors


def as_float(served: Bench, asked: Wanted) -> list[bytes]:
    """The vectors as the caller reads them from an answer with lists of numbers."""
    return [np.array(v, "<f4").tobytes() for v in _vectors_of(served, asked, "float")]


def as_base64(served: Bench, asked: Wanted) -> list[bytes]:
    """The vectors as the caller reads them from an answer with base64."""
    return [base64.b64decode(v) for v in _vectors_of(served, asked, "base64")]


def _vectors_of(served: Bench, asked: Wanted, form: str) -> list[Any]:
    body: dict[str, Any] = {"input": asked.texts, "model": asked.model, "encoding_format": form}
    if asked.dimensions is not None:
        body["dimensions"] = asked.dimensions
    if asked.input_type is not None:
        body["input_type"] = asked.input_type
    front = Embeddings(served.gateway, ServerSettings(), served.clock)
    incoming = Incoming(method="POST", path="/v1/embeddings", headers={}, body=orjson.dumps(body))
    answer = orjson.loads(asyncio.run(front.handle(incoming, Grant.open(), "1")).body)
    assert [item["index"] for item in answer["data"]] == list(range(len(asked.texts)))
    return [item["embedding"] for item in answer["data"]]


def test_every_provider_has_a_shape() -> None:
    """The fake answers as every provider in the table does, and as no other."""
    assert SHAPES.keys() == PROVIDERS.keys()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_vectors_and_books(provider: str) -> None:
    """Whatever is asked, each input gets its own vector in both encodings, and the tokens and the
    money are the provider's to the last one."""

    @settings(max_examples=12, deadline=None, derandomize=True, database=None)
    @given(asked=wanted(provider))
    def law(asked: Wanted) -> None:
        note(repr(asked))
        check(bench(provider), asked)

    law()


def _deployments() -> list[Any]:
    return [
        pytest.param(provider, model, id=f"{provider}-{model}")
        for provider in PROVIDERS
        if provider in SHAPES  # or else the test above says so
        for model in bench(provider).deployments
    ]


@pytest.mark.parametrize(("provider", "model"), _deployments())
def test_every_model(provider: str, model: str) -> None:
    """Every model answers with each kind of dimensions it has, to queries and documents."""
    served = bench(provider)
    known = model_of(served, model).dimensions
    least, most = (
        min(known.allowed, default=known.minimum),
        max(known.allowed, default=known.maximum),
    )
    for dimensions in {None, least, most}:
        for input_type in ("query", "document"):
            check(
                served,
                Wanted(model, ["Hello, world!", "Ein Hund läuft 🐕"], dimensions, input_type),
            )


@pytest.mark.parametrize("provider", PROVIDERS)
def test_split(provider: str) -> None:
    """More inputs than the provider takes at once come back whole and in order."""
    served = bench(provider)
    deployment = min(served.deployments.values(), key=lambda d: (d.dimensions, d.model))
    count = min(deployment.max_inputs, 200) * 2 + 1
    texts = [f"text {number}" for number in range(count)]
    asked = Wanted(deployment.model, texts, None, None)
    response = served.ask(make_request(*texts, model=deployment.model))
    check_vectors([e.vector for e in response.embeddings], true_vectors(served, asked))
    check_books(served, asked, response)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_over_sockets(provider: str) -> None:
    """The same vectors and the same bill over real connections."""
    async with running_fake() as fake, Transport() as send:
        served = make_bench(fake, provider, send)
        name = min(served.deployments)
        texts = ["a b c", "Ein Hund läuft 🐕", "a b c", " "]
        asked = Wanted(name, texts, None, "query")
        response = await served.gateway(make_request(*texts, model=name, input_type="query"))
        vectors = [embedding.vector for embedding in response.embeddings]
        check_vectors(vectors, true_vectors(served, asked))
        check_books(served, asked, response)


def _payload_cases() -> list[Any]:
    """Every wrong payload for every provider whose shape can answer so."""
    return [
        pytest.param(provider, payload, id=f"{provider}-{name}".replace(" ", "-"))
        for provider in PROVIDERS
        for name, payload in WRONG_PAYLOADS.items()
        if _can_be_answered(provider, payload)
    ]


def _question(provider: str, texts: int) -> EmbedRequest:
    """A question for the narrowest model that takes so many texts at once, or else one text."""
    deployments = bench(provider).deployments.values()
    narrow = min(deployments, key=lambda d: (-min(d.max_inputs, 3), d.dimensions))
    return make_request(
        *("one", "two", "three")[: min(texts, narrow.max_inputs)], model=narrow.model
    )


def _can_be_answered(provider: str, payload: Payload) -> bool:
    if provider not in SHAPES:
        return False  # test_every_provider_has_a_shape says so
    served, request = bench(provider), _question(provider, payload.texts)
    if len(request.inputs) < payload.texts:
        return False
    served.fake.requests.clear()
    try:
        served.ask(request)
    except errors.EmbedError:
        return False  # the tests above say so
    shape = SHAPES[provider]
    return payload.needs(shape, shape.read(served.fake.requests[0]))


@pytest.mark.parametrize(("provider", "payload"), _payload_cases())
def test_wrong_payload(provider: str, payload: Payload) -> None:
    """An answer that would give a wrong vector is refused as the provider's fault, in words that
    say what is wrong, and nothing of it is passed on."""
    served = bench(provider)
    served.fake.next(payload.fault)
    with pytest.raises(MalformedResponse) as raised:
        served.ask(_question(provider, payload.texts))
    error = raised.value
    assert (error.status, error.code, error.provider) == (
        502,
        "provider_invalid_response",
        provider,
    )
    assert re.search(payload.words, error.message), error.message
    (line,) = set(served.book.lines)
    assert (line.status, line.tokens, line.cost) == (502, 0, 0)


@pytest.mark.parametrize("provider", [name for name, shape in SHAPES.items() if shape.has_index])
def test_wrong_order(provider: str) -> None:
    """Vectors that come in a wrong order with the right indexes are put right."""
    served = bench(provider)
    request = _question(provider, 3)
    right = served.ask(request)
    served.fake.next(faults.wrong(reverse))
    assert served.ask(request).embeddings == right.embeddings


@pytest.mark.parametrize("count", [NOT_GIVEN, 0, -5, None], ids=str)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_sound_usage(provider: str, count: object) -> None:
    """Where a provider does not say what it counted, or nothing that can be true, the vectors are
    passed on and the tokens are counted where the tokenizer is here; else they are our estimate,
    which says so."""
    served, request = bench(provider), _question(provider, 3)
    right = served.ask(request)
    served.fake.next(faults.usage(count))
    found = served.ask(request).embeddings
    assert [one.vector for one in found] == [one.vector for one in right.embeddings]
    is_counted = request.params.model.startswith("openai/")
    assert all(one.is_estimated is not is_counted and one.tokens > 0 for one in found)


CUT_IN_SILENCE = {"google", "nomic", "infinity"}
"""These cannot be told to refuse a text that is too long, and do not say that they cut it."""
LONG = " ".join(["word"] * (MAX_TOKENS + 1000))


@pytest.mark.parametrize(("provider", "model"), _deployments())
def test_too_long(provider: str, model: str) -> None:
    """A text that is too long is refused as the caller's fault, and cut nowhere, but where the
    provider cannot be told so."""
    served = bench(provider)
    request = make_request(LONG, model=model)
    if provider not in CUT_IN_SILENCE:
        with pytest.raises(errors.UpstreamInputTooLong) as raised:
            served.ask(request)
        assert (raised.value.status, raised.value.code) == (400, "token_limit_exceeded")
        assert served.fake.bill.tokens == 0
        return
    (found,) = served.ask(request).embeddings
    cut = Wanted(model, [LONG], None, None)
    check_vectors([found.vector], true_vectors(served, cut, cut_text))


@pytest.mark.parametrize(
    ("provider", "model", "options"),
    [
        ("vertex", "google/text-embedding-005", {"autoTruncate": True}),
        ("vertex", "google/gemini-embedding-001", {"auto_truncate": True}),
        ("bedrock", "amazon/nova-2-multimodal-embeddings-v1", {"truncate": "END"}),
    ],
)
def test_truncation_is_told(provider: str, model: str, options: dict[str, object]) -> None:
    """Where the caller wants long texts cut, and the provider says which it has cut, so do we."""
    served = bench(provider)
    packed = orjson.dumps({provider: options})
    response = served.ask(make_request(LONG, "short", model=model, options=packed))
    assert [found.is_truncated for found in response.embeddings] == [True, False]


REFUSALS = {
    400: errors.UpstreamRejected,
    401: errors.UpstreamUnauthorized,
    403: errors.UpstreamUnauthorized,
    404: errors.UpstreamModelNotFound,
    429: errors.UpstreamRateLimited,
    500: errors.UpstreamUnavailable,
    503: errors.UpstreamUnavailable,
}


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_refusals(provider: str, status: int) -> None:
    """A refusal in the provider's own form becomes the error that its status stands for, with the
    provider's words and the wait it asks for, and costs nothing."""
    served = bench(provider)
    served.fake.next(faults.status(status, "just so", retry_after_s=7 if status == 429 else None))
    with pytest.raises(errors.UpstreamError) as raised:
        served.ask(_question(provider, 1))
    error = raised.value
    assert type(error) is REFUSALS[status]
    assert ("just so" in error.message) == (status not in (401, 403))
    assert error.retry_after_s == (7 if status == 429 else None)
    assert (served.fake.bill.tokens, served.book.lines[0].cost) == (0, 0)
