"""`providerOptions.<provider>`: what each provider takes, in the AI SDK's camelCase and in the
provider's own snake_case.

An allow-list, because what passes through reaches the provider. The names are those of the AI
SDK's embedding models and of the providers' API pages, read 2026-11-21. Left out on purpose: what
makes a vector depend on the other texts of its request (Jina's late chunking), and what steers the
operator's own machine (Ollama's `options`, `keep_alive`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from embedway.errors import InvalidRequest

_OPENAI = frozenset({"dimensions", "user"})
_GOOGLE = frozenset(
    {"outputDimensionality", "output_dimensionality", "taskType", "task_type", "title"}
)
_COHERE = frozenset({"inputType", "input_type", "truncate", "outputDimension", "output_dimension"})
_DTYPE = frozenset({"outputDimension", "output_dimension", "outputDtype", "output_dtype"})
_VERTEX = _GOOGLE | {"autoTruncate", "auto_truncate"}
_BEDROCK = _COHERE | {
    "dimensions",
    "normalize",
    "embeddingDimension",
    "embeddingPurpose",
}
_JINA = frozenset(
    {
        "task",
        "inputType",
        "dimensions",
        "outputDimension",
        "embedding_type",
        "embeddingType",
        "normalized",
        "truncate",
    }
)
_TEI = frozenset(
    {
        "dimensions",
        "normalize",
        "truncate",
        "truncation_direction",
        "truncationDirection",
        "prompt_name",
        "promptName",
    }
)

ALLOWED: Mapping[str, frozenset[str]] = {
    "local": frozenset({"dimensions"}),
    "openai": _OPENAI,
    "azure": _OPENAI,
    "google": _GOOGLE,
    "vertex": _VERTEX,
    "cohere": _COHERE | {"maxTokens", "max_tokens", "priority"},
    "mistral": _DTYPE | {"metadata"},
    "voyage": _DTYPE | {"inputType", "input_type", "truncation"},
    "jina": _JINA,
    "nomic": frozenset(
        {"task_type", "taskType", "dimensionality", "long_text_mode", "longTextMode"}
    ),
    "bedrock": _BEDROCK,
    "ollama": frozenset({"dimensions", "truncate"}),
    "tei": _TEI,
    **dict.fromkeys(("together", "fireworks", "deepinfra", "nvidia"), frozenset({"dimensions"})),
    **dict.fromkeys(("lm-studio", "llama-cpp"), frozenset({"dimensions"})),
    **dict.fromkeys(("openrouter", "vercel", "vllm", "infinity", "openai-compatible"), _OPENAI),
}
"""Options each provider takes. Those of a provider that does not serve the request are ignored,
as the AI SDK sends them along whoever serves."""

OTHER_NAMES: Mapping[str, str] = {"googleVertex": "vertex", "amazonBedrock": "bedrock"}
"""The AI SDK's names for providers that have another one here."""

DIMENSIONS = frozenset(
    {
        "dimensions",
        "outputDimensionality",
        "output_dimensionality",
        "outputDimension",
        "output_dimension",
        "embeddingDimension",
        "dimensionality",
    }
)
"""The names under which a provider's options say `dimensions`; they win over the root field."""

INPUT_TYPES = frozenset(
    {"inputType", "input_type", "taskType", "task_type", "task", "embeddingPurpose"}
)
"""The names under which a provider's options say `input_type`; likewise."""

NOT_NORMALISED = frozenset({"normalize", "normalized"})
"""The names under which they can ask for vectors that do not have length 1."""

MAX_DIMENSIONS = 2**31 - 1
"""No model has as many; what is longer is a slip, and no number that others can read."""


def check_options(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options by our names of the providers, without nulls, which count as absent.

    Raises InvalidRequest naming the first provider or field that is unknown or of a wrong type.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, fields in options.items():
        at, provider = f"providerOptions.{name}"[:200], OTHER_NAMES.get(name, name)
        if provider not in ALLOWED:
            raise _unknown(at, provider, ALLOWED)
        if fields is None:
            continue
        if not isinstance(fields, dict):
            raise InvalidRequest(f"{at} must be an object of options.", param=at)
        given = {field: value for field, value in fields.items() if value is not None}
        found[provider] = found.get(provider, {}) | given
        _check_fields(provider, fields, at)
    return found


def _check_fields(provider: str, fields: Mapping[str, Any], at: str) -> None:
    for name, value in fields.items():
        if name not in ALLOWED[provider]:
            raise _unknown(f"{at}.{name}", name, ALLOWED[provider])
        if name not in DIMENSIONS or value is None:
            continue
        if type(value) is not int or not 1 <= value <= MAX_DIMENSIONS:
            raise InvalidRequest(
                f"{at}.{name} must be a whole number from 1 to {MAX_DIMENSIONS}.",
                param=f"{at}.{name}",
            )


def take(
    options: Mapping[str, dict[str, Any]], providers: Sequence[str], names: frozenset[str]
) -> Any:
    """Take what stands under *names* out of the options of *providers*; the first said counts."""
    wanted = None
    for provider in providers:
        for name in sorted(names & options.get(provider, {}).keys()):
            said = options[provider].pop(name)
            wanted = said if wanted is None else wanted
    return wanted


def is_raw(options: bytes) -> bool:
    """Whether the options (canonical JSON) ask for vectors that are not normalised."""
    if not options:
        return False
    return any(
        value is False
        for fields in orjson.loads(options).values()
        for name, value in fields.items()
        if name in NOT_NORMALISED
    )


def passed_on(
    options: bytes, provider: str, names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The options of *provider*, under the names it reads.

    options: canonical JSON, as `EmbedParams` has it. names: camelCase to the provider's own.
    """
    if not options:
        return {}
    fields: dict[str, Any] = orjson.loads(options).get(provider, {})
    return {(names or {}).get(name, name): value for name, value in fields.items()}


def _unknown(param: str, name: str, known: Any) -> InvalidRequest:
    close = difflib.get_close_matches(name[:100], list(known), 1)
    hint = f" Did you mean {close[0]}?" if close else f" Known are: {', '.join(sorted(known))}."
    return InvalidRequest(f"Unknown field {param[:200]}.{hint}", param=param[:200])


def names_of(options: bytes) -> frozenset[str]:
    """The providers that the options (canonical JSON) are for."""
    found: dict[str, dict[str, Any]] = orjson.loads(options) if options else {}
    return frozenset(name for name, fields in found.items() if fields)
