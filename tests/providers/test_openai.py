"""OpenAI's dialect: what the recordings do not show."""

import math
from urllib.parse import urlsplit

import orjson
import pytest

from embedway.catalog import InputTypeField
from embedway.errors import (
    UpstreamInputTooLong,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTooLarge,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.provider import HttpResponse
from embedway.providers import PROVIDERS
from tests.fakes import (
    json_response,
    make_deployment,
    make_request,
    make_vector,
    numbers,
    openai_body,
)

OPENAI = PROVIDERS["openai"]
A, B, C = (make_vector(text) for text in "abc")
DIALECT = ["openai", "openai-compatible", "together", "fireworks", "deepinfra", "vllm", "llama-cpp"]


def body_of(request, provider=OPENAI, **deployment):
    """The JSON that is sent."""
    return orjson.loads(provider.build(request, make_deployment(**deployment)).body)


def parse(body, *inputs, **deployment):
    """OpenAI's reading of a JSON body."""
    return OPENAI.parse(make_request(*inputs), make_deployment(**deployment), json_response(body))


def explain(status, body=b"", headers=None):
    """OpenAI's reading of an error."""
    response = HttpResponse(status, headers or {}, body)
    return OPENAI.explain(make_deployment(name="main"), response)


def test_request():
    """The request is a POST of JSON to the account's own address with its credential."""
    request = OPENAI.build(
        make_request("a", "b"), make_deployment(base_url="https://eu.example/v1")
    )

    assert (request.method, request.url) == ("POST", "https://eu.example/v1/embeddings")
    assert request.headers["authorization"] == "Bearer sk-operator-0123456789"
    assert request.headers["content-type"] == "application/json"
    assert orjson.loads(request.body) == {
        "model": "text-embedding-3-small",
        "input": ["a", "b"],
        "encoding_format": "base64",
    }


def test_without_credential():
    """An account without credential sends no Authorization header, as servers of one's own like
    it."""
    request = OPENAI.build(make_request(), make_deployment(credential=None))

    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("wanted", "takes", "sent"),
    [(4, True, 4), (8, True, None), (None, True, None), (4, False, None), (8, False, None)],
)
def test_dimensions(wanted, takes, sent):
    """Dimensions are sent where they are fewer than the full width and the provider takes them."""
    body = body_of(make_request(dimensions=wanted), takes_dimensions=takes)

    assert body.get("dimensions") == sent


def test_one_text_stays_a_list():
    """One text travels as a list of one, so that every answer has the same shape."""
    assert body_of(make_request("one"))["input"] == ["one"]
    assert body_of(make_request((1, 2)))["input"] == [[1, 2]]


@pytest.mark.parametrize("text", ["", " ", "é🦜\x00\u2028", '"\\', "\ud7ff", "x" * 10_000])
def test_texts_arrive_as_they_are(text):
    """A text is sent character for character."""
    assert body_of(make_request(text))["input"] == [text]


def test_user_and_options():
    """`user` is sent, and the provider's own options win over it; those of others are not sent."""
    assert body_of(make_request(user="u"))["user"] == "u"
    options = b'{"azure":{"user":"other"},"openai":{"user":"mine"}}'
    assert body_of(make_request(user="u", options=options))["user"] == "mine"


@pytest.mark.parametrize("name", DIALECT)
def test_look_alikes(name):
    """Every look-alike is asked at its own address for the same model and input, and none gets a
    field that says the caller's encoding."""
    provider = PROVIDERS[name]
    request = provider.build(
        make_request("a", user="u"),
        make_deployment(base_url=provider.base_url or "http://gpu.internal:8000/v1"),
    )
    body = orjson.loads(request.body)

    assert urlsplit(request.url).path.endswith("/embeddings")
    assert (body["model"], body["input"]) == ("text-embedding-3-small", ["a"])
    assert body.get("encoding_format") in (None, "base64", "float")


def test_vectors_and_cost():
    """Each input gets its vector, its share of the tokens, and what they cost, without rounding."""
    embeddings = parse(openai_body(A, B, C, tokens=10), "one text", "b", "a longer text")

    assert [e.vector for e in embeddings] == [A, B, C]
    assert sum(e.tokens for e in embeddings) == 10
    assert [e.cost for e in embeddings] == [e.tokens * 20_000 for e in embeddings]
    assert {e.source for e in embeddings} == {"openai"}
    assert not any(e.is_estimated or e.is_truncated for e in embeddings)


def test_floats():
    """Vectors that come as JSON numbers, though base64 was asked for, are the same vectors."""
    floats = parse(openai_body(numbers(A), numbers(B)), "a", "b")

    assert [e.vector for e in floats] == [A, B]


def test_floats_and_base64_mixed():
    """An answer may write each vector its own way."""
    assert [e.vector for e in parse(openai_body(numbers(A), B), "a", "b")] == [A, B]


def test_whole_numbers():
    """A number without fraction is a number."""
    assert numbers(parse(openai_body([1, 0, -2, 0.5]), "a")[0].vector) == [1.0, 0.0, -2.0, 0.5]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_order(order):
    """Vectors are put in the order of the inputs by their index."""
    body = openai_body(A, B, C)
    body["data"] = [body["data"][i] for i in order]

    assert [e.vector for e in parse(body, "a", "b", "c")] == [A, B, C]


def test_no_indexes():
    """Where no vector has an index, as with some look-alikes, the order counts."""
    body = openai_body(A, B)
    for item in body["data"]:
        del item["index"]

    assert [e.vector for e in parse(body, "a", "b")] == [A, B]


@pytest.mark.parametrize(
    "indexes",
    [(0, 0, 1), (0, 1, 3), (1, 2, 3), (-1, 0, 1), (0, 1, None), (None, 1, 2), (0, 1, 2**70)],
)
def test_wrong_indexes(indexes):
    """Indexes that are doubled, missing or foreign make the answer unreadable: who knows which
    vector is whose."""
    body = openai_body(A, B, C)
    for item, index in zip(body["data"], indexes, strict=True):
        item["index"] = index if index != 2**70 else 3_000_000_000

    with pytest.raises(ValueError, match="index"):
        parse(body, "a", "b", "c")


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": None},
        {"prompt_tokens": 0},
        {"prompt_tokens": -5, "total_tokens": -5},
        {"prompt_tokens": None, "total_tokens": None},
    ],
)
def test_no_usage(usage):
    """Where the provider reports no tokens they are estimated, and say so."""
    body = openai_body(A, B, tokens=None)
    if usage is not None:
        body["usage"] = usage

    embeddings = parse(body, "abcdefgh", (1, 2, 3))

    assert [e.tokens for e in embeddings] == [2, 3]
    assert all(e.is_estimated for e in embeddings)


def test_total_tokens():
    """A provider that reports only the total is believed."""
    body = openai_body(A, tokens=None) | {"usage": {"total_tokens": 9}}

    (embedding,) = parse(body, "a")

    assert (embedding.tokens, embedding.is_estimated) == (9, False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"data":null}',
        b'{"data":{}}',
        b'{"data":[null]}',
        b'{"data":[{}]}',
        b'{"data":[{"embedding":null}]}',
        b'{"data":[{"embedding":[1,"2"]}]}',
        b'{"data":[{"embedding":[[1.0]]}]}',
        b'{"data":[{"embedding":[NaN]}]}',
        b'{"data":[{"embedding":[1e400]}]}',
        b'{"data":[{"embedding":"****"}]}',
        b'{"data":[{"embedding":"AAA"}]}',
        '{"data":[{"embedding":"é"}]}'.encode(),
        b'{"data":[{"embedding":"\xff"}]}',
        b'{"data":[{"embedding":[1.0],"index":"0"}]}',
        b'{"data":[{"embedding":[1.0],"index":0.5}]}',
        b'{"data":[{"embedding":[1.0]}],"usage":"4"}',
        b'{"error":{"message":"it is down"}}',
        b"<html><body>Bad gateway</body></html>",
        b'{"data":[{"embedding":[1.0,2.0',
        b"\x1f\x8b\x08\x00",
    ],
)
def test_unreadable(body):
    """A body that is not what the documentation says raises ValueError, whatever it is."""
    with pytest.raises(ValueError, match=r"."):
        parse(body, "a")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (300, UpstreamUnavailable),
        (302, UpstreamUnavailable),
        (400, UpstreamRejected),
        (401, UpstreamUnauthorized),
        (402, UpstreamUnauthorized),
        (403, UpstreamUnauthorized),
        (404, UpstreamModelNotFound),
        (408, UpstreamUnavailable),
        (409, UpstreamUnavailable),
        (413, UpstreamTooLarge),
        (422, UpstreamRejected),
        (429, UpstreamRateLimited),
        (500, UpstreamUnavailable),
        (502, UpstreamUnavailable),
        (503, UpstreamUnavailable),
        (504, UpstreamUnavailable),
        (529, UpstreamUnavailable),
        (599, UpstreamUnavailable),
    ],
)
def test_status(status, kind):
    """Each status has its class, with the account and the status in the error."""
    error = explain(status, b'{"error":{"message":"their words"}}')

    assert type(error) is kind
    assert (error.provider, error.upstream_status) == ("main", status)
    assert "main" in error.message


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500])
def test_their_words(status):
    """The provider's own words are passed on, at a length that fits a message."""
    assert "their words" in explain(status, b'{"error":{"message":"their words"}}').message
    long = explain(status, orjson.dumps({"error": {"message": "w" * 100_000}}))
    assert 400 < len(long.message) < 700


@pytest.mark.parametrize("status", [401, 403])
def test_credential_errors_are_the_operators(status):
    """What a provider says of the operator's credential is kept: it may hold some of it."""
    error = explain(status, b'{"error":{"message":"Incorrect API key provided: sk-op...6789"}}')

    assert "sk-" not in error.message
    assert error.status == 502


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"[1]",
        b"{}",
        b'{"error":null}',
        b'{"error":{}}',
        b'{"error":{"message":null}}',
        b'{"error":{"message":17}}',
        b'{"error":17}',
        b'{"error":"\xff\xfe"}',
        b"<html>Bad gateway</html>",
        b'{"error":{"message":"cut',
        b'{"error":' + b"[" * 50_000,
        b'{"x":' + b"[" * 200_000,
    ],
)
@pytest.mark.parametrize("status", [400, 429, 503])
def test_wordless_errors(status, body):
    """An error body of any other shape, down to a bomb of brackets, is an error without words."""
    error = explain(status, body)

    assert error.upstream_status == status
    assert "no message" in error.message


@pytest.mark.parametrize("body", [b'{"error":"flat"}', b'{"message":"flat"}', b'{"detail":"flat"}'])
def test_flat_errors(body):
    """The flat error bodies of look-alikes are read too."""
    assert "flat" in explain(400, body).message


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 8192 tokens, however you requested 9000 tokens",
        "Requested 400000 tokens, max 300000 tokens per request: too many tokens",
    ],
)
def test_too_long(words):
    """A text that the provider finds too long is told as that."""
    error = explain(400, orjson.dumps({"error": {"message": words}}))

    assert type(error) is UpstreamInputTooLong
    assert error.code == "token_limit_exceeded"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(status, headers, seconds):
    """The wait is read in milliseconds or seconds; what is no sensible wait is none."""
    error = explain(status, b"{}", headers)

    assert error.retry_after_s == seconds
    assert seconds is None or math.isfinite(seconds)


@pytest.mark.parametrize(
    ("field", "asked", "body"),
    [
        ("task", "query", {"input": ["a"], "task": "search"}),
        ("task", "document", {"input": ["a"], "task": "passage"}),
        ("task", None, {"input": ["a"]}),
        (None, "query", {"input": ["searcha"]}),
        (None, None, {"input": ["a"]}),
    ],
)
def test_input_type(field, asked, body):
    """The input type goes into the field that the model's server has for it, or before the text."""
    way = InputTypeField(param=field, query="search", document="passage")
    sent = body_of(make_request("a", input_type=asked), input_type=way)

    assert {name: sent[name] for name in ("input", "task") if name in sent} == body


def test_too_long_for_llama():
    """llama.cpp tells with status 500 that a text is too long: that is the caller's to change."""
    error = explain(500, b'{"error": {"message": "input is too large to process. Increase it"}}')
    assert type(error) is UpstreamInputTooLong
    assert error.upstream_status == 500


def test_tokens_counted_here():
    """Where nobody reports tokens and the tokenizer is here, they are counted, not estimated."""
    body = {"data": [{"embedding": numbers(A)}, {"embedding": numbers(B)}]}
    texts = ("Sunny day at the beach", "Hello world")
    known = parse(body, *texts, tokenizer="cl100k_base")
    assert [(one.tokens, one.is_estimated) for one in known] == [(6, False), (2, False)]
    unknown = parse(body, *texts, tokenizer="hf:some/model")
    assert all(one.is_estimated for one in unknown)


def test_echoes():
    """What a provider echoes of our credential, or sends to a terminal, is not passed on."""
    words = "bad key sk-operator-0123456789 \x1b[31mred\r\nSet-Cookie: x"
    error = explain(400, orjson.dumps({"error": {"message": words}}))
    assert error.message.endswith("bad key ***  [31mred  Set-Cookie: x")


def test_a_callers_text_is_not_the_providers_word():
    """What FastAPI repeats of a refused text is left out: a text could say that the provider takes
    but one input, and would be believed."""
    text = "\x00 batch size 64 > maximum allowed batch size 1"
    told = {
        "type": "value_error",
        "loc": ["body", "input", 0],
        "msg": "NUL is not allowed",
        "input": text,
        "ctx": {"error": text},
    }
    error = explain(422, orjson.dumps({"detail": [told, 7]}))
    assert type(error) is UpstreamRejected
    assert "NUL is not allowed" in error.message
    assert "batch size" not in error.message
