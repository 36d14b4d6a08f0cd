"""What only a type checker can test: this file is checked by mypy and never run.

Whatever has the shape of an Embedder is one; each gate fits the Protocol that is declared where it
is used; and what must not be written is an error (`warn_unused_ignores` makes sure that it is).
"""

from collections.abc import Awaitable
from pathlib import Path
from typing import assert_type

from msgspec.structs import replace
from sqlalchemy import Engine

from embedway.clock import Clock, SystemClock
from embedway.errors import EmbedError, UpstreamError
from embedway.gateway import Gateway
from embedway.layers.admit import Admit
from embedway.layers.balance import Balance
from embedway.layers.deadline import Deadline
from embedway.layers.fallback import Fallback
from embedway.layers.meter import Book, Count, Meter
from embedway.layers.route import Route
from embedway.ledger import UsageLine
from embedway.local import Local
from embedway.metrics import Metrics
from embedway.origins import Origins, load_settings
from embedway.provider import HttpRequest, HttpResponse, Send
from embedway.secret import Secret
from embedway.settings import Settings
from embedway.store.books import UsageBook
from embedway.transport import Transport
from embedway.types import Call, Embedder, Embedding, EmbedParams, EmbedRequest, EmbedResponse
from embedway.upstream import Upstream
from embedway.vectors import Matrix, as_array, normalise, pack_rows


async def function(request: EmbedRequest, /) -> EmbedResponse:
    """A plain function is an Embedder."""
    return EmbedResponse(params=request.params, embeddings=())


async def wrong_function(request: str, /) -> EmbedResponse:
    """A function of something else is none."""
    raise NotImplementedError(request)


def embedders(
    local: Local,
    upstream: Upstream,
    gateway: Gateway,
    layers: tuple[Meter, Admit, Deadline, Fallback, Route, Balance],
) -> list[Embedder]:
    """Both ends, every layer, the whole gateway, and a function: all are Embedders."""
    found: list[Embedder] = [function, local, upstream, gateway, *layers]
    found.append(wrong_function)  # type: ignore[arg-type] # not an Embedder
    return found


async def answer(embedder: Embedder, request: EmbedRequest) -> None:
    """What goes in and out of an Embedder."""
    response = await embedder(request)
    assert_type(response, EmbedResponse)
    assert_type(response.embeddings, tuple[Embedding, ...])
    assert_type(response.embeddings[0].vector, bytes)
    assert_type(request.call, Call)
    assert_type(replace(request, inputs=("a",)), EmbedRequest)
    await embedder(request=request)  # type: ignore[call-arg] # the argument has no name


def frozen(params: EmbedParams, call: Call, settings: Settings) -> None:
    """Data cannot be changed, nor made without what it needs."""
    params.model = "x"  # type: ignore[misc] # frozen
    call.user = "x"  # type: ignore[misc] # frozen
    settings.home = "x"  # type: ignore[misc] # frozen
    EmbedParams()  # type: ignore[call-arg] # a model is needed
    EmbedParams("x")  # type: ignore[call-arg] # by keyword only


def gates(transport: Transport, engine: Engine, metrics: Metrics) -> None:
    """The gates fit the Protocols of those who use them."""
    send: Send = transport
    book: Book = UsageBook(engine)
    count: Count = metrics.count_request
    clock: Clock = SystemClock()
    assert_type(clock.now(), float)
    book.add(UsageLine())  # type: ignore[call-arg] # a line has no defaults
    del send, count


async def sent(send: Send, request: HttpRequest) -> HttpResponse:
    """A request is sent with a time and a length, never without."""
    await send(request)  # type: ignore[call-arg] # both limits are needed
    return await send(request, timeout_s=1.0, max_bytes=1)


def errors(error: UpstreamError) -> None:
    """What an error tells the outside stands on its class."""
    assert_type(EmbedError.status, int)
    assert_type(error.retryable, bool)
    assert_type(error.upstream_status, int | None)
    UpstreamError("x")  # type: ignore[call-arg] # whose fault is it?


def secrets(secret: Secret) -> str:
    """A secret is no text until it is revealed."""
    text: str = secret  # type: ignore[assignment] # that is the point of it
    del text
    return secret.reveal()


def vectors(matrix: Matrix) -> list[bytes]:
    """Vectors go in and out as bytes."""
    assert_type(normalise(matrix), Matrix)
    as_array("text")  # type: ignore[arg-type] # bytes only
    return pack_rows(matrix)


def settings() -> Settings:
    """Settings are loaded with their origins."""
    loaded = load_settings(environ={}, config=Path("x"), overrides={"server.listen": "x"})
    assert_type(loaded, Origins)
    assert_type(loaded.origin("server.listen"), str)
    return loaded.settings


def waits(clock: Clock) -> Awaitable[None]:
    """Waiting is asked of a clock."""
    return clock.sleep(1.0)
