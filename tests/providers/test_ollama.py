"""Ollama: what the recordings do not show."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from embedway.catalog import InputTypeField
from embedway.errors import InvalidRequest, UpstreamInputTooLong, UpstreamUnavailable
from embedway.providers.ollama import OLLAMA
from tests.fakes import json_response, make_deployment, make_request, numbers

PREFIX = InputTypeField(query="search_query: ", document="search_document: ")


def _deployment(**changes: Any) -> Any:
    return make_deployment(
        **{
            "name": "rack",
            "upstream_model": "nomic-embed-text",
            "base_url": "http://127.0.0.1:11434",
            "credential": None,
            "input_type": PREFIX,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({}, {}),
        ({"dimensions": 8}, {}),
        ({"dimensions": 4}, {"dimensions": 4}),
        ({"input_type": "query"}, {"input": ["search_query: a", "search_query: b"]}),
        ({"input_type": "document"}, {"input": ["search_document: a", "search_document: b"]}),
        ({"user": "u-1"}, {}),
        ({"options": b'{"ollama":{"truncate":true}}'}, {"truncate": True}),
        ({"options": b'{"ollama":{"keepAlive":"5m"}}'}, {"keep_alive": "5m"}),
        ({"options": b'{"ollama":{"keep_alive":0}}'}, {"keep_alive": 0}),
        ({"options": b'{"ollama":{"options":{"num_ctx":9}}}'}, {"options": {"num_ctx": 9}}),
    ],
)
def test_fields(params: dict[str, Any], sent: dict[str, Any]) -> None:
    """Only what Ollama lists is sent; what marks a query stands before each text; truncation is
    off but at the caller's own wish, and his options win."""
    body = orjson.loads(OLLAMA.build(make_request("a", "b", **params), _deployment()).body)
    always = {"model": "nomic-embed-text", "input": ["a", "b"], "truncate": False}
    assert body == {**always, **sent}


def test_field_that_ollama_has_not_is_refused() -> None:
    """An input type that would have to go into a field is refused, for without it the vector
    would be another."""
    field = InputTypeField(param="task_type", query="search_query", document="search_document")
    with pytest.raises(InvalidRequest, match="has no field task_type"):
        OLLAMA.build(make_request(input_type="query"), _deployment(input_type=field))
    OLLAMA.build(make_request(), _deployment(input_type=field))


@pytest.mark.parametrize("count", [6, 0, None])
def test_answer(count: int | None) -> None:
    """The vectors come in the order of the texts, with their tokens if any were counted."""
    reply = {"embeddings": [[1, 0.5], [0, -1]], "prompt_eval_count": count}
    got = OLLAMA.parse(make_request("a", "b"), _deployment(), json_response(reply))
    assert [numbers(one.vector) for one in got] == [[1, 0.5], [0, -1]]
    assert {one.is_estimated for one in got} == {not count}
    assert sum(one.tokens for one in got) == (count or 2)


def test_error_inside_a_success() -> None:
    """An error that came with status 200 is no answer."""
    with pytest.raises(ValueError, match="embeddings"):
        OLLAMA.parse(make_request(), _deployment(), json_response({"error": "busy"}))


@pytest.mark.parametrize(
    ("status", "told", "error"),
    [
        (400, "the input length exceeds the context length", UpstreamInputTooLong),
        (500, "the input length exceeds the context length", UpstreamInputTooLong),
        (500, "input length exceeds maximum context length", UpstreamInputTooLong),
        (500, "llama runner process has terminated", UpstreamUnavailable),
    ],
)
def test_refusals(status: int, told: str, error: type[Exception]) -> None:
    """A text that is too long is the caller's to mend, though some versions call it a 500."""
    explained = OLLAMA.explain(_deployment(), json_response({"error": told}, status))
    assert type(explained) is error
    assert explained.upstream_status == status
    assert told in explained.message
