"""openai-python 3: every way to ask that it has."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
from cases import case, describe, main, question
from openai import AsyncOpenAI, OpenAI

URL, MODEL = question["url"], question["model"]
HELLO, THREE = question["hello"], question["three"]
SMALL = "text-embedding-3-small"

client = OpenAI(base_url=f"{URL}/v1", api_key="any")


def read(response: Any) -> dict[str, Any]:
    return {
        "vectors": [item.embedding for item in response.data],
        "indexes": [item.index for item in response.data],
        "objects": [response.object, *(item.object for item in response.data)],
        "model": response.model,
        "usage": response.usage.model_dump(),
        "extra": response.model_extra,
    }


def create(**fields: Any) -> dict[str, Any]:
    return read(client.embeddings.create(**{"model": MODEL, "input": HELLO, **fields}))


@case
def default_string() -> Any:
    return create()


@case
def list_input() -> Any:
    return create(input=THREE)


@case
def encoding_format_float() -> Any:
    return create(encoding_format="float")


@case
def encoding_format_base64() -> Any:
    return create(encoding_format="base64")


@case
def list_float() -> Any:
    return create(input=THREE, encoding_format="float")


@case
def token_ids() -> Any:
    return create(input=question["hello_ids"])


@case
def token_id_lists() -> Any:
    return create(input=question["split_ids"])


@case
def dimensions_user() -> Any:
    return create(dimensions=64, user="u-1")


@case
def dimensions_128() -> Any:
    return create(dimensions=128)


@case
def none_dimensions() -> Any:
    return create(dimensions=None)


@case
def bare_model() -> Any:
    return create(model=MODEL.partition("/")[2])


@case
def upstream_model() -> Any:
    return create(model=SMALL)


@case
def upstream_prefixed_model() -> Any:
    return create(model=f"openai/{SMALL}")


@case
def upstream_dimensions() -> Any:
    return create(model=f"openai/{SMALL}", dimensions=768)


@case
def upstream_token_ids() -> Any:
    return create(model=SMALL, input=question["hello_ids"])


@case
def extra_body_gateflow_cache_skip() -> Any:
    return create(extra_body={"gateflow": {"cache": "skip"}})


@case
def extra_body_gateflow_fallbacks() -> Any:
    fallbacks = ["text-embedding-004", "embed-english-v3.0"]
    return create(extra_body={"gateflow": {"fallbacks": fallbacks}})


@case
def extra_body_fallback_used() -> Any:
    fallbacks = {"fallbacks": [MODEL]}
    return create(model=SMALL, input=question["fails"], extra_body={"gateflow": fallbacks})


@case
def extra_body_providerOptions() -> Any:
    options = {
        "google": {"taskType": "RETRIEVAL_QUERY"},
        "gateway": {"order": ["local"], "user": "u-1", "tags": ["docs"]},
    }
    return create(extra_body={"providerOptions": options})


@case
def extra_body_provider() -> Any:
    return create(extra_body={"provider": "local"})


@case
def extra_body_wrong_provider() -> Any:
    return create(extra_body={"provider": "cohere"})


@case
def extra_body_input_type() -> Any:
    return create(extra_body={"input_type": "query"})


@case
def extra_headers_query() -> Any:
    headers = {"x-tenant": "t1", "idempotency-key": "abc", "x-request-id": "mine-1"}
    raw = client.embeddings.with_raw_response.create(
        model=MODEL, input=HELLO, extra_headers=headers, extra_query={"q": "1"}
    )
    return {**read(raw.parse()), "headers": dict(raw.headers)}


@case
def tuple_input() -> Any:
    return create(input=tuple(THREE))


@case
def iterator_input() -> Any:
    return create(input=iter(THREE))


@case
def empty_string() -> Any:
    return create(input="")


@case
def empty_list() -> Any:
    return create(input=[])


@case
def empty_among_others() -> Any:
    return create(input=["a", "", "b"])


@case
def with_raw_response() -> Any:
    raw = client.embeddings.with_raw_response.create(model=MODEL, input=HELLO)
    parsed = raw.parse()
    told = {
        "headers": dict(raw.headers),
        "request_id": raw.request_id,
        "body": raw.http_response.json(),
    }
    return {**read(parsed), **told, "status": raw.http_response.status_code}


@case
def with_streaming_response() -> Any:
    with client.embeddings.with_streaming_response.create(model=MODEL, input=HELLO) as raw:
        return {**read(raw.parse()), "headers": dict(raw.headers)}


@case
def models_list() -> Any:
    return {"models": [model.model_dump() for model in client.models.list()]}


@case
def models_retrieve_slash() -> Any:
    raw = client.models.with_raw_response.retrieve(MODEL)
    return {"path": str(raw.http_request.url), "model": raw.parse().model_dump()}


@case
def models_retrieve_unknown() -> Any:
    return client.models.retrieve("nobody/nothing").model_dump()


@case
def base_url_trailing_slash() -> Any:
    other = OpenAI(base_url=f"{URL}/v1/", api_key="any")
    return read(other.embeddings.create(model=MODEL, input=HELLO))


@case
def base_url_without_v1() -> Any:
    other = OpenAI(base_url=URL, api_key="any")
    return read(other.embeddings.create(model=MODEL, input=HELLO))


@case
async def async_list() -> Any:
    async with AsyncOpenAI(base_url=f"{URL}/v1", api_key="any") as other:
        return read(await other.embeddings.create(model=MODEL, input=THREE))


@case
async def async_many() -> Any:
    """Fifty callers at once: each must get his own text's vector."""
    async with AsyncOpenAI(base_url=f"{URL}/v1", api_key="any") as other:
        answers = await asyncio.gather(
            *(other.embeddings.create(model=MODEL, input=f"caller {i}") for i in range(50))
        )
    return {"vectors": [answer.data[0].embedding for answer in answers]}


@case
async def async_error() -> Any:
    async with AsyncOpenAI(base_url=f"{URL}/v1", api_key="any") as other:
        return read(await other.embeddings.create(model="nobody/nothing", input=HELLO))


@case
def with_a_key() -> Any:
    other = OpenAI(base_url=f"{question['keyed_url']}/v1", api_key=question["key"])
    return read(other.embeddings.create(model=MODEL, input=HELLO))


@case
def with_a_wrong_key() -> Any:
    other = OpenAI(base_url=f"{question['keyed_url']}/v1", api_key="gw_prod_nobody_nothing")
    return read(other.embeddings.create(model=MODEL, input=HELLO))


def counted(**fields: Any) -> dict[str, Any]:
    """How often the client asked before it gave up, and what it then raised."""
    sent = []
    http = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
    other = OpenAI(base_url=f"{URL}/v1", api_key="any", http_client=http)
    try:
        other.embeddings.create(**{"model": MODEL, "input": HELLO, **fields})
    except openai.APIError as error:
        headers = dict(error.response.headers) if hasattr(error, "response") else {}
        return {"error": describe(error), "requests": len(sent), "headers": headers}
    return {"requests": len(sent)}


@case
def unknown_model() -> Any:
    return counted(model="openai/text-embedding-3-smal")


@case
def anthropic_model() -> Any:
    return counted(model="anthropic/claude-embed")


@case
def unserved_model() -> Any:
    return counted(model="mistral/mistral-embed")


@case
def wrong_dimensions() -> Any:
    return counted(dimensions=100)


@case
def unknown_field() -> Any:
    return counted(extra_body={"dimension": 64})


@case
def big_body() -> Any:
    return counted(input="x" * 11_000_000)


@case
def too_many_inputs() -> Any:
    return counted(input=["x"] * 2049)


@case
def upstream_fails() -> Any:
    return counted(model=SMALL, input=question["fails"])


@case
def upstream_limits() -> Any:
    return counted(model=SMALL, input=question["limits"])


@case
def most_inputs() -> Any:
    """As many as one request may have; the first, the middle and the last vector are enough."""
    answer = client.embeddings.create(model=MODEL, input=[f"t{i}" for i in range(2048)])
    vectors = [item.embedding for item in answer.data]
    return {"count": len(vectors), "vectors": [vectors[i] for i in (0, 1024, 2047)]}


main()
