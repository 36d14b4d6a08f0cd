"""What tests put in place of time, providers, models and books. No I/O, no waiting."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from embedway.ledger import UsageLine
from embedway.provider import Deployment, HttpRequest, HttpResponse
from embedway.secret import Secret
from embedway.types import (
    Attempt,
    Call,
    Embedding,
    EmbedParams,
    EmbedRequest,
    EmbedResponse,
    Grant,
    Input,
    Vector,
)
from embedway.vectors import as_array, normalise, pack_rows, to_base64

Answer = EmbedResponse | BaseException | Callable[[EmbedRequest], Any] | None
"""What a ScriptedEmbedder does with one request: a response to return, an error to raise, a
function (or coroutine function) to ask, or None for deterministic vectors."""


class FakeClock:
    """A clock that a test moves by hand; `sleep` moves it too, and lets others run."""

    def __init__(self, now: float = 1_800_000_000.0, monotonic: float = 1000.0) -> None:
        self._now = now
        self._monotonic = monotonic
        self.slept: list[float] = []

    def now(self) -> float:
        """Wall time in seconds."""
        return self._now

    def monotonic(self) -> float:
        """Monotonic time in seconds."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self._now += seconds
        self._monotonic += seconds

    def set_back(self, seconds: float) -> None:
        """Somebody changes the machine's time of day."""
        self._now -= seconds

    async def sleep(self, seconds: float) -> None:
        """Remember it, and let the time pass at once."""
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)


class MemoryBook:
    """A ledger in a list; also usable where lines are only counted."""

    def __init__(self) -> None:
        self.lines: list[UsageLine] = []

    def add(self, line: UsageLine) -> None:
        """Keep the line."""
        self.lines.append(line)

    def __call__(self, line: UsageLine, /) -> None:
        """Count the line."""
        self.lines.append(line)


class ScriptedEmbedder:
    """Remembers what it was asked, and answers from *answers* in turn; then, or for None, with
    vectors that depend on nothing but params and text."""

    def __init__(
        self, answers: Iterable[Answer] | Callable[[EmbedRequest], Any] = (), dimensions: int = 8
    ) -> None:
        self._always = answers if callable(answers) else None
        self._answers = [] if callable(answers) else list(answers)
        self.dimensions = dimensions
        self.requests: list[EmbedRequest] = []

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        """Answer as scripted."""
        self.requests.append(request)
        answer = self._always or (self._answers.pop(0) if self._answers else None)
        if callable(answer):
            answer = answer(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        return answer or respond(request, dimensions=self.dimensions)

    @property
    def models(self) -> list[str]:
        """The models asked for, in turn."""
        return [request.params.model for request in self.requests]


class ScriptedSend:
    """A transport that remembers its requests and answers from *answers* in turn; the last one is
    given for ever. An exception is raised; a function gets the request."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.requests: list[HttpRequest] = []
        self.limits: list[tuple[float, int]] = []

    async def __call__(
        self, request: HttpRequest, /, *, timeout_s: float, max_bytes: int
    ) -> HttpResponse:
        """Answer as scripted."""
        self.requests.append(request)
        self.limits.append((timeout_s, max_bytes))
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if callable(answer):
            answer = answer(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, HttpResponse)
        return answer

    @property
    def bodies(self) -> list[Any]:
        """The JSON bodies sent, in turn."""
        return [orjson.loads(request.body) for request in self.requests]


def make_vector(text: Input, params: EmbedParams | None = None, dimensions: int = 8) -> Vector:
    """A unit vector that depends on nothing but the text and the params."""
    params = params or make_params()
    seed = repr((text, params.model, params.input_type, params.options)).encode()
    digest = hashlib.blake2b(seed, digest_size=8).digest()
    width = params.dimensions or dimensions
    numbers = np.random.default_rng(int.from_bytes(digest, "little")).standard_normal((1, width))
    return pack_rows(normalise(numbers.astype(np.float32)))[0]


def make_grant(**changes: Any) -> Grant:
    """The grant of a key that allows everything."""
    return Grant(**{"key_id": "k1", "name": "tests", **changes})


def make_call(**changes: Any) -> Call:
    """A call with a minute to go on a FakeClock."""
    return Call(
        **{
            "id": "01M2RV50ENRGT4K2CHJ0WC4N1H",
            "grant": make_grant(),
            "deadline": 1060.0,
            **changes,
        }
    )


def make_params(model: str = "openai/text-embedding-3-small", **changes: Any) -> EmbedParams:
    """The params of a model."""
    return EmbedParams(model=model, **changes)


def make_request(
    *inputs: Input, params: EmbedParams | None = None, call: Call | None = None, **fields: Any
) -> EmbedRequest:
    """A request; *fields* go to the params or to the call, whichever has them."""
    of_call = {name: fields.pop(name) for name in Call.__struct_fields__ if name in fields}
    return EmbedRequest(
        params=params or make_params(**fields),
        inputs=inputs or ("a text",),
        call=call or make_call(**of_call),
    )


def allowing(accounts: Iterable[str]) -> Callable[[tuple[str, ...], EmbedParams], list[str]]:
    """All of *accounts* may be asked, as far as the call lets them."""
    names = list(accounts)
    return lambda only, params: [name for name in names if not only or name in only]


def respond(
    request: EmbedRequest,
    *,
    dimensions: int = 8,
    source: str = "scripted",
    tokens: int = 3,
    cost: int = 0,
    attempts: tuple[Attempt, ...] = (),
) -> EmbedResponse:
    """The deterministic response to *request*."""
    return EmbedResponse(
        params=request.params,
        embeddings=tuple(
            Embedding(make_vector(text, request.params, dimensions), tokens, source, cost)
            for text in request.inputs
        ),
        attempts=attempts,
    )


def make_attempt(model: str = "openai/text-embedding-3-small", **changes: Any) -> Attempt:
    """One successful try at OpenAI."""
    return Attempt(
        **{
            "model": model,
            "provider": "openai",
            "upstream_model": model.partition("/")[2],
            "started_ms": 1,
            "ended_ms": 2,
            "is_success": True,
            "status": 200,
            **changes,
        }
    )


def make_deployment(**changes: Any) -> Deployment:
    """OpenAI's small model at eight dimensions and two hundredths of a dollar a million."""
    return Deployment(
        **{
            "name": "openai",
            "model": "openai/text-embedding-3-small",
            "upstream_model": "text-embedding-3-small",
            "dimensions": 8,
            "price": 20_000,
            "base_url": "https://api.openai.com/v1",
            "credential": Secret("sk-operator-0123456789"),
            "takes_dimensions": True,
            **changes,
        }
    )


def json_response(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """An answer of a provider; *body* is bytes or something for JSON."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return HttpResponse(status, {"content-type": "application/json", **(headers or {})}, data)


def openai_body(*vectors: Any, tokens: int | None = 4) -> dict[str, Any]:
    """The body of OpenAI's answer with these vectors (bytes become base64)."""
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": to_base64(vector).decode() if isinstance(vector, bytes) else vector,
            }
            for index, vector in enumerate(vectors)
        ],
        "model": "text-embedding-3-small",
    }
    if tokens is not None:
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return body


def answer_openai(request: HttpRequest) -> HttpResponse:
    """What OpenAI would answer, with deterministic vectors: for a ScriptedSend."""
    asked = orjson.loads(request.body)
    width = asked.get("dimensions", 8)
    inputs = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    vectors = [
        make_vector(tuple(text) if isinstance(text, list) else text, dimensions=width)
        for text in inputs
    ]
    return json_response(openai_body(*vectors, tokens=4 * len(inputs)))


async def until(condition: Callable[[], Any]) -> None:
    """Let others run until *condition* holds; the test's timeout ends it if it never does."""
    while not condition():  # noqa: ASYNC110 (no event is set: the code under test knows of none)
        await asyncio.sleep(0)


def numbers(vector: Vector) -> list[float]:
    """The numbers of a vector, for comparisons in tests."""
    return [float(number) for number in as_array(vector)]
