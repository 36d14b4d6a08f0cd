"""An answer to its bytes: vectors, usage, and the two extension blocks.

The vectors are joined as bytes and never pass through Python floats: base64 straight from the
stored bytes, floats by orjson over a float32 view, which prints each in its shortest exact form.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Literal

import orjson

from embedway.money import usd_text
from embedway.server.answer import Answer
from embedway.server.blocks import gateflow_block, gateway_block
from embedway.server.messages import JSON, Headers, Outgoing
from embedway.server.wire import MAX_INPUTS
from embedway.settings import ResponseMetadata
from embedway.types import Embedding
from embedway.vectors import as_array, to_base64

Form = Literal["float", "base64"]

_MISS = b"embedway; fwd=miss; stored"
_NUMBERS_AT_ONCE: dict[Form, int] = {"float": 1 << 17, "base64": 1 << 20}
"""An answer of more numbers is rendered in a thread, so that it never holds the event loop for
more than a few milliseconds."""
_ASIDE = ThreadPoolExecutor(1, "embedway-render")
"""One thread, started when it is needed first and ended with the interpreter: each thread has a
part of the heap of its own, where the parts of large answers would stay behind."""


def _heads(quote: bytes) -> tuple[bytes, ...]:
    """What stands before each vector, from the end of the one before on."""
    first = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":%b'
    other = b'%b},{"object":"embedding","index":%d,"embedding":%b'
    return (first % quote, *(other % (quote, i, quote) for i in range(1, MAX_INPUTS)))


_HEADS: dict[Form, tuple[bytes, ...]] = {"float": _heads(b""), "base64": _heads(b'"')}
_LAST: dict[Form, bytes] = {"float": b"}],", "base64": b'"}],'}


def is_large(answer: Answer, form: Form = "float") -> bool:
    """Whether to render it would hold the event loop for too long."""
    numbers = len(answer.response.embeddings) * answer.space.dimensions
    return numbers > _NUMBERS_AT_ONCE[form]


async def render_aside(render: Callable[[], Outgoing]) -> Outgoing:
    """What *render* makes of a large answer, in a thread."""
    return await asyncio.get_running_loop().run_in_executor(_ASIDE, render)


def render(answer: Answer, *, form: Form, metadata: ResponseMetadata) -> Outgoing:
    """The answer of `POST /v1/embeddings`."""
    tail: dict[str, Any] = {
        "model": answer.served_as,
        "usage": {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens},
    }
    if metadata in ("both", "gateway"):
        tail["providerMetadata"] = {"gateway": gateway_block(answer)}
    if metadata in ("both", "gateflow"):
        tail["gateflow"] = gateflow_block(answer)
    parts = _parts(answer.response.embeddings, form)
    parts.append(orjson.dumps(tail)[1:])
    return Outgoing(200, answer_headers(answer), b"".join(parts))


def _parts(embeddings: tuple[Embedding, ...], form: Form) -> list[bytes]:
    """All up to the end of `data`. Joined once: the vectors are copied once."""
    text = to_base64 if form == "base64" else float_json
    parts: list[bytes] = []
    for head, embedding in zip(_HEADS[form], embeddings, strict=False):
        parts += (head, text(embedding.vector))
    parts.append(_LAST[form])
    return parts


def float_json(vector: bytes) -> bytes:
    """A JSON list of the vector's numbers, each in float32's shortest exact form."""
    return orjson.dumps(as_array(vector), option=orjson.OPT_SERIALIZE_NUMPY)


def answer_headers(answer: Answer) -> Headers:
    """The headers of a successful answer."""
    milliseconds = b"%d" % answer.latency_ms
    return (
        JSON,
        (b"x-request-id", answer.request_id.encode()),
        *_made_by(answer.model.id, answer.provider, str(answer.space)),
        (b"x-embedway-cost", usd_text(answer.totals.cost).encode()),
        (b"cache-status", _cache_status(answer)),
        (b"server-timing", b"total;dur=%b" % milliseconds),
        (b"openai-processing-ms", milliseconds),
    )


# The same for most answers of a model.
@lru_cache(1024)
def _made_by(model: str, provider: str, space: str) -> Headers:
    """Who made the vectors, and which."""
    return (
        (b"x-embedway-model", model.encode()),
        (b"x-embedway-provider", provider.encode("ascii", "replace")),
        (b"x-embedway-space", space.encode()),
    )


def _cache_status(answer: Answer) -> bytes:
    """RFC 9211."""
    hits, inputs = answer.totals.hits, len(answer.response.embeddings)
    if hits == inputs:
        return b"embedway; hit"
    if hits:
        return b'embedway; fwd=partial; detail="%d/%d"' % (hits, inputs)
    if not answer.is_kept:
        return b"embedway; fwd=bypass"
    # To refresh is the caller's wish, whether or not the vector was known.
    return b"embedway; fwd=request; stored" if answer.cache == "refresh" else _MISS
