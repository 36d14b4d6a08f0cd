"""Text Embeddings Inference, Hugging Face's server.

POST {base_url}/embed with inputs, truncate, normalize, dimensions, prompt_name, and not
/v1/embeddings: only here can it be told not to truncate, which it does in silence by default. The
answer is the bare vectors; the tokens of all inputs together stand in the header x-compute-tokens.
GET {base_url}/info tells the model and its limits.
Source: https://github.com/huggingface/text-embeddings-inference (commit 0d124dc9).
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from embedway.options import passed_on
from embedway.provider import Deployment, HttpRequest, HttpResponse, Introduction, Provider
from embedway.providers.openai import explain
from embedway.replies import embeddings, header_count
from embedway.requests import bearer, post, prefixed
from embedway.types import Embedding, EmbedRequest
from embedway.vectors import from_numbers

_NAMES = {"promptName": "prompt_name", "truncationDirection": "truncation_direction"}


class _Info(Struct):
    model_id: str
    max_client_batch_size: int
    max_input_length: int


_decode_info = msgspec.json.Decoder(_Info).decode
_decode_reply = msgspec.json.Decoder(list[list[float]]).decode


def build(request: EmbedRequest, deployment: Deployment) -> HttpRequest:
    """The request. The server serves one model, and is not told its name."""
    body: dict[str, object] = {
        "inputs": prefixed(request, deployment),
        "truncate": False,
        "normalize": True,
    }
    if (dimensions := deployment.native_dimensions(request)) is not None:
        body["dimensions"] = dimensions
    options = passed_on(request.params.options, "tei", _NAMES)
    return post(f"{deployment.base_url}/embed", body | options, bearer(deployment))


def parse(
    request: EmbedRequest, deployment: Deployment, response: HttpResponse
) -> tuple[Embedding, ...]:
    """The embeddings in the order of the inputs. Raises ValueError on an unsound body."""
    vectors = [from_numbers(numbers) for numbers in _decode_reply(response.body)]
    tokens = header_count(response.headers, "x-compute-tokens")
    return embeddings(request, deployment, vectors, tokens)


def ask_introduction(deployment: Deployment) -> HttpRequest:
    """GET /info."""
    headers = {"accept": "application/json", **bearer(deployment)}
    return HttpRequest("GET", f"{deployment.base_url}/info", headers, b"")


def read_introduction(response: HttpResponse) -> Introduction:
    """The model and its limits. Raises ValueError on an unsound body."""
    info = _decode_info(response.body)
    return Introduction(
        model=info.model_id,
        max_inputs=info.max_client_batch_size,
        max_input_tokens=info.max_input_length,
    )


TEI = Provider(
    name="tei",
    build=build,
    parse=parse,
    explain=explain,
    ask_introduction=ask_introduction,
    read_introduction=read_introduction,
    base_url=None,
    source="https://huggingface.github.io/text-embeddings-inference (2026-11-21)",
)
