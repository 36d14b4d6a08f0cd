"""What the measurements share: processes on a core of their own, a fake provider, callers who
spend as little as they can, and numbers beside their goals."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
import uvloop

HERE = Path(__file__).resolve().parent
DIMENSIONS = 1536


class Result(NamedTuple):
    """A number, and what it should be: at most `most`, or at least `least`."""

    name: str
    measured: float
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether it is as it should be; None where nothing is demanded."""
        if self.most is None and self.least is None:
            return None
        is_too_much = self.most is not None and self.measured > self.most
        return not is_too_much and (self.least is None or self.measured >= self.least)

    def __str__(self) -> str:
        line = f"{self.name:50} {self.measured:12,.2f} {self.unit:9}"
        goals = (("at most", self.most), ("at least", self.least))
        wanted = [f"{words} {number:,g}" for words, number in goals if number is not None]
        return f"{line} {'PASS' if self.is_met else 'FAIL'}  {wanted[0]}" if wanted else line


def report(results: Sequence[Result], *, as_json: bool) -> None:
    """Print them, as a table or as JSON."""
    if as_json:
        told, head = [], ""
        for result in results:
            name = result.name.strip()
            if name == result.name:
                head = name
            else:  # indented in the table: it belongs to the line above
                name = f"{head}: {name}"
            told.append({**result._asdict(), "name": name, "is_met": result.is_met})
        print(json.dumps(told))
        return
    for result in results:
        print(result)


@contextmanager
def spawn(
    command: Sequence[str], core: int, home: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A Python process on *core* and the port of its URL, which is in the JSON line it prints when
    it is ready. Ended by its own id."""
    paths = filter(None, (str(HERE), os.environ.get("PYTHONPATH")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if home is not None:
        environment["EMBEDWAY_HOME"] = str(home)
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert process.stdout is not None
    try:
        if not (line := process.stdout.readline()):
            sys.exit(f"{' '.join(command)[:100]} did not start")
        yield process, int(json.loads(line)["url"].rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(20)


def ask(model: str, inputs: str | Sequence[str], form: str = "base64") -> bytes:
    """A whole HTTP request for embeddings."""
    body = json.dumps({"model": model, "input": inputs, "encoding_format": form}).encode()
    head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def exchange(
    port: int, requests: Iterator[bytes], connections: int, *, is_awake: bool = False
) -> tuple[float, list[float]]:
    """Send *requests* over kept connections, each again once it is answered, until none is left:
    the seconds all of it took, and those of each. Ends the process at any answer but 200.

    is_awake: the callers' process never sleeps. To wake it is work for the core of the server that
    answers, and the slower of two servers has to do it more often.
    """

    async def run() -> tuple[float, list[float]]:
        loop, latencies = asyncio.get_running_loop(), list[float]()
        callers = [Caller(requests, latencies, loop.create_future()) for _ in range(connections)]
        for caller in callers:
            await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", port)

        def look_again() -> None:
            loop.call_soon(look_again)

        if is_awake:
            look_again()
        started = time.perf_counter()
        for caller in callers:
            caller.send_next()
        try:
            await asyncio.gather(*(caller.end for caller in callers))
        except ConnectionError as error:
            sys.exit(str(error))
        return time.perf_counter() - started, latencies

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


class Caller(asyncio.BufferedProtocol):
    """One connection. Answers are counted, not kept: what is sent is a known request."""

    def __init__(
        self, requests: Iterator[bytes], latencies: list[float], end: asyncio.Future[None]
    ) -> None:
        self.requests, self.latencies, self.end = requests, latencies, end
        self.buffer = bytearray(1 << 18)
        self.view = memoryview(self.buffer)
        self.kept = self.left = 0
        self.started = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        self.transport: Any = transport

    def send_next(self) -> None:
        """Send the next request, or end."""
        request = next(self.requests, None)
        if request is None:
            self.end.set_result(None)
            self.transport.close()
            return
        self.started = time.perf_counter()
        self.transport.write(request)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Behind what is kept of an answer's head."""
        return self.view[self.kept :]

    def buffer_updated(self, nbytes: int) -> None:
        """Some more of the answer has come."""
        if self.left:
            self.left -= nbytes
        else:
            self.kept += nbytes
            if (end := self.buffer.find(b"\r\n\r\n", 0, self.kept)) < 0:
                return
            head = bytes(self.view[:end])
            if not head.startswith(b"HTTP/1.1 200"):
                self._fail(bytes(self.view[: self.kept])[:600].decode("latin-1"))
                return
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self.left, self.kept = length - (self.kept - end - 4), 0
        if not self.left:
            self.latencies.append(time.perf_counter() - self.started)
            self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        """A server must not hang up while it owes an answer."""
        self._fail(f"a connection broke: {exc}")

    def _fail(self, what: str) -> None:
        if not self.end.done():
            self.end.set_exception(ConnectionError(what))


_SLOWLY = 40
PROVIDER = "import load; load.serve(load.Provider({latency_s}, {slots}))"
"""The command of a process that is one."""


class Provider:
    """An ASGI application that speaks OpenAI's dialect, takes its time and counts its calls; for
    a text that says "slowly" it takes much more of it."""

    def __init__(self, latency_s: float, slots: int) -> None:
        self.latency_s = latency_s
        self.free = asyncio.Semaphore(slots)
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """`/tally` tells the calls since it was asked last."""
        body = await read_body(receive)
        if scope["path"] == "/tally":
            answer, self.calls = b"%d" % self.calls, 0
        else:
            self.calls += 1
            async with self.free:
                await asyncio.sleep(self.latency_s * (_SLOWLY if b"slowly" in body else 1))
            answer = embedded(json.loads(body)["input"])
        await send_body(send, answer)


async def read_body(receive: Any) -> bytes:
    """All of a request's body."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def send_body(send: Any, body: bytes) -> None:
    """An answer of JSON."""
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


def _packed() -> list[bytes]:
    chooser = random.Random(DIMENSIONS)
    rows = [[chooser.gauss(0.0, 1.0) for _ in range(DIMENSIONS)] for _ in range(64)]
    return [struct.pack(f"<{DIMENSIONS}f", *row) for row in rows]


VECTORS = _packed()
"""What there is; a text has the one of its first word, a number."""


def vector_of(text: str) -> bytes:
    """The vector of a text that begins with a number."""
    return VECTORS[int(text.partition(" ")[0]) % len(VECTORS)]


def embedded(inputs: str | list[str]) -> bytes:
    """The provider's answer."""
    texts = [inputs] if isinstance(inputs, str) else inputs
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector_of(text)).decode(),
        }
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 4 * len(texts), "total_tokens": 4 * len(texts)}
    answer = {"object": "list", "data": data, "model": "fake", "usage": usage}
    return json.dumps(answer, separators=(",", ":")).encode()


def serve(application: Any) -> None:
    """Serve *application* as the gateway is served (`server/run.py`), on a free port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(
        application,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        backlog=2048,
    )
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    uvicorn.Server(config).run(sockets=[listener])
