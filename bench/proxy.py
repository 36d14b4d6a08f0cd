"""The gateway as a proxy, beside nginx `proxy_pass` on the same core in the same run.

    .venv/bin/python bench/proxy.py            # needs nginx and wrk on the PATH

One fake upstream, which answers prepared vectors, as many as it is asked for, and wrk share one
core; the gateway and the nginx proxy take turns on the other. Every request holds a new text; when
the gateway has all it can do, the texts of several callers travel together. The model costs
nothing: what is paid for waits for the disk before it leaves, which `books.py` measures. Cases:

  S    one input, 1,536 dimensions, base64 from upstream and to the caller
  F    one input, floats both ways
  B    100 inputs, base64 both ways
  BF   100 inputs, floats both ways

CPU is user and system time of the whole process tree per request: the least noisy column. The
ratio to nginx in the same run is what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import json
import os
import random
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DIMENSIONS = 1536
CASES = {"S": (1, "base64"), "F": (1, "float"), "B": (100, "base64"), "BF": (100, "float")}
MODEL = "bench/proxy"

NGINX = """
daemon off; worker_processes 1; error_log {folder}/{name}.error; pid {folder}/{name}.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; client_max_body_size 20m; client_body_buffer_size 4m;
  client_body_temp_path {folder}/{name}.body; proxy_temp_path {folder}/{name}.proxy;
  fastcgi_temp_path {folder}/{name}.f; uwsgi_temp_path {folder}/{name}.u;
  scgi_temp_path {folder}/{name}.s; proxy_buffers 64 64k; proxy_buffer_size 64k;
  proxy_busy_buffers_size 1m; proxy_max_temp_file_size 0;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 128; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; {locations} }}
}}
"""
PASSED_ON = """
  location / { proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; }
"""
WRK = """
local inputs, form, account = {inputs}, "{form}", "{account}"
local filler = string.rep("lorem ipsum dolor sit amet ", 18)
local count = {seed}
request = function()
  local texts = {{}}
  for i = 1, inputs do count = count + 1; texts[i] = '"' .. count .. " " .. filler .. '"' end
  local body = '{{"model":"{model}","encoding_format":"' .. form .. '","provider":"' .. account
    .. '","input":[' .. table.concat(texts, ",") .. "]}}"
  return wrk.format("POST", "{path}", {{["content-type"] = "application/json",
    authorization = "Bearer {key}"}}, body)
end
done = function(summary, latency)
  io.write(string.format("RESULT %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


class Load(NamedTuple):
    """What wrk saw, and what the process under test spent."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    for tool in ("nginx", "wrk", "taskset"):
        if shutil.which(tool) is None:
            sys.exit(f"bench/proxy.py needs {tool} on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # nginx's worker reads the prepared bodies as another user
        bench = Bench(Path(folder), options.seconds)
        try:
            bench.start()
            for case in options.cases:
                bench.measure(case, options.rounds)
        finally:
            bench.stop()


class Bench:
    """The processes, each on its core."""

    def __init__(self, folder: Path, seconds: int) -> None:
        self.folder = folder
        self.seconds = seconds
        cores = sorted(os.sched_getaffinity(0))
        self.tested, self.other = cores[0], cores[-1]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.upstream, self.proxy, self.port = free_port(), free_port(), free_port()

    def start(self) -> None:
        """Upstream, nginx proxy and gateway."""
        serve = f"import sys; sys.path.insert(0, {str(HERE)!r}); import proxy; "
        command = [sys.executable, "-c", f"{serve}proxy.serve_prepared({self.upstream})"]
        self._spawn(command, self.other, dict(os.environ))
        self._nginx("proxy", self.proxy, PASSED_ON, self.tested)
        accounts = "\n".join(
            f'[providers.{case}]\nkind = "openai-compatible"\nprivate = true\n'
            f'base_url = "http://127.0.0.1:{self.upstream}/{case}"\n'
            f'models = {{ "{MODEL}" = "fake" }}\n'
            for case in CASES
        )
        config = self.folder / "embedway.toml"
        own = f'[models."{MODEL}"]\ndimensions = {DIMENSIONS}\n'
        config.write_text(f"{accounts}{own}[local]\nenabled = false\n")
        environment = {**os.environ, "EMBEDWAY_HOME": str(self.folder / "home")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = ["-m", "embedway", "serve", "--port", str(self.port), "--config", str(config)]
        self._spawn([sys.executable, *command, "--json"], self.tested, environment)
        for port in (self.upstream, self.proxy, self.port):
            wait_for(port)

    def stop(self) -> None:
        """End every process by its own id."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(10)

    def measure(self, case: str, rounds: int) -> None:
        """Both in turn, and their medians."""
        check(self.port, case)
        gateway, nginx = self.processes[2], self.processes[1]
        ours, theirs = [], []
        for round_number in range(rounds):
            theirs.append(self._load(case, self.proxy, f"/{case}/embeddings", nginx, round_number))
            ours.append(self._load(case, self.port, "/v1/embeddings", gateway, round_number))
        added = self._added_p50_ms(case)
        print(f"case {case}: {CASES[case][0]} input(s), {CASES[case][1]}")
        for name, loads in (("gateway", ours), ("nginx", theirs)):
            rate, p50, p99, cpu = (statistics.median(column) for column in zip(*loads, strict=True))
            print(
                f"  {name:8} {rate:9,.0f} req/s   p50 {p50:7.2f} ms   p99 {p99:8.2f} ms"
                f"   CPU {cpu:8,.0f} us/req"
            )
        ratio = statistics.median(load.rate for load in ours) / statistics.median(
            load.rate for load in theirs
        )
        print(f"  ratio to nginx {ratio:.3f}   added p50 at one connection {added:.2f} ms")
        print(f"  resident memory {resident_mb(gateway.pid):.0f} MB", flush=True)

    def _load(
        self, case: str, port: int, path: str, process: subprocess.Popen[bytes], seed: int
    ) -> Load:
        before = cpu_seconds(process.pid)
        requests, seconds, p50, p99 = self._wrk(case, port, path, 64, seed)
        spent = cpu_seconds(process.pid) - before
        return Load(requests / seconds, p50 / 1000, p99 / 1000, spent / requests * 1e6)

    def _added_p50_ms(self, case: str) -> float:
        """p50 through the gateway less p50 of the upstream itself, at one connection."""
        _, _, ours, _ = self._wrk(case, self.port, "/v1/embeddings", 1, 99)
        _, _, direct, _ = self._wrk(case, self.upstream, f"/{case}/embeddings", 1, 99)
        return (ours - direct) / 1000

    def _wrk(
        self, case: str, port: int, path: str, connections: int, seed: int
    ) -> tuple[int, float, float, float]:
        inputs, form = CASES[case]
        script = self.folder / "load.lua"
        script.write_text(
            WRK.format(
                inputs=inputs,
                form=form,
                account=case,
                model=MODEL,
                path=path,
                key="none",
                seed=seed * 10_000_000,
            )
        )
        command = ["taskset", "-c", str(self.other), "wrk", "-t1", f"-c{connections}"]
        command += [f"-d{self.seconds}s", "--timeout", "30s", "-s", str(script)]
        output = subprocess.run(
            [*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True
        ).stdout
        numbers = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
        if numbers is None:
            sys.exit(f"wrk said: {output}")
        requests, micros, p50, p99, refused, broken = map(int, numbers.groups())
        if refused or broken or not requests:
            sys.exit(f"{refused} answers were errors, {broken} connections broke")
        return requests, micros / 1e6, p50, p99

    def _nginx(self, name: str, port: int, locations: str, core: int) -> None:
        config = self.folder / f"{name}.conf"
        config.write_text(
            NGINX.format(
                folder=self.folder,
                name=name,
                port=port,
                upstream=self.upstream,
                locations=locations,
            )
        )
        self._spawn(["nginx", "-c", str(config), "-e", str(self.folder / "early")], core, None)

    def _spawn(self, command: list[str], core: int, environment: dict[str, str] | None) -> None:
        pinned = ["taskset", "-c", str(core), *command]
        self.processes.append(
            subprocess.Popen(
                pinned, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )


def numbers() -> list[list[float]]:
    """A hundred vectors, printed as OpenAI prints them: doubles."""
    chooser = random.Random(1536)
    return [[chooser.gauss(0.0, 0.0255) for _ in range(DIMENSIONS)] for _ in range(100)]


VECTORS = numbers()


@lru_cache(1024)
def prepared(inputs: int, form: str) -> bytes:
    """The upstream's answer."""
    data = []
    for index in range(inputs):
        vector = VECTORS[index % len(VECTORS)]
        embedding: object = vector
        if form == "base64":
            packed = struct.pack(f"<{DIMENSIONS}f", *vector)
            embedding = base64.b64encode(packed).decode()
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    usage = {"prompt_tokens": 100 * inputs, "total_tokens": 100 * inputs}
    answer = {"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage}
    body = json.dumps(answer, separators=(",", ":")).encode()
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return (head % len(body)).encode() + body


class Upstream(asyncio.Protocol):
    """One connection. It reads no more than it must: how long a request is, which form it wants,
    and how many texts there are, none of which holds a quote."""

    def __init__(self) -> None:
        self.kept = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer what is whole; nobody sends a second request before he has his answer."""
        self.kept += data
        head, end, body = self.kept.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if not end or length is None or len(body) < int(length[1]):
            return
        self.kept = b""
        texts = body.partition(b'"input":[')[2].partition(b"]")[0].count(b'"') // 2
        form = "base64" if b'"base64"' in body else "float"
        self.transport.write(prepared(texts, form))


def serve_prepared(port: int) -> None:
    """The fake upstream."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Upstream, "127.0.0.1", port, backlog=4096) as server:
            await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def check(port: int, case: str) -> None:
    """One answer through the gateway must hold the upstream's vectors exactly."""
    inputs, form = CASES[case]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = {
        "model": MODEL,
        "provider": case,
        "encoding_format": form,
        "input": [f"{case}: text {n}" for n in range(inputs)],
    }
    headers = {"content-type": "application/json"}
    connection.request("POST", "/v1/embeddings", json.dumps(body), headers)
    answer = json.loads(connection.getresponse().read())
    for item, expected in zip(answer["data"], VECTORS, strict=False):
        found = item["embedding"]
        if form == "base64":
            found = struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(found))
        exact = struct.unpack(f"<{DIMENSIONS}f", struct.pack(f"<{DIMENSIONS}f", *expected))
        again = struct.unpack(f"<{DIMENSIONS}f", struct.pack(f"<{DIMENSIONS}f", *found))
        if again != exact:
            sys.exit(f"case {case}: vector {item['index']} is wrong")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children so far."""
    ids = [pid]
    for one in ids:
        tasks = Path(f"/proc/{one}/task").glob("*/children")
        ids += [int(child) for path in tasks for child in path.read_text().split()]
    ticks = 0
    for one in ids:
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for(port: int, seconds: float = 15.0) -> None:
    """Until somebody listens there."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                sys.exit(f"nobody listens on port {port}")
            time.sleep(0.05)


if __name__ == "__main__":
    main()
