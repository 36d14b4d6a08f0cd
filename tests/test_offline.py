"""The local model needs no network: neither in process, nor served."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from embedway.static_model import load_wordllama
from embedway.vectors import normalise

TEXTS = ["Hello, world!", "Ein Hund läuft 🐕", "日本語"]

# Refuses every name to look up and every address to connect to but those of loopback.
GUARD = """
import sys

def guard(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "localhost"
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in (None, "", "localhost", "127.0.0.1", "::1"):
        print("refused", event, host, file=sys.stderr, flush=True)
        raise PermissionError(f"{event} {host}")

sys.addaudithook(guard)
"""
EMBED = """
import asyncio, json, sys
from embedway.runtime import open_runtime
from embedway.settings import Settings
from embedway.types import Call, EmbedParams, EmbedRequest, Grant
from embedway.vectors import as_array

async def main():
    async with open_runtime(Settings(home=sys.argv[1])) as runtime:
        call = Call(id="1", grant=Grant.open(), deadline=runtime.clock.monotonic() + 60)
        params = EmbedParams(model="local/wordllama-256")
        texts = tuple(json.loads(sys.argv[2]))
        response = await runtime.gateway(EmbedRequest(params=params, inputs=texts, call=call))
        print(json.dumps([as_array(e.vector).tolist() for e in response.embeddings]))

asyncio.run(main())
"""
SERVE = """
import sys
from embedway.cli import main
sys.exit(main(["serve", "--port", "0", "--json"]))
"""


@pytest.fixture(scope="module")
def expected():
    """The vectors of the texts, made without a gateway."""
    model = load_wordllama()
    return normalise(model.sum_tokens(model.tokenize(TEXTS))).tolist()


@pytest.fixture
def environ(tmp_path):
    """The environment of a process that has nothing but a home of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    return kept | {"EMBEDWAY_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}


def run(environ, *command):
    """The vectors that a process prints."""
    done = subprocess.run(
        [*command, environ["EMBEDWAY_HOME"], json.dumps(TEXTS)],
        env=environ,
        capture_output=True,
        timeout=50,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert "refused" not in done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("host", ["192.0.2.1", "example.invalid", "2001:db8::1"])
def test_guard(host):
    """The guard of these tests does refuse what is not loopback."""
    code = f"{GUARD}\nimport socket\nsocket.create_connection(({host!r}, 9), timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=50)

    assert done.returncode != 0
    assert b"refused socket." in done.stderr


def test_in_process(environ, expected):
    """A runtime embeds in a process that may not connect anywhere."""
    assert run(environ, sys.executable, "-c", GUARD + EMBED) == expected


def unshare():
    """The command that cuts the network off, if it may be used here."""
    if (path := shutil.which("unshare")) is None:
        return None
    allowed = subprocess.run([path, "-rn", "true"], capture_output=True, timeout=50)
    return path if allowed.returncode == 0 else None


def test_without_any_network(environ, expected):
    """A runtime embeds in a network namespace that has no network at all."""
    if (path := unshare()) is None:
        pytest.skip("network namespaces are not permitted here")

    assert run(environ, path, "-rn", sys.executable, "-c", EMBED) == expected


def test_served(environ, expected):
    """A served gateway answers in a process that may connect to loopback only."""
    process = subprocess.Popen(
        [sys.executable, "-c", GUARD + SERVE],
        env=environ,
        cwd=Path(environ["HOME"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        request = urllib.request.Request(
            f"{url}/v1/embeddings",
            json.dumps({"model": "local/wordllama-256", "input": TEXTS}).encode(),
            {"Content-Type": "application/json", "Authorization": "Bearer x"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            body = json.load(answer)
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)

    vectors = [item["embedding"] for item in body["data"]]
    assert [len(vector) for vector in vectors] == [256] * 3
    for vector, wanted in zip(vectors, expected, strict=True):
        assert vector == pytest.approx(wanted, abs=1e-7)
    assert "refused" not in told
