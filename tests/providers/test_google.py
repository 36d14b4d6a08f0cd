"""The Gemini API: what the recordings do not show."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from embedway import errors
from embedway.catalog_file import load_catalog
from embedway.options import ALLOWED, DIMENSIONS
from embedway.provider import Deployment
from embedway.providers.google import GOOGLE
from tests.fakes import json_response, make_deployment, make_request, numbers

CATALOG = load_catalog()


def _deployment(model: str = "google/gemini-embedding-001", **changes: Any) -> Deployment:
    found = CATALOG.find(model)
    assert found is not None
    offer = found.model.offer("google")
    assert offer is not None
    fields = {
        "name": "google",
        "model": model,
        "upstream_model": offer.upstream_id,
        "dimensions": found.model.dimensions.default,
        "base_url": GOOGLE.base_url,
        "input_type": offer.input_type,
        **changes,
    }
    return make_deployment(**fields)


def _entries(*texts: str, on: Deployment | None = None, **fields: Any) -> list[Any]:
    built = GOOGLE.build(make_request(*texts, **fields), on or _deployment())
    return list(orjson.loads(built.body)["requests"])


def _texts_of(found: list[Any]) -> list[str]:
    return ["".join(part["text"] for part in entry["content"]["parts"]) for entry in found]


@pytest.mark.parametrize(
    ("base_url", "api_version", "expected"),
    [
        ("https://g.example", "", "https://g.example/v1beta"),
        ("https://g.example", "v1", "https://g.example/v1"),
        ("https://g.example/v1", "", "https://g.example/v1"),
        ("https://g.example/v1alpha", "v2", "https://g.example/v1alpha"),
        ("https://g.example/proxy/v1beta", "", "https://g.example/proxy/v1beta"),
        ("https://v1.example", "", "https://v1.example/v1beta"),
    ],
)
def test_api_version(base_url: str, api_version: str, expected: str) -> None:
    """The version is the base URL's own, or the account's, or v1beta."""
    on = _deployment(base_url=base_url, api_version=api_version)
    url = GOOGLE.build(make_request(), on).url
    assert url == f"{expected}/models/gemini-embedding-001:batchEmbedContents"


def test_model_name_cannot_leave_its_place_in_the_path() -> None:
    """A model's name is escaped in the URL, so that it reaches no other method."""
    url = GOOGLE.build(make_request(), _deployment(upstream_model="../a?b#c/d")).url
    assert url.endswith("/v1beta/models/..%2Fa%3Fb%23c%2Fd:batchEmbedContents")


def test_every_text_is_a_request_of_its_own() -> None:
    """A hundred texts are a hundred entries of one part each, since the parts of one entry would
    become one vector."""
    texts = [f"text {number}" for number in range(100)]
    found = _entries(*texts)
    assert [[part["text"] for part in entry["content"]["parts"]] for entry in found] == [
        [text] for text in texts
    ]
    assert {entry["model"] for entry in found} == {"models/gemini-embedding-001"}


@pytest.mark.parametrize(
    ("input_type", "sent"),
    [
        ("query", "RETRIEVAL_QUERY"),
        ("document", "RETRIEVAL_DOCUMENT"),
        ("CODE_RETRIEVAL_QUERY", "CODE_RETRIEVAL_QUERY"),
        (None, None),
    ],
)
def test_task_type(input_type: str | None, sent: str | None) -> None:
    """The input type goes as taskType with every text, and the texts stay as they are."""
    found = _entries("a", "b", input_type=input_type)
    assert [entry.get("taskType") for entry in found] == [sent, sent]
    assert _texts_of(found) == ["a", "b"]


@pytest.mark.parametrize(
    ("input_type", "words"),
    [
        ("query", "task: search result | query: "),
        ("document", "title: none | text: "),
        ("task: clustering | query: ", "task: clustering | query: "),
        (None, ""),
    ],
)
def test_task_as_words(input_type: str | None, words: str) -> None:
    """Gemini Embedding 2, which ignores taskType, gets the task as words before each text."""
    on = _deployment("google/gemini-embedding-2")
    found = _entries("a", "b", on=on, input_type=input_type)
    assert _texts_of(found) == [f"{words}a", f"{words}b"]
    assert not any("taskType" in entry for entry in found)


@pytest.mark.parametrize(("asked", "sent"), [(768, 768), (3072, None), (None, None)])
def test_dimensions(asked: int | None, sent: int | None) -> None:
    """Shorter vectors are asked for with outputDimensionality, the full width with nothing."""
    found = _entries("a", "b", dimensions=asked)
    assert [entry.get("outputDimensionality") for entry in found] == [sent, sent]


def test_no_dimensions_for_a_model_of_one_length() -> None:
    """A deployment without a field for dimensions is not sent one."""
    assert (
        "outputDimensionality"
        not in _entries("a", on=_deployment(takes_dimensions=False), dimensions=768)[0]
    )


@pytest.mark.parametrize("name", sorted(ALLOWED["google"] - DIMENSIONS))
def test_options_reach_every_text(name: str) -> None:
    """Each option goes with every text under the API's own name, and wins over ours; dimensions
    are not among them, for the route has taken them out."""
    wire = {"task_type": "taskType"}.get(name, name)
    options = orjson.dumps({"google": {name: "X"}, "openai": {"user": "u"}})
    found = _entries("a", "b", input_type="query", dimensions=768, options=options)
    expected = {"taskType": "RETRIEVAL_QUERY", "outputDimensionality": 768, wire: "X"}
    for entry in found:
        assert {key: entry[key] for key in entry.keys() - {"model", "content"}} == expected


def test_nothing_is_sent_without_a_credential() -> None:
    """Without a credential there is no header for it, rather than an empty one."""
    assert (
        "x-goog-api-key" not in GOOGLE.build(make_request(), _deployment(credential=None)).headers
    )


@pytest.mark.parametrize(
    ("usage", "tokens", "is_estimated"),
    [
        ({"usageMetadata": {"promptTokenCount": 7}}, 7, False),
        ({"usageMetadata": {}}, 3, True),
        ({"usageMetadata": {"promptTokenCount": 0}}, 3, True),
        ({}, 3, True),
    ],
)
def test_tokens(usage: dict[str, Any], tokens: int, is_estimated: bool) -> None:
    """The tokens reported for all texts are shared out to the last one; where none are reported
    they are estimated and say so."""
    body = {"embeddings": [{"values": [1.0]}, {"values": [2.0]}], **usage}
    found = GOOGLE.parse(make_request("a text", "t"), _deployment(), json_response(body))
    assert sum(embedding.tokens for embedding in found) == tokens
    assert {embedding.is_estimated for embedding in found} == {is_estimated}
    assert [numbers(embedding.vector) for embedding in found] == [[1.0], [2.0]]


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 500, "message": "inside a 200"}},
        {"embedding": {"values": [1.0]}},
        {"embeddings": [{"values": None}]},
        {"embeddings": [{"values": ["1"]}]},
        {"embeddings": [{}]},
        [],
        b"",
        b"<html>",
    ],
)
def test_unsound_answers(body: Any) -> None:
    """An answer without vectors where they belong is refused, an error inside a 200 included."""
    with pytest.raises(ValueError, match=r"."):
        GOOGLE.parse(make_request(), _deployment(), json_response(body))


def _error_body(status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": 0, "message": message, "status": status, "details": list(details)}}


KEY_INVALID = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, _error_body("INVALID_ARGUMENT", "bad key", KEY_INVALID), errors.UpstreamUnauthorized),
        (400, _error_body("INVALID_ARGUMENT", "bad field"), errors.UpstreamRejected),
        (
            400,
            _error_body(
                "INVALID_ARGUMENT",
                "The input token count (9000) exceeds the maximum number of tokens allowed (8192).",
            ),
            errors.UpstreamInputTooLong,
        ),
        (403, _error_body("PERMISSION_DENIED", "no"), errors.UpstreamUnauthorized),
        (404, _error_body("NOT_FOUND", "models/x is not found"), errors.UpstreamModelNotFound),
        (429, _error_body("RESOURCE_EXHAUSTED", "slow"), errors.UpstreamRateLimited),
        (503, _error_body("UNAVAILABLE", "overloaded"), errors.UpstreamUnavailable),
        (502, b"<html>bad gateway</html>", errors.UpstreamUnavailable),
        (400, {"error": "flat"}, errors.UpstreamRejected),
    ],
)
def test_errors(status: int, body: Any, kind: type[errors.UpstreamError]) -> None:
    """Each refusal becomes the error it means; a bad key, which is a 400, is the operator's."""
    error = GOOGLE.explain(_deployment(), json_response(body, status))
    assert type(error) is kind
    assert error.upstream_status == status
    assert f"(HTTP {status})" in error.message or status == 429


@pytest.mark.parametrize(
    ("delay", "headers", "wait"),
    [
        ("34s", {}, 34.0),
        ("1.5s", {"retry-after": "9"}, 1.5),
        ("0s", {"retry-after": "9"}, 0.0),
        (None, {"retry-after": "9"}, 9.0),
        ("soon", {"retry-after": "9"}, 9.0),
        (None, {}, None),
    ],
)
def test_retry_info(delay: str | None, headers: dict[str, str], wait: float | None) -> None:
    """The wait is RetryInfo's; where it has none, the header's."""
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    quota = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}
    body = _error_body("RESOURCE_EXHAUSTED", "slow", quota, info)
    error = GOOGLE.explain(_deployment(), json_response(body, 429, headers))
    assert error.retry_after_s == wait
