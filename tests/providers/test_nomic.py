"""Nomic."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from msgspec import DecodeError

from embedway.catalog import InputTypeField
from embedway.errors import UpstreamRateLimited, UpstreamRejected, UpstreamUnauthorized
from embedway.providers.nomic import NOMIC
from tests.fakes import json_response, make_deployment, make_request, numbers

DEPLOYMENT = make_deployment(
    name="nomic",
    model="nomic/nomic-embed-text-v1.5",
    upstream_model="nomic-embed-text-v1.5",
    dimensions=768,
    base_url=NOMIC.base_url,
    input_type=InputTypeField(
        param="task_type", query="search_query", document="search_document", others=("clustering",)
    ),
)


def test_address_and_credential() -> None:
    """The request goes to Atlas, with the key as a bearer."""
    built = NOMIC.build(make_request(), DEPLOYMENT)
    assert (built.method, built.url) == ("POST", "https://api-atlas.nomic.ai/v1/embedding/text")
    assert built.headers["authorization"] == "Bearer sk-operator-0123456789"
    assert built.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({}, {}),
        ({"dimensions": 768}, {}),
        ({"dimensions": 64}, {"dimensionality": 64}),
        ({"input_type": "query"}, {"task_type": "search_query"}),
        ({"input_type": "document"}, {"task_type": "search_document"}),
        ({"input_type": "clustering"}, {"task_type": "clustering"}),
        ({"user": "u-1"}, {}),
        ({"options": b'{"nomic":{"taskType":"classification"}}'}, {"task_type": "classification"}),
        ({"options": b'{"nomic":{"longTextMode":"mean"}}'}, {"long_text_mode": "mean"}),
    ],
)
def test_fields(params: dict[str, Any], sent: dict[str, Any]) -> None:
    """Only what Nomic lists is sent, and the caller's options win."""
    body = orjson.loads(NOMIC.build(make_request("a", "b", **params), DEPLOYMENT).body)
    assert body == {"model": "nomic-embed-text-v1.5", "texts": ["a", "b"], **sent}


@pytest.mark.parametrize("usage", [{"prompt_tokens": 6, "total_tokens": 6}, {}, None])
def test_answer(usage: dict[str, int] | None) -> None:
    """The vectors come in the order of the texts; their tokens are those of usage, or estimated."""
    reply = {"embeddings": [[1, 0.5], [0, -1]], "usage": usage, "model": "nomic-embed-text-v1.5"}
    got = NOMIC.parse(make_request("a", "b"), DEPLOYMENT, json_response(reply))
    assert [numbers(one.vector) for one in got] == [[1, 0.5], [0, -1]]
    assert {one.is_estimated for one in got} == {not usage}
    assert sum(one.tokens for one in got) == (6 if usage else 2)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"embeddings":null}', b'{"embeddings":[["a"]]}'])
def test_unsound_answer(body: bytes) -> None:
    """An answer without vectors of numbers is refused."""
    with pytest.raises(DecodeError):
        NOMIC.parse(make_request(), DEPLOYMENT, json_response(body))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"detail": "Unauthorized"}, UpstreamUnauthorized),
        (422, {"detail": [{"loc": ["body", "texts"], "msg": "too few"}]}, UpstreamRejected),
        (429, b"", UpstreamRateLimited),
    ],
)
def test_refusals(status: int, body: Any, error: type[Exception]) -> None:
    """An answer that is not 2xx gives the error of its status, with Nomic's words if any."""
    explained = NOMIC.explain(DEPLOYMENT, json_response(body, status))
    assert type(explained) is error
    assert ("too few" in explained.message) == (status == 422)
