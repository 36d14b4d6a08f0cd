"""How the providers' official SDKs ask: one function each, from a case to vectors and tokens.

The SDKs are slow to import, so each is imported when it is first called.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tests.fake_provider.exchange import KEY
from tests.fake_provider.server import FakeProvider
from tests.fake_provider.signature import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

Read = tuple[Sequence[Sequence[float]], int | None]
"""What an SDK hands its user: the vectors, and the tokens if it knows them."""
Ask = Callable[[FakeProvider, "Case", str], Awaitable[Read]]
"""Asks the fake through an SDK for a model, in the provider's name of it."""

TEXTS = ("The cat sat.", "Ein Hund läuft 🐕", "third\ntext, ünïcode\u00a0日本語")


@dataclass(frozen=True)
class Case:
    """What is asked, of every provider the same."""

    name: str
    texts: tuple[str, ...]
    input_type: Literal["query", "document"]
    is_shorter: bool = False
    dimensions: int | None = None


CASES = (
    Case("one text", TEXTS[:1], "query"),
    Case("three texts", TEXTS, "document"),
    Case("shorter", TEXTS[:1], "document", is_shorter=True),
)


def sdk_module(name: str) -> Any:
    """The module of an SDK. What it warns of while it is imported is its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


async def openai(fake: FakeProvider, case: Case, model: str, base_url: str) -> Read:
    """The SDK of OpenAI, whose look-alikes have no other."""
    sdk = sdk_module("openai")
    async with sdk.AsyncOpenAI(api_key=KEY, base_url=base_url, max_retries=0) as client:
        return await _ask_openai(client, case, model)


async def openai_itself(fake: FakeProvider, case: Case, model: str) -> Read:
    """OpenAI."""
    return await openai(fake, case, model, fake.url("openai"))


def look_alike(provider: str) -> Ask:
    """OpenAI's SDK with the base URL of another."""

    async def ask(fake: FakeProvider, case: Case, model: str) -> Read:
        return await openai(fake, case, model, fake.url(provider))

    return ask


async def azure_deployments(fake: FakeProvider, case: Case, model: str) -> Read:
    """Azure with an API version."""
    sdk = sdk_module("openai")
    client = sdk.AsyncAzureOpenAI(
        api_key=KEY, azure_endpoint=fake.url("azure"), api_version="2024-10-21", max_retries=0
    )
    async with client:
        return await _ask_openai(client, case, model)


async def azure_v1(fake: FakeProvider, case: Case, model: str) -> Read:
    """Azure without, as its pages show it: the plain client of OpenAI."""
    return await openai(fake, case, model, f"{fake.url('azure')}/openai/v1")


async def _ask_openai(client: Any, case: Case, model: str) -> Read:
    options = {} if case.dimensions is None else {"dimensions": case.dimensions}
    reply = await client.embeddings.create(model=model, input=list(case.texts), **options)
    return [item.embedding for item in reply.data], reply.usage.prompt_tokens


async def cohere(fake: FakeProvider, case: Case, model: str) -> Read:
    """Cohere's, version 2."""
    sdk = sdk_module("cohere")
    httpx = sdk_module("httpx")
    options = {} if case.dimensions is None else {"output_dimension": case.dimensions}
    async with httpx.AsyncClient() as http:
        client = sdk.AsyncClientV2(
            KEY, base_url=fake.url("cohere"), httpx_client=http, max_retries=0
        )
        reply = await client.embed(
            model=model,
            texts=list(case.texts),
            input_type=f"search_{case.input_type}",
            embedding_types=["float"],
            **options,
        )
    return reply.embeddings.float_, reply.meta.billed_units.input_tokens


async def mistral(fake: FakeProvider, case: Case, model: str) -> Read:
    """Mistral's."""
    sdk = sdk_module("mistralai.client")
    options = {} if case.dimensions is None else {"output_dimension": case.dimensions}
    async with sdk.Mistral(api_key=KEY, server_url=fake.url("mistral")) as client:
        reply = await client.embeddings.create_async(
            model=model, inputs=list(case.texts), **options
        )
    return [item.embedding for item in reply.data], reply.usage.prompt_tokens


async def gemini(fake: FakeProvider, case: Case, model: str) -> Read:
    """Google's, at the Gemini API."""
    genai = sdk_module("google.genai")
    options = genai.types.HttpOptions(base_url=fake.url("google"), api_version="v1beta")
    client = genai.Client(api_key=KEY, http_options=options)
    try:
        reply = await _ask_google(genai, client, case, model, case.texts)
    finally:
        await client.aio.aclose()
        client.close()
    usage = reply.usage_metadata
    return [one.values for one in reply.embeddings], usage and usage.prompt_token_count


async def vertex(fake: FakeProvider, case: Case, model: str) -> Read:
    """Google's, at Vertex AI; a Gemini model is asked for one text at a time."""
    genai = sdk_module("google.genai")
    credentials = sdk_module("google.oauth2.credentials").Credentials(token=KEY)
    client = genai.Client(
        vertexai=True,
        project="my-project",
        location="us-central1",
        credentials=credentials,
        http_options=genai.types.HttpOptions(base_url=fake.url("vertex"), api_version="v1"),
    )
    calls = [[text] for text in case.texts] if "gemini" in model else [list(case.texts)]
    try:
        replies = [await _ask_google(genai, client, case, model, texts) for texts in calls]
    finally:
        await client.aio.aclose()
        client.close()
    found = [one for reply in replies for one in reply.embeddings]
    if "gemini" in model:
        return [o.values for o in found], sum(r.usage_metadata.prompt_token_count for r in replies)
    return [one.values for one in found], int(sum(one.statistics.token_count for one in found))


async def _ask_google(genai: Any, client: Any, case: Case, model: str, texts: Sequence[str]) -> Any:
    options: dict[str, Any] = {}
    if case.dimensions is not None:
        options["output_dimensionality"] = case.dimensions
    if model == "gemini-embedding-2":  # it reads the task in the text, as Google's pages say
        before = {"query": "task: search result | query: ", "document": "title: none | text: "}
        texts = [f"{before[case.input_type]}{text}" for text in texts]
    else:
        options["task_type"] = f"RETRIEVAL_{case.input_type.upper()}"
    # Of bare texts the SDK makes parts of one content for some models, and one vector.
    contents = [
        genai.types.Content(role="user", parts=[genai.types.Part(text=text)]) for text in texts
    ]
    config = genai.types.EmbedContentConfig(**options)
    return await client.aio.models.embed_content(model=model, contents=contents, config=config)


async def voyage(fake: FakeProvider, case: Case, model: str) -> Read:
    """Voyage's."""
    client = sdk_module("voyageai").AsyncClient(KEY, base_url=fake.url("voyage"))
    reply = await client.embed(
        list(case.texts), model, input_type=case.input_type, output_dimension=case.dimensions
    )
    return reply.embeddings, reply.total_tokens


async def ollama(fake: FakeProvider, case: Case, model: str) -> Read:
    """Ollama's."""
    async with sdk_module("ollama").AsyncClient(host=fake.url("ollama")) as client:
        reply = await client.embed(model, list(case.texts), dimensions=case.dimensions)
    return reply.embeddings, reply.prompt_eval_count


def bedrock(body: Callable[[Case, Sequence[str]], dict[str, Any]], width: int) -> Ask:
    """AWS's, *width* texts a call. It signs; the body is the user's, after AWS's pages."""

    async def ask(fake: FakeProvider, case: Case, model: str) -> Read:
        calls = [case.texts[start : start + width] for start in range(0, len(case.texts), width)]
        client = await asyncio.to_thread(_bedrock_client, fake)
        try:
            replies = [
                await asyncio.to_thread(_invoke, client, model, body(case, texts))
                for texts in calls
            ]
        finally:
            client.close()
        tokens = sum(tokens for _, tokens in replies)
        return [vector for reply, _ in replies for vector in _bedrock_vectors(reply)], tokens

    return ask


def _bedrock_client(fake: FakeProvider) -> Any:
    return sdk_module("boto3").client(
        "bedrock-runtime",
        region_name=REGION,
        endpoint_url=fake.url("bedrock"),
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=sdk_module("botocore.config").Config(retries={"total_max_attempts": 1}),
    )


def _invoke(client: Any, model: str, body: dict[str, Any]) -> tuple[dict[str, Any], int]:
    reply = client.invoke_model(modelId=model, body=json.dumps(body))
    headers = reply["ResponseMetadata"]["HTTPHeaders"]
    with reply["body"] as stream:
        return json.loads(stream.read()), int(headers["x-amzn-bedrock-input-token-count"])


def _bedrock_vectors(reply: dict[str, Any]) -> list[Any]:
    if "embedding" in reply:
        return [reply["embedding"]]
    found = reply["embeddings"]
    found = found["float"] if isinstance(found, dict) else found
    return [one["embedding"] if isinstance(one, dict) else one for one in found]


def titan(case: Case, texts: Sequence[str]) -> dict[str, Any]:
    """Titan's body."""
    shorter = {} if case.dimensions is None else {"dimensions": case.dimensions}
    return {"inputText": texts[0], **shorter}


def bedrock_cohere(case: Case, texts: Sequence[str]) -> dict[str, Any]:
    """Cohere's body on Bedrock."""
    shorter = {} if case.dimensions is None else {"output_dimension": case.dimensions}
    return {"texts": list(texts), "input_type": f"search_{case.input_type}", **shorter}


def nova(case: Case, texts: Sequence[str]) -> dict[str, Any]:
    """Nova's body."""
    purpose = "GENERIC_RETRIEVAL" if case.input_type == "query" else "GENERIC_INDEX"
    params: dict[str, Any] = {
        "embeddingPurpose": purpose,
        "text": {"value": texts[0], "truncationMode": "NONE"},
    }
    if case.dimensions is not None:
        params["embeddingDimension"] = case.dimensions
    return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": params}
