"""Speed and size of the model in the process, measured beside `wordllama` called directly.

    .venv/bin/python bench/local.py

Prints the time from spawn to ready, the resident memory when idle, the latency of one text, and
texts per second in batches of 64 through HTTP as base64, all of one gateway pinned to one core;
then `wordllama` on the same core and the same texts. Rounds of both alternate, so that a noisy
machine hurts both alike; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import compileall
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "gateways", "route"]
WORDS += ["requests", "for", "embeddings", "of", "short", "sentences", "and", "long", "documents"]
BATCH = 64
CONNECTIONS = 4
MODEL = "local/wordllama-256"

# Runs in a process of its own, pinned to the gateway's core: reads batches, answers seconds.
DIRECT = """
import json, logging, os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
from pathlib import Path
import wordllama
model = wordllama.WordLlama.load(
    cache_dir=Path(wordllama.__file__).parent, disable_download=True
)
for line in sys.stdin:
    batches = json.loads(line)
    started = time.perf_counter()
    for texts in batches:
        model.embed(texts, norm=True)
    print(time.perf_counter() - started, flush=True)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=100, help="batches of 64 in each round")
    parser.add_argument("--words", type=int, default=12, help="words in each text")
    options = parser.parse_args()
    compileall.compile_dir(ROOT / "src", quiet=1)
    cores = sorted(os.sched_getaffinity(0))
    gateway_core, own_core = cores[0], cores[-1]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "EMBEDWAY_HOME": home}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        starts = [cold_start(environment, gateway_core) for _ in range(options.rounds)]
        print(f"cold start to ready       {statistics.median(starts):8.2f} s    (goal 1.0)")
        os.sched_setaffinity(0, {own_core})
        gateway, port = spawn(environment, gateway_core)
        direct = subprocess.Popen(
            [sys.executable, "-c", DIRECT, str(gateway_core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            print(f"idle resident memory      {resident_mb(gateway.pid):8.0f} MB   (goal 200)")
            print(f"one text, p50             {one_text_ms(port):8.2f} ms   (goal 2)")
            compare(port, direct, options)
        finally:
            direct.kill()
            gateway.terminate()
            gateway.wait()
            direct.wait()


def spawn(environment: dict[str, str], core: int) -> tuple[subprocess.Popen[str], int]:
    """A gateway on a free port, pinned to *core*, once it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "embedway", "serve", "--port", "0", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    return process, int(url.rpartition(":")[2])


def cold_start(environment: dict[str, str], core: int) -> float:
    """Seconds from spawn until the first answer to a request."""
    started = time.perf_counter()
    process, port = spawn(environment, core)
    post(http.client.HTTPConnection("127.0.0.1", port), ["first"])
    seconds = time.perf_counter() - started
    process.terminate()
    process.wait()
    return seconds


def post(connection: http.client.HTTPConnection, texts: list[str]) -> bytes:
    """Embed *texts*; the body of the answer."""
    body = json.dumps({"model": MODEL, "input": texts, "encoding_format": "base64"})
    connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise SystemExit(f"the gateway answered {response.status}: {answer[:300]!r}")
    return answer


def post_all(connection: http.client.HTTPConnection, batches: list[list[str]]) -> None:
    """Embed all *batches*, one after the other."""
    for texts in batches:
        post(connection, texts)


def one_text_ms(port: int) -> float:
    """Median milliseconds of one short text on a kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    taken = []
    for number in range(600):
        started = time.perf_counter()
        post(connection, [f"a short text, number {number}"])
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[100:]) * 1000


def compare(port: int, direct: subprocess.Popen[str], options: argparse.Namespace) -> None:
    """Texts per second through HTTP and directly, in alternating rounds.

    Four connections keep the gateway's core busy while answers travel; the calls are direct.
    """
    chooser = random.Random(1536)
    connections = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    pool = ThreadPoolExecutor(CONNECTIONS)
    through, called = [], []
    for _ in range(options.rounds + 1):
        batches = [
            [" ".join(chooser.choices(WORDS, k=options.words)) for _ in range(BATCH)]
            for _ in range(options.batches)
        ]
        started = time.perf_counter()
        list(pool.map(post_all, connections, (batches[n::CONNECTIONS] for n in range(CONNECTIONS))))
        through.append(BATCH * len(batches) / (time.perf_counter() - started))
        assert direct.stdin is not None
        assert direct.stdout is not None
        print(json.dumps(batches), file=direct.stdin, flush=True)
        called.append(BATCH * len(batches) / float(direct.stdout.readline()))
    # The first round warms both.
    rate, reference = statistics.median(through[1:]), statistics.median(called[1:])
    print(f"texts/s, batches of {BATCH}    {rate:8.0f}      (goal 8000; {options.words} words)")
    print(f"wordllama directly        {reference:8.0f}")
    print(f"ratio                     {rate / reference:8.2f}      (goal 0.60)")


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
