"""The schemas of `/openapi.json`, from the types that the code itself decodes and answers with."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec

from embedway.options import ALLOWED, DIMENSIONS, MAX_DIMENSIONS
from embedway.server import (
    ai_sdk_schemas,
    catalogue_schemas,
    management_cache_schemas,
    management_key_schemas,
    management_money_schemas,
    management_state_schemas,
    schemas,
)
from embedway.server.ai_sdk import EmbeddingModelBody
from embedway.server.management_cache_schemas import PurgeBody
from embedway.server.management_key_schemas import NewKeyBody, RotateBody
from embedway.server.management_money_schemas import BudgetBody
from embedway.server.wire import MAX_INPUTS, EmbeddingsBody, GatewayOptions
from embedway.vector_files import KeptVector

_MODULES = (
    schemas,
    catalogue_schemas,
    ai_sdk_schemas,
    management_cache_schemas,
    management_key_schemas,
    management_money_schemas,
    management_state_schemas,
)
REFERENCE = "#/components/schemas/{name}"


def build_components() -> dict[str, Any]:
    """Name to schema."""
    kinds = [kind for module in _MODULES for kind in _answers(module)]
    kinds += [EmbeddingsBody, EmbeddingModelBody, GatewayOptions, KeptVector]
    kinds += [NewKeyBody, RotateBody, BudgetBody, PurgeBody]
    _, components = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    _sharpen(components)
    return components


def reference(name: str) -> dict[str, str]:
    """A schema by its name."""
    return {"$ref": REFERENCE.format(name=name)}


def _answers(module: ModuleType) -> list[type]:
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, schemas.Body)
        and kind is not schemas.Body
        and kind.__module__ == module.__name__
    ]


def _sharpen(components: dict[str, Any]) -> None:
    """Say what the types cannot: no input is empty, at most 2,048 fit, and which options exist."""
    text = {"type": "string", "minLength": 1}
    texts = {"type": "array", "minItems": 1, "maxItems": MAX_INPUTS, "items": text}
    tokens = {"type": "array", "minItems": 1, "items": reference("TokenId")}
    components["TokenId"] = {
        "description": "An id of the cl100k vocabulary.",
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 100_255},
            {"enum": [100_257, 100_258, 100_259, 100_260, 100_276]},
        ],
    }
    body, values = components["EmbeddingsBody"], components["EmbeddingModelBody"]
    body["properties"]["input"] = {
        "description": body["properties"]["input"]["description"],
        "anyOf": [text, texts, tokens, {**texts, "items": tokens}],
    }
    values["properties"]["values"] |= texts
    _sharpen_options(components)
    components["AiSdk5Body"] = {
        "type": "object",
        "description": "AI SDK 5 spreads the options of providers at the root.",
        "properties": {
            "input": body["properties"]["input"],
            "dimensions": values["properties"]["dimensions"],
            "providerOptions": values["properties"]["providerOptions"],
        },
        "required": ["input"],
        "examples": [{"input": "one", "openai": {"dimensions": 64}}],
    }
    body["examples"] = [
        {"model": "local/wordllama-256", "input": "The quick brown fox"},
        {"model": "local/wordllama-256", "input": ["one", "two"], "dimensions": 64},
    ]
    values["examples"] = [{"values": ["one", "two"]}]


def _sharpen_options(components: dict[str, Any]) -> None:
    components["ProviderOptions"] = _provider_options()
    for name in ("EmbeddingsBody", "EmbeddingModelBody"):
        field = components[name]["properties"]["providerOptions"]
        field["anyOf"] = [reference("ProviderOptions"), {"type": "null"}]
    components["GatewayOptions"]["properties"]["byok"]["anyOf"] = [_byok(), {"type": "null"}]


def _provider_options() -> dict[str, Any]:
    """An object of objects, closed at both levels."""
    width = {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_DIMENSIONS}
    properties: dict[str, Any] = {"gateway": _or_null(reference("GatewayOptions"))}
    for provider, names in ALLOWED.items():
        properties[provider] = _or_null(
            {
                "type": "object",
                "properties": {name: width if name in DIMENSIONS else {} for name in sorted(names)},
                "additionalProperties": False,
            }
        )
    return {
        "type": "object",
        "description": "Routing under gateway; what each provider takes under its own name.",
        "properties": properties,
        "additionalProperties": False,
    }


def _byok() -> dict[str, Any]:
    key = {"type": "string", "pattern": "^[ -~]+$"}
    credential = {
        "type": "object",
        "properties": {"apiKey": key},
        "required": ["apiKey"],
        "additionalProperties": False,
    }
    credentials = {"type": "array", "minItems": 1, "items": credential}
    return {"type": "object", "additionalProperties": _or_null(credentials)}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}
