"""OpenAI's embeddings API, and whoever speaks its dialect: one row each at the foot of the file.

POST {base_url}/embeddings with model, input, encoding_format, dimensions, user.
Source: https://github.com/openai/openai-openapi (openapi.yaml, 2026-08-21), and what openai-python
3.52 sends and reads.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import msgspec
import orjson
from msgspec import Struct

from embedway.errors import UpstreamError
from embedway.options import passed_on
from embedway.provider import Deployment, HttpRequest, HttpResponse, Provider
from embedway.replies import embeddings, in_order, refusal
from embedway.requests import bearer, post, prefixed
from embedway.types import Embedding, EmbedRequest
from embedway.vectors import from_base64, from_numbers


class Dialect(Struct, frozen=True, kw_only=True):
    """In what a look-alike differs: a field it does not list is never sent."""

    name: str
    encoding: Literal["base64", "float"] | None = "base64"
    """What to ask for; base64 is the cheapest to read, and what the official clients ask for."""
    takes_user: bool = True
    always: dict[str, Any] = {}
    """Fields sent with every request."""


class _Item(Struct):
    """`index` may be missing in look-alikes' answers; then the order counts."""

    embedding: str | list[float]
    index: int | None = None


class _Usage(Struct):
    """Voyage's kin report only the total, which for embeddings is the same."""

    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Reply(Struct):
    data: list[_Item]
    usage: _Usage | None = None


class _ErrorBody(Struct):
    message: str | None = None


class _ErrorReply(Struct):
    """Nested as OpenAI has it, or one of the flat forms of its look-alikes."""

    error: _ErrorBody | str | None = None
    message: str | None = None
    detail: Any = None


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_error = msgspec.json.Decoder(_ErrorReply).decode


def build(request: EmbedRequest, deployment: Deployment, dialect: Dialect) -> HttpRequest:
    """The request to `{base_url}/embeddings`."""
    url = f"{deployment.base_url}/embeddings"
    return post(url, build_body(request, deployment, dialect), bearer(deployment))


def build_body(
    request: EmbedRequest, deployment: Deployment, dialect: Dialect
) -> dict[str, object]:
    """The fields of the body."""
    body: dict[str, object] = {"model": deployment.upstream_model, "input": request.inputs}
    if dialect.encoding is not None:
        body["encoding_format"] = dialect.encoding
    if (dimensions := deployment.native_dimensions(request)) is not None:
        body["dimensions"] = dimensions
    field = deployment.input_type.param if deployment.input_type else None
    if field is None:
        body["input"] = prefixed(request, deployment)
    elif (input_type := deployment.native_input_type(request)) is not None:
        body[field] = input_type
    if dialect.takes_user and request.call.user is not None:
        body["user"] = request.call.user
    return body | dialect.always | passed_on(request.params.options, dialect.name)


def parse(
    request: EmbedRequest, deployment: Deployment, response: HttpResponse
) -> tuple[Embedding, ...]:
    """The embeddings in the order of the inputs. Raises ValueError on an unsound body."""
    reply = _decode_reply(response.body)
    vectors = [
        from_base64(item.embedding)
        if isinstance(item.embedding, str)
        else from_numbers(item.embedding)
        for item in reply.data
    ]
    vectors = in_order(vectors, [item.index for item in reply.data])
    usage = reply.usage or _Usage()
    tokens = usage.prompt_tokens or usage.total_tokens
    return embeddings(request, deployment, vectors, tokens)


def explain(deployment: Deployment, response: HttpResponse) -> UpstreamError:
    """The error that an answer other than 2xx stands for."""
    return refusal(deployment, response, error_message(response.body))


def error_message(body: bytes) -> str | None:
    """The provider's own words, wherever they stand."""
    try:
        reply = _decode_error(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(reply.error, _ErrorBody):
        return reply.error.message
    told = reply.error or reply.message or _without_input(reply.detail)
    return told if told is None or isinstance(told, str) else orjson.dumps(told).decode()


def _without_input(detail: Any) -> Any:
    """FastAPI repeats what it refused: a caller's text is not the provider's word, and must not
    be taken for one."""
    if not isinstance(detail, list):
        return detail
    return [
        {name: value for name, value in one.items() if name not in ("input", "ctx")}
        if isinstance(one, dict)
        else one
        for one in detail
    ]


def _row(name: str, base_url: str | None, source: str, **traits: Any) -> Provider:
    return Provider(
        name=name,
        build=partial(build, dialect=Dialect(name=name, **traits)),
        parse=parse,
        explain=explain,
        base_url=base_url,
        source=source,
    )


ROWS = (
    _row(
        "openai",
        "https://api.openai.com/v1",
        "https://platform.openai.com/docs/api-reference/embeddings (2026-11-21)",
    ),
    _row(
        "together",  # lists model and input, and reports no usage
        "https://api.together.ai/v1",
        "https://github.com/togethercomputer/openapi (2026-04-28)",
        encoding=None,
        takes_user=False,
    ),
    _row(
        "fireworks",  # normalises only if told to
        "https://api.fireworks.ai/inference/v1",
        "https://docs.fireworks.ai/api-reference (2026-11-21)",
        encoding=None,
        takes_user=False,
        always={"normalize": True},
    ),
    _row(
        "deepinfra",
        "https://api.deepinfra.com/v1/openai",
        "https://deepinfra.com/Qwen/Qwen3-Embedding-0.6B/api (2026-11-21)",
        encoding="float",
        takes_user=False,
    ),
    _row(
        "nvidia",
        "https://integrate.api.nvidia.com/v1",
        "https://docs.nvidia.com/nim/nemo-retriever/text-embedding/2.2.0/reference.html",
        takes_user=False,
        always={"truncate": "NONE"},
    ),
    _row(
        "openrouter",
        "https://openrouter.ai/api/v1",
        "https://github.com/OpenRouterTeam/typescript-sdk (2026-08-22)",
    ),
    _row(
        "vercel",
        "https://ai-gateway.vercel.sh/v1",
        "https://vercel.com/docs/ai-gateway (2026-09-21)",
    ),
    # Self-hosted: every account has its own address, and says which models it serves.
    _row("vllm", None, "https://github.com/vllm-project/vllm (commit 020638a6)"),
    _row("infinity", None, "https://github.com/michaelfeil/infinity (commit fcb951cb)"),
    _row("lm-studio", None, "https://lmstudio.ai/docs", encoding="float", takes_user=False),
    _row(
        "llama-cpp",
        None,
        "https://github.com/ggml-org/llama.cpp (commit 001d906a)",
        takes_user=False,
    ),
    _row("openai-compatible", None, "the dialect of OpenAI's API, as this gateway speaks it too"),
)
"""A look-alike is a row: name, base URL, source, and in what it differs."""
