"""AWS Bedrock: what the recordings do not show, and the signatures."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec import DecodeError

from embedway.catalog import InputTypeField
from embedway.errors import (
    InvalidInput,
    UpstreamInputTooLong,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.provider import AccessKey
from embedway.providers.bedrock import BEDROCK
from embedway.secret import Secret
from tests.fakes import json_response, make_deployment, make_request, numbers

COHERE = InputTypeField(param="input_type", query="search_query", document="search_document")
NOVA = InputTypeField(
    param="singleEmbeddingParams.embeddingPurpose",
    query="GENERIC_RETRIEVAL",
    document="GENERIC_INDEX",
    others=("CLUSTERING",),
)
KEY = AccessKey(id="AKIDEXAMPLE", secret=Secret("wJalrXUtnFEMI"))


def _deployment(model: str, **changes: Any) -> Any:
    return make_deployment(
        **{
            "name": "bedrock",
            "model": model,
            "upstream_model": "some.model:0",
            "base_url": "https://bedrock-runtime.eu-west-3.amazonaws.com",
            "region": "eu-west-3",
            "input_type": COHERE if "cohere" in model else NOVA if "nova" in model else None,
            "takes_dimensions": model != "amazon/titan-embed-text-v1",
            **changes,
        }
    )


TITAN_1 = _deployment("amazon/titan-embed-text-v1")
TITAN_2 = _deployment("amazon/titan-embed-text-v2")
COHERE_4 = _deployment("cohere/embed-v4.0")
NOVA_2 = _deployment("amazon/nova-2-multimodal-embeddings-v1")
ALL_OPTIONS = orjson.dumps(
    {
        "bedrock": {
            "normalize": False,
            "inputType": "clustering",
            "truncate": "END",
            "embeddingPurpose": "CLUSTERING",
        }
    }
)


def _nova(text: dict[str, str], **fields: Any) -> dict[str, Any]:
    text = {"value": "a text", "truncationMode": "NONE", **text}
    return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {"text": text, **fields}}


@pytest.mark.parametrize(
    ("deployment", "params", "body"),
    [
        (TITAN_1, {}, {"inputText": "a text"}),
        (TITAN_1, {"dimensions": 4, "input_type": "query"}, {"inputText": "a text"}),
        (TITAN_1, {"options": ALL_OPTIONS}, {"inputText": "a text"}),
        (TITAN_2, {"dimensions": 8, "user": "u-1"}, {"inputText": "a text"}),
        (TITAN_2, {"dimensions": 4}, {"inputText": "a text", "dimensions": 4}),
        (TITAN_2, {"options": ALL_OPTIONS}, {"inputText": "a text", "normalize": False}),
        (COHERE_4, {}, {"texts": ["a text"], "truncate": "NONE"}),
        (
            COHERE_4,
            {"dimensions": 4, "input_type": "document"},
            {
                "texts": ["a text"],
                "truncate": "NONE",
                "input_type": "search_document",
                "output_dimension": 4,
            },
        ),
        (
            COHERE_4,
            {"input_type": "query", "options": ALL_OPTIONS},
            {"texts": ["a text"], "truncate": "END", "input_type": "clustering"},
        ),
        (
            COHERE_4,
            {"options": b'{"bedrock":{"inputType":"search_query"}}'},
            {"texts": ["a text"], "truncate": "NONE", "input_type": "search_query"},
        ),
        (NOVA_2, {}, _nova({})),
        (
            NOVA_2,
            {"dimensions": 4, "input_type": "document"},
            _nova({}, embeddingPurpose="GENERIC_INDEX", embeddingDimension=4),
        ),
        (
            NOVA_2,
            {"input_type": "query", "options": ALL_OPTIONS},
            _nova({"truncationMode": "END"}, embeddingPurpose="CLUSTERING"),
        ),
    ],
)
def test_fields(deployment: Any, params: dict[str, Any], body: dict[str, Any]) -> None:
    """Each family is sent its own fields only; truncation is off but at the caller's own wish,
    and his options win."""
    assert orjson.loads(BEDROCK.build(make_request(**params), deployment).body) == body


@pytest.mark.parametrize("deployment", [TITAN_1, TITAN_2, NOVA_2])
def test_one_text_a_call(deployment: Any) -> None:
    """A model that embeds one text a call is never sent several: all but one would be lost."""
    with pytest.raises(InvalidInput) as refused:
        BEDROCK.build(make_request("a", "b"), deployment)
    assert refused.value.param == "input"


ARN = "arn:aws:bedrock:eu-west-3:1:application-inference-profile/x"


@pytest.mark.parametrize(
    ("upstream_model", "encoded"),
    [
        ("amazon.titan-embed-text-v2:0", "amazon.titan-embed-text-v2%3A0"),
        ("eu.cohere.embed-v4:0", "eu.cohere.embed-v4%3A0"),
        (ARN, "arn%3Aaws%3Abedrock%3Aeu-west-3%3A1%3Aapplication-inference-profile%2Fx"),
    ],
)
def test_model_is_one_part_of_the_path(upstream_model: str, encoded: str) -> None:
    """An id with colons and slashes is percent-encoded, so that it stays one part of the path."""
    deployment = _deployment("amazon/titan-embed-text-v2", upstream_model=upstream_model)
    built = BEDROCK.build(make_request(), deployment)
    assert built.url == f"{deployment.base_url}/model/{encoded}/invoke"


COUNT = {"x-amzn-bedrock-input-token-count": "9"}
ANSWERS = [
    (TITAN_1, {"embedding": [1, 0.5]}, 1),
    (TITAN_2, {"embedding": [1, 0.5], "embeddingsByType": {"float": [1, 0.5], "binary": [1]}}, 1),
    (COHERE_4, {"embeddings": [[1, 0.5], [0, -1]], "response_type": "embeddings_floats"}, 2),
    (COHERE_4, {"embeddings": {"float": [[1, 0.5], [0, -1]], "int8": [[1, 1], [0, 1]]}}, 2),
    (NOVA_2, {"embeddings": [{"embeddingType": "TEXT", "embedding": [1, 0.5]}]}, 1),
]


@pytest.mark.parametrize(("deployment", "reply", "count"), ANSWERS)
def test_answers(deployment: Any, reply: dict[str, Any], count: int) -> None:
    """The vectors of each family are found, and the tokens in the header are their sum."""
    request = make_request(*"ab"[:count])
    got = BEDROCK.parse(request, deployment, json_response(reply, headers=COUNT))
    assert [numbers(one.vector) for one in got] == [[1, 0.5], [0, -1]][:count]
    assert sum(one.tokens for one in got) == 9
    assert not any(one.is_estimated or one.is_truncated for one in got)


@pytest.mark.parametrize(
    ("headers", "told", "tokens"), [(COUNT, 4, 4), ({}, 4, 4), (COUNT, None, 9), ({}, None, None)]
)
def test_titans_own_count(headers: dict[str, str], told: int | None, tokens: int | None) -> None:
    """Titan's tokens are those its body counts, else those of the header, else estimated."""
    reply = {"embedding": [1, 0.5], "inputTextTokenCount": told}
    (got,) = BEDROCK.parse(make_request("a"), TITAN_2, json_response(reply, headers=headers))
    assert got.tokens == (tokens or 1)
    assert got.is_estimated == (tokens is None)


@pytest.mark.parametrize(("kept", "is_truncated"), [(20, True), (0, False), (None, False)])
def test_truncation_is_disclosed(kept: int | None, is_truncated: bool) -> None:
    """Where Nova says that it cut a text, the embedding says so, too."""
    item = {"embeddingType": "TEXT", "embedding": [1], "truncatedCharLength": kept}
    (got,) = BEDROCK.parse(make_request(), NOVA_2, json_response({"embeddings": [item]}))
    assert got.is_truncated == is_truncated


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        {"embedding": "AAAA"},
        {"embedding": [None]},
        {"embeddings": {"int8": [[1]]}},
        {"embeddings": [{"embeddingType": "TEXT"}]},
    ],
)
def test_unsound_answer(reply: Any) -> None:
    """An answer that holds no float vectors is refused."""
    with pytest.raises(DecodeError):
        BEDROCK.parse(make_request(), COHERE_4, json_response(reply))


def test_error_inside_a_success() -> None:
    """A message with status 200 is no embedding."""
    with pytest.raises(ValueError, match="it holds no embedding"):
        BEDROCK.parse(make_request(), TITAN_2, json_response({"message": "busy"}))


@pytest.mark.parametrize(
    ("status", "kind", "told", "error"),
    [
        (400, "ValidationException", "Malformed input request: 2 schema", UpstreamRejected),
        (
            400,
            "ValidationException",
            "Malformed input request: #/texts/0: expected maxLength: 2048, actual: 2470",
            UpstreamInputTooLong,
        ),
        (
            400,
            "ValidationException",
            "Input is too long for requested model.",
            UpstreamInputTooLong,
        ),
        (
            400,
            "ValidationException",
            "The provided model identifier is invalid.",
            UpstreamModelNotFound,
        ),
        (400, "ServiceQuotaExceededException", "quota", UpstreamRateLimited),
        (400, "ThrottlingException", "slow down", UpstreamRateLimited),
        (400, "ExpiredTokenException", "expired", UpstreamUnauthorized),
        (403, "InvalidSignatureException", "no match", UpstreamUnauthorized),
        (403, "UnrecognizedClientException", "who?", UpstreamUnauthorized),
        (404, "ResourceNotFoundException", "no such model", UpstreamModelNotFound),
        (408, "ModelTimeoutException", "slow", UpstreamUnavailable),
        (424, "ModelErrorException", "broken", UpstreamUnavailable),
        (429, "ModelNotReadyException", "starting", UpstreamUnavailable),
        (503, "ServiceUnavailableException", "later", UpstreamUnavailable),
        (500, "", "no type at all", UpstreamUnavailable),
    ],
)
def test_refusals(status: int, kind: str, told: str, error: type[Exception]) -> None:
    """The kind in the header decides where the status does not tell who is to blame."""
    headers = {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/"} if kind else {}
    for body in ({"message": told}, {"Message": told}):
        explained = BEDROCK.explain(TITAN_2, json_response(body, status, headers))
        assert type(explained) is error
        assert explained.upstream_status == status


def test_refusal_without_a_body() -> None:
    """Where the body says nothing, the kind stands in for the message."""
    headers = {"x-amzn-errortype": "ValidationException"}
    explained = BEDROCK.explain(TITAN_2, json_response(b"<html>", 400, headers))
    assert "ValidationException" in explained.message


def test_api_key_is_a_bearer() -> None:
    """An API key of Bedrock needs no signature, and without an access key there is none."""
    built = BEDROCK.build(make_request(), TITAN_2)
    assert built.headers["authorization"] == "Bearer sk-operator-0123456789"
    assert BEDROCK.sign is not None
    assert BEDROCK.sign(built, TITAN_2, 0.0) == built


_RECORDED = Path(__file__).parent / "recorded" / "bedrock.json"
_SIGNED = [
    pytest.param(case["request"]["headers"], id=case["case"])
    for case in json.loads(_RECORDED.read_text("utf-8"))
    if case["request"]["headers"]["authorization"].startswith("AWS4")
]
_HEAD = re.compile(
    r"(AWS4-HMAC-SHA256) Credential=[^/]+/(\S+), SignedHeaders=(\S+), Signature=(\S+)"
)


@pytest.mark.parametrize("recorded", _SIGNED)
def test_signature_is_headed_like_boto3s(recorded: dict[str, str]) -> None:
    """With an access key the request is signed for the scope, and over the headers, that boto3
    signs; ours also signs accept and content-type, which boto3 sends only where asked."""
    when = datetime.strptime(recorded["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    token = Secret("a token") if "x-amz-security-token" in recorded else None
    key = AccessKey(id=KEY.id, secret=KEY.secret, session_token=token)
    model = "amazon/titan-embed-text-v2"
    deployment = _deployment(model, credential=None, access_key=key, region="us-east-1")
    assert BEDROCK.sign is not None
    built = BEDROCK.build(make_request(), deployment)
    signed = BEDROCK.sign(built, deployment, when.timestamp())
    ours, theirs = (
        _HEAD.fullmatch(headers["authorization"]) for headers in (signed.headers, recorded)
    )
    assert ours is not None
    assert theirs is not None
    assert ours.group(1, 2) == theirs.group(1, 2)
    assert set(ours[3].split(";")) == {*theirs[3].split(";"), "accept", "content-type"}
    assert re.fullmatch(r"[0-9a-f]{64}", ours[4])
    assert {n: v for n, v in signed.headers.items() if n == "x-amz-security-token"} == (
        {} if token is None else {"x-amz-security-token": token.reveal()}
    )
