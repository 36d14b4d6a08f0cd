"""An answer to its bytes: vectors, usage, and the two extension blocks.

The vectors are joined as bytes and never pass through Python floats: base64 straight from the
stored bytes, floats by orjson over a float32 view, which prints each in its shortest exact form.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Literal

import orjson

from embedway.money import usd_text
from embedway.server.answer import Answer
from embedway.server.blocks import gateflow_block, gateway_block
from embedway.server.messages import JSON, Headers, Outgoing
from embedway.settings import ResponseMetadata
from embedway.types import EmbedResponse
from embedway.vectors import as_array, to_base64

_MISS = b"embedway; fwd=miss; stored"
_NUMBERS_AT_ONCE = 1 << 17
"""An answer of more numbers is rendered in a thread, so that it never holds the event loop for
more than a few milliseconds."""


async def render_aside(answer: Answer, render: Callable[[], Outgoing]) -> Outgoing:
    """What *render* makes of the answer: in a thread if it is large."""
    if len(answer.response.embeddings) * answer.space.dimensions > _NUMBERS_AT_ONCE:
        return await asyncio.to_thread(render)
    return render()


def render(
    answer: Answer, *, form: Literal["float", "base64"], metadata: ResponseMetadata
) -> Outgoing:
    """The answer of `POST /v1/embeddings`."""
    tail: dict[str, Any] = {
        "model": answer.served_as,
        "usage": {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens},
    }
    if metadata in ("both", "gateway"):
        tail["providerMetadata"] = {"gateway": gateway_block(answer)}
    if metadata in ("both", "gateflow"):
        tail["gateflow"] = gateflow_block(answer)
    body = b"".join(
        (
            b'{"object":"list","data":[',
            b",".join(_items(answer.response, form)),
            b"],",
            orjson.dumps(tail)[1:],
        )
    )
    return Outgoing(200, answer_headers(answer), body)


def _items(response: EmbedResponse, form: Literal["float", "base64"]) -> Iterable[bytes]:
    embeddings = enumerate(response.embeddings)
    if form == "base64":
        return [
            b'{"object":"embedding","index":%d,"embedding":"%b"}' % (i, to_base64(e.vector))
            for i, e in embeddings
        ]
    return [
        b'{"object":"embedding","index":%d,"embedding":%b}' % (i, float_json(e.vector))
        for i, e in embeddings
    ]


def float_json(vector: bytes) -> bytes:
    """A JSON list of the vector's numbers, each in float32's shortest exact form."""
    return orjson.dumps(as_array(vector), option=orjson.OPT_SERIALIZE_NUMPY)


def answer_headers(answer: Answer) -> Headers:
    """The headers of a successful answer."""
    milliseconds = str(answer.latency_ms).encode()
    return (
        JSON,
        (b"x-request-id", answer.request_id.encode()),
        (b"x-embedway-model", answer.model.id.encode()),
        (b"x-embedway-provider", answer.provider.encode("ascii", "replace")),
        (b"x-embedway-space", str(answer.space).encode()),
        (b"x-embedway-cost", usd_text(answer.cost).encode()),
        (b"cache-status", _cache_status(answer)),
        (b"server-timing", b"total;dur=" + milliseconds),
        (b"openai-processing-ms", milliseconds),
    )


def _cache_status(answer: Answer) -> bytes:
    """RFC 9211."""
    hits, inputs = answer.hits, len(answer.response.embeddings)
    if hits == inputs:
        return b"embedway; hit"
    if hits:
        return b'embedway; fwd=partial; detail="%d/%d"' % (hits, inputs)
    if not answer.is_kept:
        return b"embedway; fwd=bypass"
    # To refresh is the caller's wish, whether or not the vector was known.
    return b"embedway; fwd=request; stored" if answer.cache == "refresh" else _MISS
