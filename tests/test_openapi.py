from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import orjson
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from msgspec import Struct
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response as SchemaResponse
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from embedway.server import (
    ai_sdk_schemas,
    catalogue_schemas,
    management_cache_schemas,
    management_key_schemas,
    management_money_schemas,
    management_state_schemas,
    schemas,
)
from embedway.server.error_codes import error_table
from embedway.server.openapi import build_document
from embedway.settings import Settings
from tests.asgi import HOST, MODEL, Response, bearer, call, embed, running
from tests.server.provider import SMALL, failure, with_openai
from tests.server.staying import staying

Send = Callable[[requests.PreparedRequest], Response]

schemathesis.serializer.alias("application/jsonl", "text/plain")
DOCUMENT = build_document()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [
    (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
# What a model or this server allows is narrower than the document (lengths, names), so that sound
# requests may be refused: schemathesis' check that they are not is left out.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    allow_header_conformance,
    unsupported_method,
]


@pytest.fixture(scope="module")
def send(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Send]:
    """Sends to an application that lives in a loop of its own, since schemathesis has none."""
    with asyncio.Runner() as runner:
        context = running(Settings(home=str(tmp_path_factory.mktemp("home"))))
        app = runner.run(context.__aenter__())
        # The first key that a request makes would close an open server to all that follow.
        admin = bearer(app.runtime.keys.create("boss", type="admin")[1])

        def send(request: requests.PreparedRequest) -> Response:
            url = urlsplit(str(request.url))
            path = f"{url.path}?{url.query}" if url.query else url.path
            data = request.body or b""
            body = data.encode() if isinstance(data, str) else data
            others = {k: v for k, v in request.headers.items() if k.lower() != "authorization"}
            headers = {**others, **admin}
            return runner.run(call(staying(app), str(request.method), path, headers, body))

        yield send
        runner.run(context.__aexit__(None, None, None))


TIMEOUT = "x-request-timeout-ms"


@SCHEMA.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_route_answers_as_the_document_says(case: Case, send: Send) -> None:
    """Whatever is sent to a route, sound or not, the answer is one that the document describes,
    and never a failure of ours."""
    # What he has no time for is not answered: a failure, but the caller's own wish.
    case.headers = {k: v for k, v in case.headers.items() if k.lower() != TIMEOUT}
    request = requests.Request(**case.as_transport_kwargs(base_url=f"http://{HOST}")).prepare()
    response = send(request)
    case.validate_response(
        SchemaResponse(
            status_code=response.status,
            headers={name: [value] for name, value in response.headers.items()},
            content=response.body,
            request=request,
            elapsed=0.01,
            verify=False,
        ),
        checks=CHECKS,
    )


def test_the_document_holds_every_route() -> None:
    """The document has the contract's routes, no more and no less, and each says what it is."""
    assert set(DOCUMENT["paths"]) == {
        "/v1/embeddings",
        "/embeddings",
        "/v1/models",
        "/v1/models/{id}",
        "/v1/embeddings/models",
        "/v1/models/{creator}/{model}/endpoints",
        "/v4/ai/embedding-model",
        "/v3/ai/embedding-model",
        "/v1/ai/embedding-model",
        "/v1/embedding-model",
        "/v4/ai/config",
        "/v3/ai/config",
        "/v1/ai/config",
        "/v1/generation",
        "/v1/credits",
        "/v1/management/cache",
        "/v1/management/cache/purge",
        "/v1/management/cache/export",
        "/v1/management/cache/warm",
        "/v1/management/api-keys",
        "/v1/management/api-keys/{id}",
        "/v1/management/api-keys/{id}/rotate",
        "/v1/management/projects",
        "/v1/management/budgets",
        "/v1/management/budgets/{owner_kind}/{owner}/{period}",
        "/v1/management/usage",
        "/v1/management/usage/attempts",
        "/v1/management/usage/attempts/unknown",
        "/v1/management/providers",
        "/v1/management/settings",
        "/livez",
        "/readyz",
        "/healthz",
        "/health",
        "/health/liveliness",
        "/health/readiness",
        "/metrics",
        "/openapi.json",
        "/docs",
    }
    for _, path, operation in OPERATIONS:
        assert operation["summary"], path
        assert {"200", "403", "405", "431", "500", "503"} <= set(operation["responses"]), path
        assert ("security" in operation) == ("401" in operation["responses"]), path


def test_every_field_of_a_request_says_what_it_is() -> None:
    """The fields of the bodies have descriptions, and their limits are those of the contract."""
    components = DOCUMENT["components"]["schemas"]
    for name in (
        "EmbeddingsBody",
        "EmbeddingModelBody",
        "GatewayOptions",
        "PurgeBody",
        "NewKeyBody",
        "RotateBody",
        "BudgetBody",
        "RateLimits",
    ):
        for field, schema in components[name]["properties"].items():
            described = schema.get("description") or "$ref" in str(schema)
            assert described, f"{name}.{field}"
    body = components["EmbeddingsBody"]
    assert body["required"] == ["model", "input"]
    assert body["additionalProperties"] is False
    texts = body["properties"]["input"]["anyOf"][1]
    assert (texts["minItems"], texts["maxItems"], texts["items"]["minLength"]) == (1, 2048, 1)


def test_every_code_is_told_with_its_statuses() -> None:
    """The table of codes is part of the document, and each status a route may give names the codes
    that go with it."""
    assert DOCUMENT["x-error-codes"] == error_table()
    told = orjson.dumps([operation["responses"] for _, _, operation in OPERATIONS]).decode()
    for row in error_table():
        assert row["code"] in told


def test_references_lead_somewhere() -> None:
    """No reference of the document points at a schema that is not in it, and no schema is idle."""
    components = DOCUMENT["components"]["schemas"]
    used = set(re.findall(r"#/components/schemas/(\w+)", orjson.dumps(DOCUMENT).decode()))
    assert used == set(components)


def holds_all(value: Any, kind: Any, at: str = "$") -> None:
    """Assert that *value* has exactly the fields of *kind*, at any depth where *kind* is known."""
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return
    assert isinstance(value, dict), at
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    demanded = {name for name, field in fields.items() if field.required}
    assert demanded <= set(value) <= set(fields), at
    for name, inner in value.items():
        holds_all(inner, fields[name].type, f"{at}.{name}")


async def _answers(home: Path) -> dict[str, tuple[Any, Response]]:
    """Name to the type an answer must have, and the answer."""
    context, _ = with_openai(home)
    async with context as app:
        good = await embed(app)
        id = good.json()["gateflow"]["request_id"]
        ai = {"ai-model-id": MODEL}
        fallbacks = {"fallbacks": [MODEL]}
        ask = "/v4/ai/embedding-model"

        async def get(path: str) -> Response:
            return await call(app, "GET", path)

        return {
            "floats": (schemas.EmbeddingsAnswer, good),
            "base64": (schemas.EmbeddingsAnswer, await embed(app, encoding_format="base64")),
            "paid": (schemas.EmbeddingsAnswer, await embed(app, model=SMALL, input_type="query")),
            "fallback": (
                schemas.EmbeddingsAnswer,
                await embed(app, model="cohere/embed-v4.0", gateflow=fallbacks),
            ),
            "error": (schemas.ErrorAnswer, await embed(app, input="")),
            "models": (catalogue_schemas.ModelList, await get("/v1/models")),
            "model": (catalogue_schemas.ModelEntry, await get(f"/v1/models/{MODEL}")),
            "endpoints": (
                catalogue_schemas.EndpointsAnswer,
                await get(f"/v1/models/{SMALL}/endpoints"),
            ),
            "generation": (catalogue_schemas.Generation, await get(f"/v1/generation?id={id}")),
            "credits": (catalogue_schemas.Credits, await get("/v1/credits")),
            "health": (catalogue_schemas.Health, await get("/health")),
            "cache": (management_cache_schemas.CacheStats, await get("/v1/management/cache")),
            "purged": (
                management_cache_schemas.Purged,
                await call(app, "POST", "/v1/management/cache/purge", body={"model": MODEL}),
            ),
            "keys": (management_key_schemas.KeyList, await get("/v1/management/api-keys")),
            "projects": (
                management_money_schemas.ProjectList,
                await get("/v1/management/projects"),
            ),
            "usage": (
                management_money_schemas.UsageAnswer,
                await get("/v1/management/usage?by=model,user"),
            ),
            "attempts": (
                management_money_schemas.AttemptsAnswer,
                await get("/v1/management/usage/attempts"),
            ),
            "providers": (
                management_state_schemas.ProviderList,
                await get("/v1/management/providers"),
            ),
            "settings": (
                management_state_schemas.SettingList,
                await get("/v1/management/settings"),
            ),
            "values": (
                ai_sdk_schemas.AiSdkAnswer,
                await call(app, "POST", ask, ai, {"values": ["a"]}),
            ),
            "config": (ai_sdk_schemas.AiSdkConfig, await get("/v3/ai/config")),
            "AI SDK's error": (
                ai_sdk_schemas.AiSdkError,
                await call(app, "POST", ask, ai, {"values": []}),
            ),
        }


async def test_answers_are_what_their_types_say(tmp_path: Path) -> None:
    """Every kind of answer decodes strictly into its type and has no field that is not in it."""
    answers = await _answers(tmp_path / "good")
    context, _ = with_openai(tmp_path / "bad", failure(503))
    async with context as app:
        answers["provider's error"] = (schemas.ErrorAnswer, await embed(app, model=SMALL))
        answers["fallback after an error"] = (
            schemas.EmbeddingsAnswer,
            await embed(app, model=SMALL, gateflow={"fallbacks": [MODEL]}),
        )
    for name, (kind, response) in answers.items():
        decoded = msgspec.json.decode(response.body, type=kind, strict=True)
        assert orjson.loads(msgspec.json.encode(decoded)) == response.json(), name
        holds_all(response.json(), kind, name)


async def test_the_document_is_served(tmp_path: Path) -> None:
    """`GET /openapi.json` is this document, and every example in it is a request that works."""
    async with running(Settings(home=str(tmp_path))) as app:
        served = await call(app, "GET", "/openapi.json")
        assert served.json() == orjson.loads(orjson.dumps(DOCUMENT))
        for example in DOCUMENT["components"]["schemas"]["EmbeddingsBody"]["examples"]:
            assert (await call(app, "POST", "/v1/embeddings", body=example)).status == 200
