"""Cohere: what the recordings do not show."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from embedway import errors
from embedway.catalog_file import load_catalog
from embedway.options import ALLOWED, DIMENSIONS
from embedway.provider import Deployment
from embedway.providers.cohere import COHERE
from embedway.vectors import from_numbers, to_base64
from tests.fakes import json_response, make_deployment, make_request, numbers

CATALOG = load_catalog()


def _deployment(model: str = "cohere/embed-v4.0", **changes: Any) -> Deployment:
    found = CATALOG.find(model)
    assert found is not None
    offer = found.model.offer("cohere")
    assert offer is not None
    fields = {
        "name": "cohere",
        "model": model,
        "upstream_model": offer.upstream_id,
        "dimensions": found.model.dimensions.default,
        "base_url": COHERE.base_url,
        "takes_dimensions": offer.dimensions_param is not None,
        "input_type": offer.input_type,
        **changes,
    }
    return make_deployment(**fields)


def _body(*texts: str, on: Deployment | None = None, **fields: Any) -> dict[str, Any]:
    built = COHERE.build(make_request(*texts, **fields), on or _deployment())
    return dict(orjson.loads(built.body))


@pytest.mark.parametrize(
    ("input_type", "sent"),
    [
        ("query", "search_query"),
        ("document", "search_document"),
        ("clustering", "clustering"),
        (None, "search_document"),
    ],
)
def test_input_type(input_type: str | None, sent: str) -> None:
    """The input type is always sent, since the service demands one: document where none is
    asked."""
    assert _body("a", input_type=input_type)["input_type"] == sent
    assert _body("a", on=_deployment(input_type=None))["input_type"] == "search_document"


@pytest.mark.parametrize(
    ("model", "asked", "sent"),
    [
        ("cohere/embed-v4.0", 256, 256),
        ("cohere/embed-v4.0", 1536, None),
        ("cohere/embed-v4.0", None, None),
        ("cohere/embed-english-v3.0", 1024, None),
        ("cohere/embed-v5.0-pro", 768, 768),
    ],
)
def test_dimensions(model: str, asked: int | None, sent: int | None) -> None:
    """Shorter vectors are asked for with output_dimension, which models of one length never see."""
    assert _body("a", on=_deployment(model), dimensions=asked).get("output_dimension") == sent


def test_texts_are_never_cut_unasked() -> None:
    """The service is told to refuse a text that is too long; its own default is to cut it."""
    assert _body("a")["truncate"] == "NONE"


def test_only_listed_fields_are_sent() -> None:
    """What the API does not list, such as user and encoding_format, is not sent."""
    body = _body("a", user="u-1", dimensions=256)
    assert set(body) == {
        "model",
        "texts",
        "input_type",
        "embedding_types",
        "truncate",
        "output_dimension",
    }


@pytest.mark.parametrize("name", sorted(ALLOWED["cohere"] - DIMENSIONS))
def test_options(name: str) -> None:
    """Each option is sent under the API's own name, and wins over ours."""
    wire = {"inputType": "input_type", "maxTokens": "max_tokens"}.get(name, name)
    options = orjson.dumps({"cohere": {name: "X"}, "voyage": {"truncation": True}})
    plain = _body("a", input_type="query")
    assert _body("a", input_type="query", options=options) == {**plain, wire: "X"}


def _answer(*vectors: Any, kind: str = "float", **more: Any) -> dict[str, Any]:
    return {"id": "1", "embeddings": {kind: list(vectors)}, "texts": ["x"], **more}


@pytest.mark.parametrize(
    ("meta", "headers", "tokens", "is_estimated"),
    [
        ({"billed_units": {"input_tokens": 9}}, {"num_tokens": "8"}, 9, False),
        ({"billed_units": {"input_tokens": 9.0, "image_tokens": 0}}, {}, 9, False),
        ({"billed_units": {"input_tokens": 0}}, {"num_tokens": "8"}, 8, False),
        ({"api_version": {"version": "2"}}, {"num_tokens": "8"}, 8, False),
        (None, {"num_tokens": "8"}, 8, False),
        (None, {"num_tokens": "many"}, 3, True),
        (None, {}, 3, True),
    ],
)
def test_tokens(meta: Any, headers: dict[str, str], tokens: int, is_estimated: bool) -> None:
    """The tokens are those billed, else those in the header, else an estimate that says so."""
    response = json_response(_answer([1.0], [2.0], meta=meta), headers=headers)
    found = COHERE.parse(make_request("a text", "t"), _deployment(), response)
    assert sum(one.tokens for one in found) == tokens
    assert {one.is_estimated for one in found} == {is_estimated}
    assert [numbers(one.vector) for one in found] == [[1.0], [2.0]]


def test_base64_is_read_too() -> None:
    """Vectors that come as base64 although floats were asked for are the same vectors."""
    packed = to_base64(from_numbers([1.0, -0.5])).decode()
    (one,) = COHERE.parse(
        make_request(), _deployment(), json_response(_answer(packed, kind="base64"))
    )
    assert numbers(one.vector) == [1.0, -0.5]


@pytest.mark.parametrize(
    "body",
    [
        {"id": "1", "message": "an error inside a 200"},
        {"id": "1", "embeddings": {"int8": [[1]]}},
        {"id": "1", "embeddings": {}},
        {"id": "1", "embeddings": [[1.0]]},
        {"id": "1", "embeddings": {"float": [["a"]]}},
        {"id": "1", "embeddings": {"float": [[None]]}},
        {"id": "1", "embeddings": {"base64": ["*"]}},
        b"{",
    ],
)
def test_unsound_answers(body: Any) -> None:
    """An answer without floats where they belong is refused, an error inside a 200 included."""
    with pytest.raises(ValueError, match=r"."):
        COHERE.parse(make_request(), _deployment(), json_response(body))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            400,
            {"message": "invalid request: total number of texts must be at most 96 - received 97"},
            errors.UpstreamTooLarge,
        ),
        (400, {"message": "too many tokens: 600 > 512"}, errors.UpstreamInputTooLong),
        (402, {"message": "add a payment method"}, errors.UpstreamUnauthorized),
        (403, {"message": "no"}, errors.UpstreamUnauthorized),
        (422, {"id": "1", "message": "no such input_type"}, errors.UpstreamRejected),
        (498, {"message": "blocked"}, errors.UpstreamUnavailable),
        (499, {"message": "cancelled"}, errors.UpstreamUnavailable),
        (501, {"message": "not implemented"}, errors.UpstreamUnavailable),
        (503, b"<html>", errors.UpstreamUnavailable),
        (400, b"", errors.UpstreamRejected),
    ],
)
def test_errors(status: int, body: Any, kind: type[errors.UpstreamError]) -> None:
    """Each refusal becomes the error it means, Cohere's own statuses 498 and 499 included."""
    error = COHERE.explain(_deployment(), json_response(body, status))
    assert type(error) is kind
    assert error.upstream_status == status


def test_the_providers_words_are_told() -> None:
    """What the service says of a request it refuses is passed on."""
    body = {"id": "1", "message": "invalid request: texts are missing"}
    error = COHERE.explain(_deployment(), json_response(body, 400))
    assert error.message.endswith("invalid request: texts are missing")
