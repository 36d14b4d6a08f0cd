"""One server that answers as every provider does, keeps the bill, and fails as told.

    async with running_fake() as fake:
        fake.url("cohere")                  # what Cohere's SDK would call its base URL
        fake.next(status(429))              # the next answer is this
    fake.always(reset(), of="openai")   # and all of this provider's are that
        fake.requests, fake.bill            # what came, and what it would cost

The first part of a path says which provider is meant. `answer` is a pure function but for the
books; `send` is it without sockets, for where thousands of requests are wanted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

from embedway.provider import HttpRequest, HttpResponse, TransportError
from tests.fake_provider.bill import Bill, Line
from tests.fake_provider.exchange import MAX_TOKENS, Answer, Asked, Item, Refused, Request, Told
from tests.fake_provider.faults import Fault, Wire
from tests.fake_provider.http1 import as_bytes, read_request
from tests.fake_provider.shapes.all import BASE_PATHS, SHAPES
from tests.fake_provider.vectors import count_tokens, expected_vector

_NO_FAULT = Fault()
_ANYBODY = ""


class FakeProvider:
    """Answers, remembers what came, and keeps the bill."""

    def __init__(self, origin: str = "http://127.0.0.1:9") -> None:
        self.origin = origin
        self.bill = Bill()
        self.requests: list[Request] = []
        self._arrivals: asyncio.Queue[Request] = asyncio.Queue()
        self._next: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}

    def url(self, provider: str) -> str:
        """The base URL of *provider*."""
        return f"{self.origin}{BASE_PATHS[provider]}"

    def next(self, *faults: Fault, of: str = _ANYBODY) -> None:
        """Do these to the next answers, one each; they go before what is done always. of: the
        provider whose answers are meant."""
        self._next[of].extend(faults)

    def always(self, fault: Fault, of: str = _ANYBODY) -> None:
        """Do this to every answer."""
        self._always[of] = fault

    def heal(self) -> None:
        """Forget all faults."""
        self._next.clear()
        self._always.clear()

    async def arrival(self) -> Request:
        """The next request, as soon as it is here; each is handed out once."""
        return await self._arrivals.get()

    def _come(self, request: Request) -> Fault:
        """Take note of a request; what is to be done to its answer."""
        self.requests.append(request)
        self._arrivals.put_nowait(request)
        for name in (request.provider, _ANYBODY):
            if self._next[name]:
                return self._next[name].popleft()
        return self._always.get(request.provider) or self._always.get(_ANYBODY) or _NO_FAULT

    def answer(self, request: Request, fault: Fault = _NO_FAULT) -> tuple[Answer, Line]:
        """The answer, and what is written on the bill if it goes out whole."""
        shape = SHAPES.get(request.provider)
        if shape is None:
            return Answer(404, {}, b""), _line(request, 404)
        try:
            asked = shape.read(request)
            _check_lengths(asked)
            if fault.refused is not None:
                raise fault.refused
        except Told as told:
            return told.answer, _line(request, told.answer.status)
        except Refused as refused:
            refusal = shape.refuse(refused)
            return refusal, _line(request, refusal.status)
        if fault.answer is not None:
            return fault.answer, _line(request, fault.answer.status, asked)
        items = make_items(asked)
        tokens = sum(item.tokens for item in items)
        if fault.spoil is not None:
            items = fault.spoil(asked, items)
        change = fault.tokens or (lambda count: count)
        for item in items:
            item.tokens = change(item.tokens)
        answer = shape.write(asked, items, change(tokens))
        body = fault.body(answer.body) if fault.body is not None else answer.body
        headers = {**answer.headers, **fault.headers}
        answer = Answer(answer.status, headers, body, answer.is_chunked)
        return answer, _line(request, answer.status, asked)

    async def send(
        self, request: HttpRequest, /, *, timeout_s: float, max_bytes: int
    ) -> HttpResponse:
        """A transport without sockets. Faults of the framing cannot be had here."""
        url = urlsplit(request.url)
        target = f"{url.path}?{url.query}" if url.query else url.path
        headers = {name.lower(): value for name, value in request.headers.items()}
        headers["host"] = url.netloc
        came = Request.of(request.method, target, headers, request.body)
        fault = self._come(came)
        assert fault.play is None, "a fault of the framing needs a socket"
        if fault.before is not None:
            await fault.before.wait()
        answer, line = self.answer(came, fault)
        self.bill.add(line)
        if len(answer.body) > max_bytes:
            raise TransportError(f"its answer is longer than {max_bytes} bytes", was_sent=True)
        return HttpResponse(answer.status, answer.headers, answer.body)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, in turn."""
        try:
            while (request := await read_request(reader)) is not None:
                fault = self._come(request)
                answer, line = self.answer(request, fault)
                is_last = request.headers.get("connection", "").lower() == "close"
                sent = as_bytes(answer, is_last=is_last)
                lost = line.lost()
                self.bill.add(lost)
                wire = Wire(reader, writer, sent, partial(self.bill.replace, lost, line))
                await _play(wire, fault, sent)
                if is_last or fault.play is not None:
                    break
        except ConnectionError:
            pass  # the caller went while he was answered
        finally:
            writer.close()


async def _play(wire: Wire, fault: Fault, answer: bytes) -> None:
    if fault.before is not None:
        await fault.before.wait()
    if fault.play is not None:
        await fault.play(wire, answer)
    else:
        await wire.send(answer)


def make_items(asked: Asked) -> list[Item]:
    """What a faultless provider answers: a vector for each text, in order."""
    texts = [cut_text(text) for text in asked.texts]
    return [
        Item(
            index,
            expected_vector(text, asked.model, asked.dimensions, asked.task, asked.length),
            count_tokens(text) + asked.extra_tokens,
            is_cut=text != asked.texts[index],
        )
        for index, text in enumerate(texts)
    ]


def cut_text(text: str | tuple[int, ...]) -> str | tuple[int, ...]:
    """As much of *text* as a model reads."""
    if count_tokens(text) <= MAX_TOKENS:
        return text
    return " ".join(text.split()[: MAX_TOKENS - 1]) if isinstance(text, str) else text[:MAX_TOKENS]


def _check_lengths(asked: Asked) -> None:
    longest = max(map(count_tokens, asked.texts), default=0)
    if longest > MAX_TOKENS and asked.too_long is not None:
        raise Refused(asked.too_long_status, asked.too_long.format(max=MAX_TOKENS, count=longest))


def _line(request: Request, status: int, asked: Asked | None = None) -> Line:
    texts = [cut_text(text) for text in asked.texts] if asked else []
    extra = asked.extra_tokens if asked else 0
    return Line(
        provider=request.provider,
        model=asked.model if asked else "",
        texts=len(texts),
        tokens=sum(count_tokens(text) + extra for text in texts),
        characters=sum(len("".join(text.split())) for text in texts if isinstance(text, str)),
        status=status,
        answered=True,
    )


@asynccontextmanager
async def running_fake() -> AsyncIterator[FakeProvider]:
    """A fake on a port of this machine, until the end of the block."""
    fake = FakeProvider()
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await fake.serve(reader, writer)
        finally:
            connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**20)
    host, port = server.sockets[0].getsockname()[:2]
    fake.origin = f"http://{host}:{port}"
    try:
        yield fake
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
