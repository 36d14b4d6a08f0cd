"""The providers' official SDKs and our adapters, side by side, against the fake over real sockets.

The SDK must read the fake's answer as the true vectors, so that the fake cannot drift away from
what the SDK knows; and our adapter must send what the SDK sends, but for the differences listed
with the SDK, and read the same vectors and tokens. The SDKs are slow to import, so each is
imported by the first test that needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from embedway.transport import Transport
from tests.fake_provider import faults
from tests.fake_provider.bench import (
    Wanted,
    check_books,
    check_vectors,
    make_bench,
    true_vectors,
)
from tests.fake_provider.exchange import Request
from tests.fake_provider.sdk_calls import (
    CASES,
    Ask,
    Case,
    azure_deployments,
    azure_v1,
    bedrock,
    bedrock_cohere,
    cohere,
    gemini,
    look_alike,
    mistral,
    nova,
    ollama,
    openai_itself,
    titan,
    vertex,
    voyage,
)
from tests.fake_provider.server import FakeProvider, running_fake
from tests.fakes import make_request

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True)
class Sdk:
    """An SDK's way to one model of a provider."""

    name: str
    ask: Ask
    provider: str
    model: str
    """Our name of the model."""
    shorter: int | None = None
    """Dimensions to ask for; None where it has one width only."""
    differs: Mapping[str, str] = field(default_factory=dict)
    """Where our request is another on purpose, with the reason. Elsewhere it is the SDK's."""
    account: Mapping[str, Any] = field(default_factory=dict)
    """What the operator configures beside address and key."""


SMALL = "openai/text-embedding-3-small"
WHOLE = "a text that is too long must be refused, not cut"
SDKS = (
    Sdk("openai", openai_itself, "openai", SMALL, 256),
    Sdk("openai ada", openai_itself, "openai", "openai/text-embedding-ada-002"),
    Sdk("azure", azure_deployments, "azure", SMALL, 256),
    Sdk(
        "azure v1",
        azure_v1,
        "azure",
        SMALL,
        256,
        {
            "headers.authorization": "a key goes where Azure's keys go",
            "headers.api-key": "likewise",
        },
        {"api_version": ""},
    ),
    Sdk("openrouter", look_alike("openrouter"), "openrouter", SMALL, 256),
    Sdk("openai-compatible", look_alike("openai-compatible"), "openai-compatible", "rack/small"),
    Sdk(
        "vllm",
        look_alike("vllm"),
        "vllm",
        "rack/small",
        8,
        {"headers.authorization": "the account has no key; the SDK must have one"},
    ),
    Sdk("cohere", cohere, "cohere", "cohere/embed-v4.0", 256, {"body.truncate": WHOLE}),
    Sdk("cohere v3", cohere, "cohere", "cohere/embed-english-v3.0", None, {"body.truncate": WHOLE}),
    Sdk(
        "mistral",
        mistral,
        "mistral",
        "mistral/codestral-embed",
        256,
        {"body.encoding_format": "base64 is the cheapest to read; the SDK cannot read it"},
    ),
    Sdk("gemini 001", gemini, "google", "google/gemini-embedding-001", 768),
    Sdk("gemini 2", gemini, "google", "google/gemini-embedding-2", 768),
    Sdk(
        "vertex predict",
        vertex,
        "vertex",
        "google/text-embedding-005",
        256,
        {"body.parameters.autoTruncate": WHOLE},
    ),
    Sdk(
        "vertex gemini 001",
        vertex,
        "vertex",
        "google/gemini-embedding-001",
        768,
        {"body.embedContentConfig.autoTruncate": WHOLE},
    ),
    Sdk(
        "vertex gemini 2",
        vertex,
        "vertex",
        "google/gemini-embedding-2",
        768,
        {"body.embedContentConfig.autoTruncate": WHOLE},
    ),
    Sdk("voyage", voyage, "voyage", "voyage/voyage-4", 256, {"body.truncation": WHOLE}),
    Sdk("titan v1", bedrock(titan, 1), "bedrock", "amazon/titan-embed-text-v1"),
    Sdk("titan v2", bedrock(titan, 1), "bedrock", "amazon/titan-embed-text-v2", 256),
    Sdk("nova", bedrock(nova, 1), "bedrock", "amazon/nova-2-multimodal-embeddings-v1", 256),
    Sdk(
        "cohere v3 on bedrock",
        bedrock(bedrock_cohere, 96),
        "bedrock",
        "cohere/embed-english-v3.0",
        None,
        {"body.truncate": WHOLE},
    ),
    Sdk(
        "cohere v4 on bedrock",
        bedrock(bedrock_cohere, 96),
        "bedrock",
        "cohere/embed-v4.0",
        256,
        {"body.truncate": WHOLE},
    ),
    Sdk("ollama", ollama, "ollama", "rack/small", 8, {"body.truncate": WHOLE}),
)


def first_of_each() -> list[Sdk]:
    """One way to each provider."""
    return list({sdk.provider: sdk for sdk in reversed(SDKS)}.values())


def cases() -> list[Any]:
    """Every case of every SDK that it can ask."""
    return [
        pytest.param(sdk, case, id=f"{sdk.name}-{case.name}".replace(" ", "-"))
        for sdk in SDKS
        for case in CASES
        if sdk.shorter is not None or not case.is_shorter
    ]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """SDKs read proxies, profiles and addresses from the environment; here there are none."""
    for name in (*PROXIES, "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


# google-genai 3.4 makes that class at its first call.
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
@pytest.mark.parametrize(("sdk", "case"), cases())
async def test_sdk_and_adapter_agree(sdk: Sdk, case: Case) -> None:
    """SDK and adapter send the same but for the listed differences, all of which are real, and
    read the true vectors and the fake's own count of tokens from its answers."""
    width = sdk.shorter if case.is_shorter else None
    asked = Wanted(sdk.model, list(case.texts), width, case.input_type)
    async with running_fake() as fake, Transport() as send:
        served = make_bench(fake, sdk.provider, send, **sdk.account)
        upstream_model = served.deployments[sdk.model].upstream_model
        case = Case(case.name, case.texts, case.input_type, case.is_shorter, width)
        vectors, tokens = await sdk.ask(fake, case, upstream_model)
        theirs, their_bill = take(fake), fake.bill.tokens
        fake.bill.clear()
        request = make_request(
            *case.texts, model=sdk.model, dimensions=width, input_type=case.input_type
        )
        response = await served.gateway(request)
        ours = take(fake)
        check_books(served, asked, response)
    true = true_vectors(served, asked)
    check_vectors([unit(vector) for vector in vectors], true)
    check_vectors([embedding.vector for embedding in response.embeddings], true)
    assert tokens in (None, their_bill)
    assert differences(theirs, ours) == set(sdk.differs)
    if tokens is not None:
        assert sum(embedding.tokens for embedding in response.embeddings) == tokens


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
@pytest.mark.parametrize("status", [400, 404, 429])
@pytest.mark.parametrize("sdk", first_of_each(), ids=lambda sdk: sdk.provider)
async def test_sdk_reads_refusals(sdk: Sdk, status: int) -> None:
    """The SDK finds the words of the fake's refusal where the real service has them."""
    async with running_fake() as fake:
        served = make_bench(fake, sdk.provider, fake.send)
        upstream_model = served.deployments[sdk.model].upstream_model
        fake.next(faults.status(status, "these are the words", retry_after_s=1))
        with pytest.raises(Exception, match="these are the words"):
            await sdk.ask(fake, CASES[0], upstream_model)
        assert len(fake.requests) == 1


def unit(vector: Sequence[float]) -> bytes:
    """The vector with length 1, packed; the SDK hands on what came."""
    numbers = np.array(vector, np.float64)
    return bytes((numbers / np.linalg.norm(numbers)).astype("<f4").tobytes())


def take(fake: FakeProvider) -> list[dict[str, Any]]:
    """What came since the last time, each request as a flat mapping; in the order of the texts."""
    came = sorted((flat(request) for request in fake.requests), key=str)
    fake.requests.clear()
    return came


def flat(request: Request) -> dict[str, Any]:
    """All that counts in a request, by its place: `body.input[0]`, `headers.authorization`."""
    body = request.json()
    if isinstance(body.get("input"), str):
        body["input"] = [body["input"]]  # one text may stand alone
    found = {
        "method": request.method,
        "path": f"/{request.provider}{request.path}",
        "query": sorted(request.query),
    }
    for name in ("authorization", "api-key", "x-api-key", "x-goog-api-key"):
        if name in request.headers:
            # Of a signature only whose it is and what for; the fake has checked the rest.
            found[f"headers.{name}"] = re.sub(
                r"/\d{8}/|, SignedHeaders.*", "/", request.headers[name]
            )
    return found | dict(_leaves("body", body))


def _leaves(at: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values below *value* that are no containers; null counts as absent."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{at}.{name}", inner)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(f"{at}[{place}]", inner)
    elif value is not None:
        yield at, value


def differences(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> set[str]:
    """The places where the two differ, without positions."""
    assert len(theirs) == len(ours)
    return {
        re.sub(r"\[\d+\]", "[]", place)
        for one, other in zip(theirs, ours, strict=True)
        for place in one.keys() | other.keys()
        if one.get(place) != other.get(place)
    }
