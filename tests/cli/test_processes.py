"""What only whole processes show: signals, closed pipes, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

COMMAND = [sys.executable, "-m", "embedway"]

# The command with a model that answers the first request, says so, and never answers the second.
STUCK = """
import asyncio, sys
from contextlib import asynccontextmanager
from types import SimpleNamespace
from embedway.cli import job, main
from embedway.clock import SystemClock
from embedway.ids import Ids
from embedway.types import Embedding, EmbedResponse

async def ask(request):
    if "a" not in request.inputs:
        print("stuck", flush=True)
        await asyncio.Event().wait()
    return EmbedResponse(
        params=request.params,
        embeddings=tuple(Embedding(bytes(1020) + b"text", 1, "x") for _ in request.inputs),
    )

@asynccontextmanager
async def open_runtime(settings, *, clock):
    yield SimpleNamespace(gateway=ask, clock=clock, ids=Ids(SystemClock()))

job.open_runtime = open_runtime
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def stuck() -> Iterator[subprocess.Popen[str]]:
    """An `embedway embed` of two texts that has the first vector and waits for the second."""
    words = ["embed", "a", "b", "-o", "out.npy", "--batch-inputs", "1", "--concurrency", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stuck\n"
        yield process
        process.kill()


def test_ctrl_c_leaves_a_journal(stuck: subprocess.Popen[str], work: Path) -> None:
    """Interrupted, it says what is kept, ends with 130, and the next run takes it up."""
    stuck.send_signal(signal.SIGINT)
    _, err = stuck.communicate()
    assert err == (
        "embedway: vectors kept in out.npy.partial: 1; run the same command again to go on\n"
    )
    assert stuck.returncode == 130
    check_goes_on(work)


def test_a_kill_leaves_a_journal(stuck: subprocess.Popen[str], work: Path) -> None:
    """Killed without warning, it has kept what was done."""
    stuck.kill()
    stuck.communicate()
    check_goes_on(work)


def check_goes_on(work: Path) -> None:
    """A second run with the real model embeds only the second text."""
    done = subprocess.run(
        [*COMMAND, "embed", "a", "b", "-o", "out.npy", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    record = json.loads(done.stdout)
    assert (record["new"], record["skipped"], done.stderr) == (1, 1, "")
    vectors = np.load(work / "out.npy")
    assert vectors[0].tobytes() == bytes(1020) + b"text"
    assert np.linalg.norm(vectors[1]) == pytest.approx(1, abs=1e-6)
    assert not (work / "out.npy.partial").exists()


@pytest.mark.parametrize(
    "words", [["models", "--all"], ["embed", "a", "b"], ["--help"], ["config", "show", "--json"]]
)
def test_a_closed_pipe_is_quiet(words: list[str]) -> None:
    """When the reader of the output goes away, as `| head` does, there is no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*COMMAND, *words], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_characters_that_the_terminal_has_not() -> None:
    """Where the output cannot show a character, a question mark stands for it."""
    done = subprocess.run(
        [*COMMAND, "embed", "a", "--format", "text"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        check=True,
    )
    assert b"(?v?=1.000)" in done.stdout
    assert done.stderr == b""


@pytest.fixture
def gateway() -> Iterator[subprocess.Popen[str]]:
    """`embedway --port 0 --json`, just started."""
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_serve(gateway: subprocess.Popen[str], name: signal.Signals) -> None:
    """The gateway answers when its line is there, and ends without a word on a signal."""
    assert gateway.stdout is not None
    url = json.loads(gateway.stdout.readline())["url"]
    with urllib.request.urlopen(f"{url}/v1/models") as response:
        assert response.status == 200
    gateway.send_signal(name)
    assert gateway.communicate() == ("", "")
    assert gateway.returncode in (0, -name)
