"""What a known vector costs, beside a server that says the same bytes without any thought.

    .venv/bin/python bench/cache.py            # --json prints one JSON list in place of the table

The gateway has one core; the callers and a fake provider share the other. In turns with it, on its
core, two others answer the very bytes that the gateway did: a bare ASGI application under the same
uvicorn settings, and the gateway's own server (its checks of the head, its keys and ids, its way of
reading the body) with nothing behind its route. Vectors have 1,536 numbers; results are medians
over the rounds. How long the event loop is held is told by a task inside the gateway's own process.

The callers never sleep (`load.exchange`).

Both cores must be idle otherwise: the constant servers are nearly as fast as the callers, so that
whatever else runs beside them makes them slower and the ratio better than it is. The CPU that each
spends on a request is the steadier measure; it holds the threads that write the books, too.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from load import (
    DIMENSIONS,
    PROVIDER,
    Result,
    ask,
    exchange,
    read_body,
    report,
    send_body,
    spawn,
    vector_of,
)

from embedway.clock import SystemClock
from embedway.gateway import Gateway
from embedway.layers.route import Route
from embedway.origins import load_settings
from embedway.runtime import Runtime, open_runtime
from embedway.server import app
from embedway.server.embeddings import Embeddings
from embedway.server.messages import JSON, Incoming, Outgoing
from embedway.server.run import Ready
from embedway.server.run import serve as serve_gateway
from embedway.types import Call, Embedder, EmbedParams, EmbedRequest, Grant, replace

MODEL = "openai/text-embedding-3-small"
CONNECTIONS = 16
MOST = 2048
MEMORY_BYTES = 128 * 2**20
BEAT_S = 0.001
LEARN = "/embeddings"
"""Where the constant servers are told what to answer; they are asked at `/v1/embeddings`."""
CONFIG = """
[providers.fake]
kind = "openai-compatible"
private = true
base_url = "http://127.0.0.1:{port}/v1"
models = {{ "{model}" = "fake" }}
[local]
enabled = false
[cache]
memory_bytes = {memory_bytes}
"""


class Load(NamedTuple):
    """What a server bore, and what it spent."""

    rate: float
    cpu_us: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each load in each round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    provide = ["-c", PROVIDER.format(latency_s=0, slots=64)]
    repeat = ["-c", "import cache, load; load.serve(cache.Constant())"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _, provider = stack.enter_context(spawn(provide, cores[-1]))
        with spawn(repeat, cores[0]) as bare:
            bench = Bench(folder, provider, cores[0], Server(*bare), options)
            results = [*bench.from_memory(), *bench.from_disk()]
        os.sched_setaffinity(0, {cores[0]})
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            results += runner.run(in_process(bench.configure(MEMORY_BYTES), options.rounds))
    report(results, as_json=options.json)


class Server:
    """A process that answers."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port
        self.proc = Path(f"/proc/{process.pid}")

    def load(self, request: bytes, seconds: float) -> Load:
        """The same request again and again, over many connections."""
        before = self._cpu_seconds()
        requests = _again(request, seconds)
        took, latencies = exchange(self.port, requests, CONNECTIONS, is_awake=True)
        spent = self._cpu_seconds() - before
        return Load(len(latencies) / took, spent / len(latencies) * 1e6)

    def answer(self, request: bytes) -> bytes:
        """The body of the answer to one request."""
        head, _, body = request.partition(b"\r\n\r\n")
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("POST", head.split()[1].decode(), body)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if response.status != 200:
            sys.exit(answer[:600].decode())
        return answer

    def longest_hold_ms(self, request: bytes) -> float:
        """How long the event loop was held at most while it answered."""
        self._tell("begin")
        exchange(self.port, iter([request]), 1)
        return float(self._tell("end")) * 1000

    def peak_mb(self, request: bytes) -> float:
        """The most resident memory while it answered."""
        (self.proc / "clear_refs").write_text("5")  # forgets the peak so far
        exchange(self.port, iter([request]), 1)
        return self.memory_mb("VmHWM")

    def memory_mb(self, name: str = "VmRSS") -> float:
        """A line of the kernel's account of the process."""
        status = (self.proc / "status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) / 1024

    def _tell(self, word: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(word, file=self.process.stdin, flush=True)
        return self.process.stdout.readline()

    def _cpu_seconds(self) -> float:
        fields = (self.proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _again(request: bytes, seconds: float) -> Iterator[bytes]:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        yield request


def texts(count: int) -> list[str]:
    """The first texts there are."""
    return [f"{number} a text that was embedded before" for number in range(count)]


class Bench:
    """One gateway after the other on the same folder, and the constant servers beside it."""

    def __init__(
        self, folder: Path, provider: int, core: int, bare: Server, options: argparse.Namespace
    ) -> None:
        self.folder, self.provider, self.core, self.bare = folder, provider, core, bare
        self.rounds, self.seconds = options.rounds, options.seconds

    def configure(self, memory_bytes: int) -> Path:
        """The settings of a gateway that keeps so much in memory."""
        config = self.folder / f"{memory_bytes}.toml"
        config.write_text(CONFIG.format(port=self.provider, model=MODEL, memory_bytes=memory_bytes))
        return config

    def from_memory(self) -> list[Result]:
        """Hits of the first tier; the large answers first, while no memory was needed for any."""
        with self._gateway(MEMORY_BYTES) as gateway, self._same_server() as same:
            return [
                *self._large(gateway),
                *self._one(gateway, same),
                *self._hundred(gateway, same),
            ]

    def from_disk(self) -> list[Result]:
        """Hits of the file that the gateway before has left, with no room in memory."""
        with self._gateway(0) as gateway:
            one = self._median(gateway, ask(MODEL, texts(1)))
            hundred = self._median(gateway, ask(MODEL, texts(100)))
        return [
            *_of_load("one text from disk, base64", one),
            *_of_load("100 texts from disk, base64", hundred),
        ]

    @contextmanager
    def _gateway(self, memory_bytes: int) -> Iterator[Server]:
        """One that knows all texts."""
        command = f"import cache; cache.serve_watched({str(self.configure(memory_bytes))!r})"
        with spawn(["-c", command], self.core, self.folder / "home") as started:
            gateway, known = Server(*started), texts(MOST)
            for start in range(0, MOST, 128):
                exchange(gateway.port, iter([ask(MODEL, known[start : start + 128])]), 1)
            self._check(gateway)
            yield gateway

    @contextmanager
    def _same_server(self) -> Iterator[Server]:
        """The gateway's server without the gateway."""
        command = f"import cache; cache.serve_constant({str(self.configure(0))!r})"
        with spawn(["-c", command], self.core, self.folder / "nothing") as started:
            yield Server(*started)

    def _check(self, gateway: Server) -> None:
        """All must be known by now, and be what the provider said, to the bit."""
        known = texts(MOST)
        for form in ("base64", "float"):
            answer = json.loads(gateway.answer(ask(MODEL, known[:100], form)))
            if answer["gateflow"]["cache"]["hits"] != 100:
                sys.exit("not everything was kept")
            for text, item in zip(known, answer["data"], strict=False):
                found = item["embedding"]
                if form == "float":
                    packed = struct.pack(f"<{DIMENSIONS}f", *found)
                else:
                    packed = base64.b64decode(found)
                if packed != vector_of(text):
                    sys.exit(f"the vector of {text!r} is wrong")

    def _median(self, server: Server, request: bytes) -> Load:
        return _middle([server.load(request, self.seconds) for _ in range(self.rounds)])

    def _beside(
        self, what: str, request: bytes, *servers: Server, least: float | None = None
    ) -> list[Result]:
        """The gateway, which is the first of *servers*, and the others with its bytes, in turns."""
        gateway, *constants = servers
        body = gateway.answer(request)
        for constant in constants:
            constant.answer(f"POST {LEARN} HTTP/1.1\r\n\r\n".encode() + body)
        taken: list[list[Load]] = [[] for _ in servers]
        for _ in range(self.rounds):
            for loads, server in zip(taken, servers, strict=True):
                loads.append(server.load(request, self.seconds))
        ours, same, bare = map(_middle, taken)
        return [
            *_of_load(what, ours, least=least),
            *_of_load("  the same server, same bytes", same),
            Result("  ratio to the same server", ours.rate / same.rate, least=0.40),
            Result("  ratio of the CPU spent", same.cpu_us / ours.cpu_us),
            *_of_load("  bare uvicorn, same bytes", bare),
            Result("  ratio to bare uvicorn", ours.rate / bare.rate),
            Result("  ratio of the CPU spent, to bare uvicorn", bare.cpu_us / ours.cpu_us),
        ]

    def _one(self, gateway: Server, same: Server) -> list[Result]:
        request = ask(MODEL, texts(1))
        return self._beside("one known text, base64", request, gateway, same, self.bare)

    def _hundred(self, gateway: Server, same: Server) -> list[Result]:
        request, floats = ask(MODEL, texts(100)), ask(MODEL, texts(100), "float")
        return [
            *self._beside("100 known texts, base64", request, gateway, same, self.bare, least=1000),
            *_of_load("100 known texts, floats", self._median(gateway, floats)),
        ]

    def _large(self, gateway: Server) -> list[Result]:
        """The largest answer there is."""
        results, idle = [], gateway.memory_mb()
        for form in ("base64", "float"):
            request = ask(MODEL, texts(MOST), form)
            peaks = [gateway.peak_mb(request) for _ in range(self.rounds)]
            held = [gateway.longest_hold_ms(request) for _ in range(self.rounds)]
            size = len(gateway.answer(request)) / 2**20
            took = [exchange(gateway.port, iter([request]), 1)[0] for _ in range(self.rounds)]
            results += [
                Result(f"2,048 known texts, {form}: size", size, "MB"),
                Result("  time", statistics.median(took) * 1000, "ms"),
                Result("  event loop held at most", statistics.median(held), "ms", most=50),
                Result("  the worst round", max(held), "ms"),
                Result("  peak memory above idle, in sizes", (max(peaks) - idle) / size, most=3),
            ]
        return [Result("memory when idle, all known", idle, "MB"), *results]


def _middle(loads: Sequence[Load]) -> Load:
    return Load(*(statistics.median(column) for column in zip(*loads, strict=True)))


def _of_load(name: str, load: Load, least: float | None = None) -> list[Result]:
    return [
        Result(name, load.rate, "req/s", least=least),
        Result(f"{name}, CPU" if name.startswith(" ") else "  CPU", load.cpu_us, "us/req"),
    ]


async def in_process(config: Path, rounds: int) -> list[Result]:
    """What a hit costs in the layers alone, with the real books and counters."""
    home = {"EMBEDWAY_HOME": str(config.parent / "alone")}
    async with open_runtime(load_settings(environ=home, config=config).settings) as runtime:
        call = Call(
            id=runtime.ids.new(), grant=Grant.open(), deadline=SystemClock().monotonic() + 600
        )
        asked = EmbedRequest(params=EmbedParams(model=MODEL), inputs=tuple(texts(1)), call=call)
        hundred = replace(asked, inputs=tuple(texts(100)))
        final = replace(asked, params=(await runtime.gateway(hundred)).params)
        layers = _layers(runtime.gateway)
        taken: list[list[float]] = [[] for _ in layers]
        many = []
        for _ in range(rounds * 4):
            for times, layer in zip(taken, layers, strict=True):
                known = final if layer is layers[-1] else asked
                times.append(await _microseconds(runtime, layer, known, 300))
            many.append(await _microseconds(runtime, layers[0], hundred, 50))
    spent = [*map(statistics.median, taken), 0.0]
    return [
        Result("layers, one known text", spent[0], "us", most=60),
        *(
            Result(f"  {type(layer).__name__}", spent[i] - spent[i + 1], "us")
            for i, layer in enumerate(layers)
        ),
        Result("layers, 100 known texts", statistics.median(many), "us"),
    ]


def _layers(gateway: Gateway) -> list[Embedder]:
    """From the topmost to the model's cache."""
    found: list[Any] = [gateway.stack]
    while not isinstance(found[-1], Route):
        found.append(found[-1].inner)
    return [*found, found[-1].stacks[MODEL]]


async def _microseconds(
    runtime: Runtime, embedder: Embedder, request: EmbedRequest, times: int
) -> float:
    """Of one call. The book's thread, which gathers lines for longer than this takes, writes them
    before and after."""
    await asyncio.to_thread(runtime.book.flush)
    requests = [
        replace(request, call=replace(request.call, id=runtime.ids.new())) for _ in range(times)
    ]
    started = time.perf_counter()
    for one in requests:
        await embedder(one)
    return (time.perf_counter() - started) / times * 1e6


# What runs in the processes that are started.


class Constant:
    """An ASGI application that answers what it was told last."""

    def __init__(self) -> None:
        self.body = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the body, then answer."""
        body = await read_body(receive)
        if scope["path"] == LEARN:
            self.body = body
        await send_body(send, self.body)


class Known(Embeddings):
    """In place of the gateway's route, behind its own server: likewise."""

    answer = Outgoing(200, (JSON,), b"")

    async def handle(self, incoming: Incoming, grant: Grant, id: str) -> Outgoing:
        """The body is read already."""
        if incoming.path == LEARN:
            self.answer = Outgoing(200, (JSON,), incoming.body)
        return self.answer


def serve_constant(config: str) -> None:
    """The gateway's server in front of `Known`."""
    app.Embeddings = Known  # type: ignore[attr-defined]
    serve_watched(config)


def serve_watched(config: str) -> None:
    """The gateway, with a task that feels how long its event loop is held.

    A line `begin` on standard input starts it, `end` ends it and is answered with seconds.
    """
    loaded = load_settings(config=Path(config), overrides={"server.listen": "127.0.0.1:0"})
    heart = Heart()

    def announce(ready: Ready) -> None:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), heart.listen)
        print(json.dumps({"url": ready.url}), flush=True)

    serve_gateway(loaded, announce)


class Heart:
    """Beats each millisecond and remembers the longest time it could not."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.beating: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """A line came."""
        if sys.stdin.readline().strip() == "begin":
            self.longest_s = 0.0
            self.beating = asyncio.get_running_loop().create_task(self._beat())
            print("begun", flush=True)
        elif self.beating is not None:
            self.beating.cancel()
            print(self.longest_s, flush=True)

    async def _beat(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(BEAT_S)
            now = time.perf_counter()
            self.longest_s = max(self.longest_s, now - last - BEAT_S)
            last = now


if __name__ == "__main__":
    main()
