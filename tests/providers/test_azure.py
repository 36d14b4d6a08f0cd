"""Azure OpenAI: what the recordings do not show."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from embedway.errors import (
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnauthorized,
)
from embedway.providers.azure import AZURE
from embedway.secret import Secret
from tests.fakes import json_response, make_deployment, make_request

HOST = "https://x.openai.azure.com"
TOKEN = "eyJ0eXAiOiJKV1Qi.eyJhdWQiOiJj.c2lnbmF0dXJl"


def _deployment(**changes: Any) -> Any:
    return make_deployment(
        **{"name": "azure-eu", "upstream_model": "my-deploy", "base_url": HOST, **changes}
    )


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, f"{HOST}/openai/v1/embeddings"),
        ({"base_url": f"{HOST}/openai/v1"}, f"{HOST}/openai/v1/embeddings"),
        (
            {"base_url": f"{HOST}/openai/v1", "api_version": "preview"},
            f"{HOST}/openai/v1/embeddings?api-version=preview",
        ),
        (
            {"api_version": "2024-10-21"},
            f"{HOST}/openai/deployments/my-deploy/embeddings?api-version=2024-10-21",
        ),
        (
            {"api_version": "2024-10-21", "upstream_model": "a b/c"},
            f"{HOST}/openai/deployments/a%20b%2Fc/embeddings?api-version=2024-10-21",
        ),
    ],
)
def test_paths(changes: dict[str, Any], url: str) -> None:
    """An api-version means the path of deployments, none means v1; the body names the deployment
    on both."""
    deployment = _deployment(**changes)
    built = AZURE.build(make_request(), deployment)
    assert built.url == url
    assert orjson.loads(built.body)["model"] == deployment.upstream_model


@pytest.mark.parametrize(
    ("credential", "headers"),
    [
        ("0123456789abcdef0123456789abcdef", {"api-key": "0123456789abcdef0123456789abcdef"}),
        (TOKEN, {"authorization": f"Bearer {TOKEN}"}),
        (None, {}),
    ],
)
def test_credential(credential: str | None, headers: dict[str, str]) -> None:
    """A key goes into api-key, a token of Entra into a bearer, and never both."""
    deployment = _deployment(credential=None if credential is None else Secret(credential))
    built = AZURE.build(make_request(), deployment)
    sent = {name: built.headers[name] for name in built.headers if name in ("api-key", *headers)}
    assert sent == headers
    assert ("authorization" in built.headers) == ("authorization" in headers)


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({}, {}),
        ({"dimensions": 4}, {"dimensions": 4}),
        ({"user": "u-1"}, {"user": "u-1"}),
        ({"user": "u-1", "options": b'{"azure":{"user":"u-2"}}'}, {"user": "u-2"}),
    ],
)
def test_fields(params: dict[str, Any], sent: dict[str, Any]) -> None:
    """The body is OpenAI's, and the caller's options win."""
    body = orjson.loads(AZURE.build(make_request(**params), _deployment()).body)
    always = {"model": "my-deploy", "input": ["a text"], "encoding_format": "base64"}
    assert body == {**always, **sent}


def test_token_ids_pass_through() -> None:
    """Azure takes cl100k token ids, so they are handed on as they are."""
    body = orjson.loads(AZURE.build(make_request((1, 2), (3,)), _deployment()).body)
    assert body["input"] == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"error": {"code": "401", "message": "Access denied"}}, UpstreamUnauthorized),
        (401, {"statusCode": 401, "message": "Unauthorized"}, UpstreamUnauthorized),
        (404, {"error": {"code": "DeploymentNotFound", "message": "no"}}, UpstreamModelNotFound),
        (404, {"error": {"code": "404", "message": "Resource not found"}}, UpstreamModelNotFound),
        (400, {"error": {"code": "OperationNotSupported", "message": "no"}}, UpstreamRejected),
        (429, b"slow down", UpstreamRateLimited),
    ],
)
def test_refusals(status: int, body: Any, error: type[Exception]) -> None:
    """Codes that are numbers in quotes, missing fields and plain text are all understood."""
    assert type(AZURE.explain(_deployment(), json_response(body, status))) is error


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({}, 2.0),
    ],
)
def test_wait(headers: dict[str, str], wait: float) -> None:
    """How long to wait is read from a header, and where there is none from the message."""
    told = {"error": {"code": "429", "message": "Requests have exceeded call rate limit of your "
            "current OpenAI S0 pricing tier. Please retry after 2 seconds."}}  # fmt: skip
    explained = AZURE.explain(_deployment(), json_response(told, 429, headers))
    assert explained.retry_after_s == wait
