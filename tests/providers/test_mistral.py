"""Mistral: what the recordings do not show."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from embedway import errors
from embedway.options import ALLOWED, DIMENSIONS
from embedway.provider import Deployment
from embedway.providers.mistral import MISTRAL
from tests.fakes import json_response, make_deployment, make_request, numbers, openai_body


def _deployment(**changes: Any) -> Deployment:
    fields = {
        "name": "mistral",
        "model": "mistral/codestral-embed",
        "upstream_model": "codestral-embed",
        "dimensions": 1536,
        "base_url": MISTRAL.base_url,
        **changes,
    }
    return make_deployment(**fields)


def _body(*texts: str, on: Deployment | None = None, **fields: Any) -> dict[str, Any]:
    built = MISTRAL.build(make_request(*texts, **fields), on or _deployment())
    return dict(orjson.loads(built.body))


def test_only_listed_fields_are_sent() -> None:
    """The body has the fields that the service lists and no other, for it refuses the rest: no
    user, no dimensions, no input type."""
    assert _body("a", "b", user="u-1", dimensions=256, input_type="query") == {
        "model": "codestral-embed",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "output_dimension": 256,
    }


@pytest.mark.parametrize(
    ("asked", "takes_dimensions", "sent"),
    [
        (256, True, 256),
        (3072, True, 3072),
        (1536, True, None),
        (None, True, None),
        (9, False, None),
    ],
)
def test_dimensions(asked: int | None, takes_dimensions: bool, sent: int | None) -> None:
    """Other lengths than the model's own are asked for with output_dimension, where it has one."""
    on = _deployment(takes_dimensions=takes_dimensions)
    assert _body("a", on=on, dimensions=asked).get("output_dimension") == sent


@pytest.mark.parametrize("name", sorted(ALLOWED["mistral"] - DIMENSIONS))
def test_options(name: str) -> None:
    """Each option is taken; output types other than float have their own test below."""
    value = "float" if name in ("outputDtype", "output_dtype") else {"a": "b"}
    options = orjson.dumps({"mistral": {name: value}, "openai": {"user": "u"}})
    added = {} if value == "float" else {name: value}
    assert _body("a", options=options) == {**_body("a"), **added}


@pytest.mark.parametrize("name", ["outputDtype", "output_dtype"])
@pytest.mark.parametrize("value", ["int8", "uint8", "binary", "ubinary", 1])
def test_other_numbers_than_floats_are_refused(name: str, value: Any) -> None:
    """Asking for other numbers than floats is refused and names the field, for they would be taken
    for float32 on the way back."""
    options = orjson.dumps({"mistral": {name: value}})
    with pytest.raises(errors.InvalidRequest) as caught:
        _body("a", options=options)
    assert caught.value.param == f"providerOptions.mistral.{name}"


def test_more_usage_fields_than_we_know() -> None:
    """The null fields that Mistral adds to the usage disturb nobody; the tokens are those of the
    prompt."""
    body = openai_body([1.0], [2.0], tokens=None)
    body["usage"] = {
        "prompt_tokens": 15,
        "total_tokens": 15,
        "completion_tokens": 0,
        "prompt_audio_seconds": None,
        "request_count": None,
        "prompt_token_details": None,
    }
    found = MISTRAL.parse(make_request("a", "b"), _deployment(), json_response(body))
    assert sum(one.tokens for one in found) == 15
    assert [numbers(one.vector) for one in found] == [[1.0], [2.0]]


def test_vectors_out_of_order() -> None:
    """Each vector goes to the text that its index names."""
    body = openai_body([1.0], [2.0], [3.0])
    body["data"].reverse()
    found = MISTRAL.parse(make_request("a", "b", "c"), _deployment(), json_response(body))
    assert [numbers(one.vector) for one in found] == [[1.0], [2.0], [3.0]]


@pytest.mark.parametrize(
    "body",
    [
        {"object": "error", "message": "an error inside a 200", "code": "1000"},
        {"data": [{"embedding": [None], "index": 0}]},
        {"data": [{"embedding": "*", "index": 0}]},
        {"data": [{"embedding": [1.0], "index": 1}]},
        b"null",
    ],
)
def test_unsound_answers(body: Any) -> None:
    """An answer without vectors where they belong is refused, an error inside a 200 included."""
    with pytest.raises(ValueError, match=r"."):
        MISTRAL.parse(make_request(), _deployment(), json_response(body))


def _flat(message: str, code: str = "1000") -> dict[str, Any]:
    return {"object": "error", "message": message, "type": "x", "param": None, "code": code}


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (
            400,
            _flat("Too many tokens overall, split into more batches.", "3210"),
            errors.UpstreamInputTooLong,
            "Too many tokens overall",
        ),
        (
            400,
            _flat("Too many inputs in request, split into more batches.", "3210"),
            errors.UpstreamTooLarge,
            "Too many inputs",
        ),
        (
            422,
            {
                "detail": [
                    {"type": "missing", "loc": ["body", "input"], "msg": "Field required"},
                    {"type": "extra_forbidden", "loc": ["body", "list", 0], "msg": "Extra inputs"},
                ]
            },
            errors.UpstreamRejected,
            "body.input: Field required; body.list.0: Extra inputs",
        ),
        (422, {"detail": "not so"}, errors.UpstreamRejected, "not so"),
        (401, {"detail": "Unauthorized"}, errors.UpstreamUnauthorized, "credential"),
        (401, {"message": "Unauthorized"}, errors.UpstreamUnauthorized, "credential"),
        (404, _flat("no such model", "unknown_model"), errors.UpstreamModelNotFound, "no such"),
        (503, b"upstream connect error", errors.UpstreamUnavailable, "no message"),
        (400, {"detail": {"a": 1}}, errors.UpstreamRejected, "no message"),
    ],
)
def test_errors(status: int, body: Any, kind: type[errors.UpstreamError], told: str) -> None:
    """Each refusal becomes the error it means, with the words of either shape."""
    error = MISTRAL.explain(_deployment(), json_response(body, status))
    assert type(error) is kind
    assert told in error.message


def test_the_callers_text_is_not_told_back() -> None:
    """What FastAPI quotes of the request, the caller's text, does not get into a message."""
    fault = {"type": "x", "loc": ["body"], "msg": "bad", "input": {"input": ["a private text"]}}
    error = MISTRAL.explain(_deployment(), json_response({"detail": [fault]}, 422))
    assert "body: bad" in error.message
    assert "private" not in error.message
