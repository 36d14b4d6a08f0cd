"""Jina: what the recordings do not show."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from embedway.catalog import InputTypeField
from embedway.errors import (
    InvalidRequest,
    UpstreamModelNotFound,
    UpstreamRejected,
    UpstreamTooLarge,
)
from embedway.providers.jina import JINA
from tests.fakes import json_response, make_deployment, make_request, make_vector, openai_body

DEPLOYMENT = make_deployment(
    name="jina",
    model="jina/jina-embeddings-v3",
    upstream_model="jina-embeddings-v3",
    base_url=JINA.base_url,
    input_type=InputTypeField(
        param="task",
        query="retrieval.query",
        document="retrieval.passage",
        others=("text-matching",),
    ),
)


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({}, {}),
        ({"dimensions": 8}, {}),
        ({"dimensions": 4}, {"dimensions": 4}),
        ({"input_type": "query"}, {"task": "retrieval.query"}),
        ({"input_type": "document"}, {"task": "retrieval.passage"}),
        ({"input_type": "text-matching"}, {"task": "text-matching"}),
        ({"user": "u-1"}, {}),
        ({"options": b'{"jina":{"inputType":"separation"}}'}, {"task": "separation"}),
        ({"options": b'{"jina":{"task":"separation"}}'}, {"task": "separation"}),
        ({"options": b'{"jina":{"truncate":true}}'}, {"truncate": True}),
        ({"options": b'{"jina":{"lateChunking":true}}'}, {"late_chunking": True}),
        ({"options": b'{"jina":{"normalized":false}}'}, {"normalized": False}),
        ({"options": b'{"jina":{"embeddingType":"float"}}'}, {}),
        ({"options": b'{"jina":{"embedding_type":"base64"}}'}, {}),
    ],
)
def test_fields(params: dict[str, Any], sent: dict[str, Any]) -> None:
    """Only what Jina lists is sent, truncation is off but at the caller's own wish, and his
    options win."""
    body = orjson.loads(JINA.build(make_request(**params), DEPLOYMENT).body)
    always = {"embedding_type": "base64", "truncate": False}
    assert body == {"model": "jina-embeddings-v3", "input": ["a text"], **always, **sent}


@pytest.mark.parametrize("wanted", ["binary", "ubinary", ["float", "binary"]])
def test_other_numbers_than_floats_are_refused(wanted: object) -> None:
    """A vector of bits cannot be given on, so it is not asked for."""
    options = orjson.dumps({"jina": {"embeddingType": wanted}})
    with pytest.raises(InvalidRequest) as refused:
        JINA.build(make_request(options=options), DEPLOYMENT)
    assert refused.value.param == "providerOptions.jina.embeddingType"


def test_base64_is_read() -> None:
    """An answer in base64, which is what we ask for, gives its numbers by their index."""
    reply = openai_body(make_vector("a"), make_vector("b"), tokens=None)
    reply["data"].reverse()
    reply["usage"] = {"total_tokens": 5}
    got = JINA.parse(make_request("a", "b"), DEPLOYMENT, json_response(reply))
    assert [one.vector for one in got] == [make_vector("a"), make_vector("b")]
    assert sum(one.tokens for one in got) == 5


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ("Model not found", UpstreamModelNotFound),
        (
            "[RID: 1] Validation error: 'body -> jina-embeddings-v4' Each input list can contain at"
            " most 512 items.",
            UpstreamTooLarge,
        ),
    ],
)
def test_refusals(told: str, error: type[UpstreamRejected]) -> None:
    """A model that Jina does not know is told from other requests that it calls unprocessable."""
    explained = JINA.explain(DEPLOYMENT, json_response({"detail": told}, 422))
    assert type(explained) is error
    assert explained.upstream_status == 422
