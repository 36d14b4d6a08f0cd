"""Text Embeddings Inference."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from embedway.catalog import InputTypeField
from embedway.errors import (
    UpstreamInputTooLong,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTooLarge,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.providers.tei import TEI
from tests.fakes import json_response, make_deployment, make_request, numbers

DEPLOYMENT = make_deployment(
    name="rack",
    upstream_model="BAAI/bge-m3",
    base_url="http://127.0.0.1:8081",
    credential=None,
    input_type=InputTypeField(query="query: ", document="passage: "),
)


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({}, {}),
        ({"dimensions": 8}, {}),
        ({"dimensions": 4}, {"dimensions": 4}),
        ({"input_type": "query"}, {"inputs": ["query: a", "query: b"]}),
        ({"input_type": "document"}, {"inputs": ["passage: a", "passage: b"]}),
        ({"user": "u-1"}, {}),
        ({"options": b'{"tei":{"truncate":true}}'}, {"truncate": True}),
        ({"options": b'{"tei":{"promptName":"query"}}'}, {"prompt_name": "query"}),
        ({"options": b'{"tei":{"truncationDirection":"Left"}}'}, {"truncation_direction": "Left"}),
    ],
)
def test_fields(params: dict[str, Any], sent: dict[str, Any]) -> None:
    """Only what TEI lists is sent; what marks a query stands before each text; truncation is off
    but at the caller's own wish, and his options win."""
    built = TEI.build(make_request("a", "b", **params), DEPLOYMENT)
    always = {"inputs": ["a", "b"], "truncate": False, "normalize": True}
    assert built.url == "http://127.0.0.1:8081/embed"
    assert "authorization" not in built.headers
    assert orjson.loads(built.body) == {**always, **sent}


def test_token_ids_pass_through() -> None:
    """TEI takes token ids, so they are handed on as they are, without words before them."""
    request = make_request((1, 2), (3,), input_type="query")
    assert orjson.loads(TEI.build(request, DEPLOYMENT).body)["inputs"] == [[1, 2], [3]]


@pytest.mark.parametrize(("header", "tokens"), [("9", 9), ("", 2), ("-1", 2), ("٣", 2)])
def test_answer(header: str, tokens: int) -> None:
    """The bare vectors come in the order of the texts; their tokens stand in a header, and are
    estimated if no number does."""
    response = json_response([[1, 0.5], [0, -1]], headers={"x-compute-tokens": header})
    got = TEI.parse(make_request("a", "b"), DEPLOYMENT, response)
    assert [numbers(one.vector) for one in got] == [[1, 0.5], [0, -1]]
    assert {one.is_estimated for one in got} == {header != "9"}
    assert sum(one.tokens for one in got) == tokens


@pytest.mark.parametrize("body", [b"[1, 2]", b"{}", b"[[null]]", b'[["a"]]'])
def test_unsound_answer(body: bytes) -> None:
    """An answer that is not a list of lists of numbers is refused."""
    with pytest.raises(ValueError, match="Expected"):
        TEI.parse(make_request(), DEPLOYMENT, json_response(body))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (
            413,
            {
                "error": "Input validation error: `inputs` must have less than 512 tokens. "
                "Given: 534",
                "error_type": "Validation",
            },
            UpstreamInputTooLong,
        ),
        (
            422,
            {"error": "batch size 33 > maximum allowed batch size 32", "error_type": "Validation"},
            UpstreamTooLarge,
        ),
        (422, {"message": "flat", "code": 422, "type": "validation"}, UpstreamRejected),
        (424, {"error": "Inference failed", "error_type": "Backend"}, UpstreamUnavailable),
        (429, {"error": "Model is overloaded", "error_type": "Overloaded"}, UpstreamRateLimited),
        (503, {"error": "unhealthy", "error_type": "unhealthy"}, UpstreamUnavailable),
        (401, b"", UpstreamUnauthorized),
        (413, b"Failed to buffer the request body: length limit exceeded", UpstreamTooLarge),
    ],
)
def test_refusals(status: int, body: Any, error: type[Exception]) -> None:
    """An answer that is not 2xx gives the error its status and words stand for."""
    assert type(TEI.explain(DEPLOYMENT, json_response(body, status))) is error
