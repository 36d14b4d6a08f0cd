"""Voyage: what the recordings do not show."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from embedway.catalog import InputTypeField
from embedway.errors import InvalidRequest, UpstreamInputTooLong, UpstreamRejected
from embedway.providers.voyage import VOYAGE
from embedway.types import replace
from tests.fakes import json_response, make_deployment, make_request, make_vector, openai_body

DEPLOYMENT = make_deployment(
    name="voyage",
    model="voyage/voyage-3.5",
    upstream_model="voyage-3.5",
    base_url=VOYAGE.base_url,
    input_type=InputTypeField(param="input_type", query="query", document="document"),
)


def _body(*, takes_dimensions: bool = True, **params: Any) -> dict[str, Any]:
    """What is sent beside the model and the text."""
    deployment = replace(DEPLOYMENT, takes_dimensions=takes_dimensions)
    body: dict[str, Any] = orjson.loads(VOYAGE.build(make_request(**params), deployment).body)
    assert (body.pop("model"), body.pop("input")) == ("voyage-3.5", ["a text"])
    return body


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({}, {}),
        ({"dimensions": 8}, {}),
        ({"dimensions": 4}, {"output_dimension": 4}),
        ({"dimensions": 4, "takes_dimensions": False}, {}),
        ({"input_type": "query"}, {"input_type": "query"}),
        ({"input_type": "document"}, {"input_type": "document"}),
        ({"input_type": "clustering"}, {}),
        ({"user": "u-1"}, {}),
        ({"options": b'{"voyage":{"truncation":true}}'}, {"truncation": True}),
        ({"options": b'{"voyage":{"inputType":"query"}}'}, {"input_type": "query"}),
        ({"options": b'{"voyage":{"input_type":"query"}}'}, {"input_type": "query"}),
        ({"options": b'{"voyage":{"outputDtype":"float"}}'}, {}),
        ({"options": b'{"cohere":{"truncate":"END"}}'}, {}),
    ],
)
def test_fields(params: dict[str, Any], sent: dict[str, Any]) -> None:
    """Only what Voyage lists is sent, truncation is always off but at the caller's own wish, and
    his options win."""
    assert _body(**params) == {"truncation": False, "encoding_format": "base64", **sent}


@pytest.mark.parametrize("name", ["outputDtype", "output_dtype"])
def test_other_numbers_than_floats_are_refused(name: str) -> None:
    """A vector of int8 cannot be given on, so it is not asked for."""
    options = orjson.dumps({"voyage": {name: "int8"}})
    with pytest.raises(InvalidRequest) as refused:
        VOYAGE.build(make_request(options=options), DEPLOYMENT)
    assert refused.value.param == "providerOptions.voyage.outputDtype"


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [({"total_tokens": 7}, 7), ({"total_tokens": 0}, None), ({}, None), (None, None)],
)
def test_usage(usage: dict[str, int] | None, tokens: int | None) -> None:
    """The total is what both texts cost; a total of 0, which Voyage has answered, is no report."""
    reply = openai_body(make_vector("a"), make_vector("b"), tokens=None) | {"usage": usage}
    got = VOYAGE.parse(make_request("a", "b"), DEPLOYMENT, json_response(reply))
    assert {one.is_estimated for one in got} == {tokens is None}
    assert sum(one.tokens for one in got) == (2 if tokens is None else tokens)


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (
            "Request to model 'voyage-4-large' failed. The example at index 0 in your batch has too"
            " many tokens and does not fit into the model's context window of 32000 tokens.",
            UpstreamInputTooLong,
        ),
        (
            "Request to model 'voyage-code-3' failed. The max allowed tokens per submitted batch is"
            " 120000. Your batch has 124417 tokens after truncation.",
            UpstreamInputTooLong,
        ),
        ("Value 300 for output_dimension is not supported for Model voyage-4", UpstreamRejected),
        ([{"loc": ["body"], "msg": "field required"}], UpstreamRejected),
    ],
)
def test_refusals(told: Any, error: type[UpstreamRejected]) -> None:
    """Voyage's words for a text or batch that is too long are understood; others pass on."""
    explained = VOYAGE.explain(DEPLOYMENT, json_response({"detail": told}, 400))
    assert type(explained) is error
    assert explained.upstream_status == 400


def test_broken_answer_of_a_proxy_is_explained() -> None:
    """An error page that is no JSON still gives an error with the status."""
    explained = VOYAGE.explain(DEPLOYMENT, json_response(b"<html>Bad gateway</html>", 502))
    assert "HTTP 502" in explained.message
    assert explained.retryable
