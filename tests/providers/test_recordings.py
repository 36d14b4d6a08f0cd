"""Every adapter against what the providers' own SDKs sent and read (recorded 2026-11-21).

A new recording needs no code here. Each file `recorded/<provider>.json` is a list of

    case, sdk          its name, and the SDK with its version that made it
    ours               what our gateway is asked in the same case: model (of the catalogue) and
                       texts; if any: dimensions, input_type, options, user, and in `deployment`
                       what an operator would configure. Or {"not_ours": the reason}.
    may_differ         request fields in which we send something else on purpose, with the reason:
                       a path in the body (`requests[].content.role`), or `auth` or `path`
    request            method, path, query, the headers that authenticate, body
    response_served    status, the headers that matter, body; it is what the SDK read
    sdk_read           of a 2xx: how many vectors the SDK found, the first numbers of the first, and
                       the tokens (null: the answer says nothing of tokens)
    raises             of others: the class of the error, where the status alone does not say it
    retry_after_s      of others: where the wait is not in the header `retry-after`
"""

from __future__ import annotations

import base64
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

import embedway.providers
from embedway import errors
from embedway.catalog_file import load_catalog
from embedway.provider import Deployment, HttpRequest, HttpResponse, Provider
from embedway.secret import Secret
from embedway.types import Call, EmbedParams, EmbedRequest, Grant

CATALOG = load_catalog()
PROVIDERS = dict(embedway.providers.PROVIDERS) | {
    value.name: value
    for module in pkgutil.iter_modules(embedway.providers.__path__)
    for value in vars(importlib.import_module(f"embedway.providers.{module.name}")).values()
    if isinstance(value, Provider)
}
AUTH_HEADERS = ("authorization", "api-key", "x-api-key", "x-goog-api-key", "x-amz-security-token")
ERRORS = {
    400: "UpstreamRejected",
    401: "UpstreamUnauthorized",
    403: "UpstreamUnauthorized",
    404: "UpstreamModelNotFound",
    422: "UpstreamRejected",
    429: "UpstreamRateLimited",
    500: "UpstreamUnavailable",
    503: "UpstreamUnavailable",
}
NO_VALUE = "no value"


def _cases(*, ok: bool | None = None) -> list[Any]:
    """(provider, recording) of all cases that are ours; of those answered with 2xx, or not."""
    return [
        pytest.param(PROVIDERS[file.stem], case, id=f"{file.stem}-{case['case']}")
        for file in sorted((Path(__file__).parent / "recorded").glob("*.json"))
        for case in json.loads(file.read_text("utf-8"))
        if "not_ours" not in case["ours"]
        if ok is None or ok == (case["response_served"]["status"] < 300)
    ]


def request_of(ours: dict[str, Any]) -> EmbedRequest:
    """What our gateway is asked, as it arrives at the adapter."""
    options = ours.get("options")
    return EmbedRequest(
        params=EmbedParams(
            model=ours["model"],
            dimensions=ours.get("dimensions"),
            input_type=ours.get("input_type"),
            options=json.dumps(options, sort_keys=True).encode() if options else b"",
        ),
        inputs=tuple(text if isinstance(text, str) else tuple(text) for text in ours["texts"]),
        call=Call(id="1", grant=Grant.open(), deadline=0.0, user=ours.get("user")),
    )


def deployment_of(provider: Provider, ours: dict[str, Any]) -> Deployment:
    """The deployment that the catalogue and the operator's configuration make together."""
    found = CATALOG.find(ours["model"])
    assert found is not None, f"{ours['model']} is not in the catalogue"
    model = found.model
    configured = dict(ours.get("deployment", {}))
    credential = configured.pop("credential", "<redacted>")
    fields: dict[str, Any] = {
        "name": provider.name,
        "model": model.id,
        "dimensions": model.dimensions.default,
        "price": 0,
        "base_url": provider.base_url or "",
        "credential": None if credential is None else Secret(credential),
    }
    if (offer := model.offer(provider.name)) is not None:
        fields["upstream_model"] = offer.upstream_id
        fields["takes_dimensions"] = offer.dimensions_param is not None
        fields["input_type"] = offer.input_type
        fields["max_inputs"] = offer.max_inputs or 2048
        fields["normalised"] = offer.normalised or model.normalised
    elif (kind := CATALOG.kind(provider.name)) is not None:
        fields["takes_dimensions"] = kind.dimensions_param is not None
        fields["max_inputs"] = kind.max_inputs or 2048
        fields["normalised"] = kind.normalised
    return Deployment(**{**fields, **configured})


def response_of(case: dict[str, Any]) -> HttpResponse:
    """The answer served, as the transport hands it over."""
    served = case["response_served"]
    return HttpResponse(served["status"], served["headers"], json.dumps(served["body"]).encode())


def _sent_by_us(request: HttpRequest) -> dict[str, Any]:
    url = urlsplit(request.url)
    return _comparable(
        {
            "method": request.method,
            "path": url.path,
            "query": [list(pair) for pair in parse_qsl(url.query, keep_blank_values=True)],
            "headers": request.headers,
            "body": json.loads(request.body),
        }
    )


def _comparable(request: dict[str, Any]) -> dict[str, Any]:
    """Without what means nothing: a null field, and whether one text is in a list."""
    body = _without_nulls(request["body"])
    given = body.get("input")
    if isinstance(given, str) or (isinstance(given, list) and type(given[0]) is int):
        body["input"] = [given]
    headers = {name.lower(): value for name, value in request["headers"].items()}
    return {
        "method": request["method"],
        "path": request["path"],
        "query": sorted(request["query"]),
        "auth": {name: headers[name] for name in AUTH_HEADERS if name in headers},
        "body": body,
    }


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return value


def _take(value: Any, path: str) -> Any:
    """Take what stands at *path* out of *value*; objects left empty by that go, too."""
    name, _, rest = path.partition(".")
    if name.endswith("[]") and rest:
        return [_take(item, rest) for item in value.get(name[:-2], [])]
    if not rest:
        return value.pop(name, NO_VALUE)
    taken = _take(value[name], rest) if name in value else NO_VALUE
    if value.get(name) == {}:
        del value[name]
    return taken


def _vectors(body: Any) -> list[bytes]:
    """The vectors in an answer's *body*, float32, read without the adapters."""
    if "data" in body:
        found = [item["embedding"] for item in sorted(body["data"], key=lambda i: i["index"])]
    elif "predictions" in body:
        found = [item["embeddings"]["values"] for item in body["predictions"]]
    elif "embedding" in body:
        only = body["embedding"]
        found = [only["values"] if isinstance(only, dict) else only]
    elif isinstance(body["embeddings"], dict):
        found = body["embeddings"]["float"]
    else:
        found = [
            item.get("values") or item.get("embedding") if isinstance(item, dict) else item
            for item in body["embeddings"]
        ]
    return [
        base64.b64decode(item) if isinstance(item, str) else np.array(item, "<f4").tobytes()
        for item in found
    ]


@pytest.mark.parametrize(("provider", "case"), _cases())
def test_request_is_the_sdks(provider: Provider, case: dict[str, Any]) -> None:
    """We send the method, path, query, credentials and body fields that the provider's SDK sends,
    but for the differences that the recording gives a reason for, and those are real."""
    ours = case["ours"]
    built = provider.build(request_of(ours), deployment_of(provider, ours))
    sent, recorded = _sent_by_us(built), _comparable(case["request"])
    for field, reason in case.get("may_differ", {}).items():
        path = field if field in ("auth", "path") else f"body.{field}"
        assert _take(sent, path) != _take(recorded, path), f"{field} no longer differs: {reason}"
    assert sent == recorded
    assert built.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("provider", "case"), _cases(ok=True))
def test_answer_is_read_as_the_sdk_reads_it(provider: Provider, case: dict[str, Any]) -> None:
    """The answer gives one vector for each text, the body's own to the last bit, and as many
    tokens as the SDK found; where it found none, ours are marked as estimated."""
    request, deployment = request_of(case["ours"]), deployment_of(provider, case["ours"])
    embeddings = provider.parse(request, deployment, response_of(case))
    vectors = [embedding.vector for embedding in embeddings]
    assert len(vectors) == len(request.inputs) == case["sdk_read"]["vectors"]
    assert vectors == _vectors(case["response_served"]["body"])
    first = np.frombuffer(vectors[0], "<f4")[: len(case["sdk_read"]["first"])]
    np.testing.assert_allclose(first, case["sdk_read"]["first"], atol=1e-6)
    tokens = case["sdk_read"]["tokens"]
    assert {embedding.is_estimated for embedding in embeddings} == {tokens is None}
    assert tokens is None or sum(embedding.tokens for embedding in embeddings) == tokens
    assert not any(embedding.is_truncated for embedding in embeddings)


@pytest.mark.parametrize(("provider", "case"), _cases(ok=False))
def test_refusal_is_explained(provider: Provider, case: dict[str, Any]) -> None:
    """An answer that is not 2xx gives the error its status stands for, and the wait it asks for."""
    served = case["response_served"]
    error = provider.explain(deployment_of(provider, case["ours"]), response_of(case))
    assert type(error) is getattr(errors, case.get("raises", ERRORS[served["status"]]))
    assert error.upstream_status == served["status"]
    wait = case.get("retry_after_s", served["headers"].get("retry-after"))
    assert error.retry_after_s == (None if wait is None else float(wait))
