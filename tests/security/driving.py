"""A gateway in a process of its own, driven through what goes well and much that does not, and all
that it said meanwhile."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.fake_provider.faults import delay, raw, status
from tests.fake_provider.server import FakeProvider, running_fake
from tests.security.canaries import ISSUER, SECRETS, TEXTS, echo, token
from tests.security.trouble import (
    ELSEWHERE,
    SMALL,
    body,
    faults,
    mistakes,
    new,
    settings,
    with_byok,
)

EMBEDWAY = [sys.executable, "-m", "embedway"]
COMMANDS = (
    "config show --origin",
    "config show --json",
    "config check",
    "providers",
    "providers --json",
    "providers ping",
    "doctor",
    "doctor --json",
    "models",
    "keys ls",
    "cache stats",
)


class Driver:
    """Sends requests to a gateway and keeps what it says."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._address = (str(parts.hostname), int(parts.port or 0))
        self._key = key
        self.answers: dict[str, list[bytes]] = {"successes": [], "errors": []}

    async def send(
        self, sent: Any, path: str = "/v1/embeddings", **headers: str
    ) -> tuple[int, bytes]:
        """Status and body."""
        return await asyncio.to_thread(self._send, sent, path, headers)

    def _send(self, sent: Any, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        all_of_them = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            **named,
        }
        data = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        try:
            connection.request("POST" if sent else "GET", path, data or None, all_of_them)
            answer = connection.getresponse()
            told = answer.read()
            kind = "successes" if answer.status < 400 else "errors"
            self.answers[kind].append(bytes(answer.headers) + told)
            return answer.status, told
        finally:
            connection.close()


async def fail(driver: Driver, fake: FakeProvider) -> dict[str, tuple[int, bytes]]:
    """Let the provider fail in every way. Returns what was answered."""
    told = {}
    for number, (name, fault) in enumerate(faults().items()):
        fake.always(fault)
        told[name] = await driver.send(new(provider=f"failing{number}"))
    both = " and ".join(TEXTS.values())
    fake.always(status(503, echo(text=both)))
    told["two texts"] = await driver.send(new(provider="well", input=list(TEXTS.values())))
    fake.always(delay(over := asyncio.Event()))
    told["silence"] = await driver.send(new(provider="well"), X_Request_Timeout_Ms="400")
    over.set()
    own = SECRETS["the caller's own key"]
    byok = with_byok({"openai": [{"apiKey": own}]}, provider="well", gateflow={"cache": "skip"})
    told_so = json.dumps({"error": {"message": echo(own)}}).encode()
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n" % len(told_so)
    fake.always(raw(head + told_so))  # the fake itself would refuse a key that it does not know
    told["own key, echoed"] = await driver.send(byok)
    fake.heal()
    told["own key, refused"] = await driver.send(byok)
    trusted = token(ISSUER, SECRETS["the signature of a token"])  # his keys cannot be had
    told["a token"] = await driver.send(body(), Authorization=f"Bearer {trusted}")
    for name, model in ELSEWHERE.items():
        told[name] = await driver.send(body(model=model, provider=name))
    return told


async def refuse(driver: Driver) -> list[tuple[int, bytes]]:
    """Make mistakes of every kind. Returns what was answered."""
    told = [await driver.send(mistake) for mistake in mistakes()]
    wrong = SECRETS["a wrong gateway key"]
    nobodys = token("https://nobody.test", SECRETS["the signature of nobody's token"])
    for credential in (f"Bearer {nobodys}", f"Bearer {wrong}", f"Basic {wrong}", wrong):
        told.append(await driver.send(body(), Authorization=credential))
    sdk = {"values": list(TEXTS.values()), "input": TEXTS["the text"]}
    told.append(await driver.send(sdk, "/v4/ai/embedding-model", ai_model_id=SMALL))
    told.append(await driver.send(body(), f"/v1/embeddings/x?key={wrong}"))
    return told


def run_command(work: Path, words: str, **environ: str) -> bytes:
    """What a command says on both its outputs."""
    done = subprocess.run(
        [*EMBEDWAY, *words.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=work,
        env=environment(work, **environ),
        timeout=50,
        check=False,
    )
    return done.stdout


def start(work: Path) -> subprocess.Popen[bytes]:
    """A gateway; what it says on standard error goes to a file."""
    with (work / "stderr.txt").open("wb") as log:
        return subprocess.Popen(
            [*EMBEDWAY, "serve", "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=work,
            env=environment(work),
        )


def environment(work: Path, **environ: str) -> dict[str, str]:
    """Without credentials of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if "KEY" not in name}
    return {**kept, "EMBEDWAY_HOME": str(work / "home"), **environ}


class Driven:
    """All that was said, and what the test looks at to know that it was driven at all."""

    def __init__(self, work: Path, form: str) -> None:
        self.form = form
        self.sinks: dict[str, bytes] = {}
        self.failed: dict[str, tuple[int, bytes]] = {}
        self.refused: list[tuple[int, bytes]] = []
        self.key = ""
        self._work = work

    async def drive(self, *, redis: bool) -> None:
        """Start a gateway, drive it, stop it, and collect what it said and wrote."""
        two_at_a_time = asyncio.Semaphore(2)
        async with running_fake() as fake:
            self._work.mkdir(exist_ok=True)
            (self._work / "embedway.toml").write_text(settings(fake, self.form, redis))
            created = await asyncio.to_thread(run_command, self._work, "keys create name --json")
            self.key = json.loads(created)["key"]
            process = await asyncio.to_thread(start, self._work)
            try:
                await self._drive(process, fake)
            finally:
                process.kill()
                process.communicate()
            await asyncio.gather(*(self._run(words, two_at_a_time) for words in COMMANDS))
        self.sinks["stderr"] = (self._work / "stderr.txt").read_bytes()
        for file in sorted((self._work / "home").iterdir()):
            self.sinks[f"file {file.name}"] = file.read_bytes()

    async def _run(self, words: str, permit: asyncio.Semaphore) -> None:
        async with permit:
            self.sinks[words] = await asyncio.to_thread(run_command, self._work, words)

    async def _drive(self, process: subprocess.Popen[bytes], fake: FakeProvider) -> None:
        assert process.stdout is not None
        first = await asyncio.to_thread(process.stdout.readline)
        driver = Driver(json.loads(first)["url"], self.key)
        for _ in range(2):  # asked, then known
            assert (await driver.send(body(provider="well")))[0] == 200
        self.failed = await fail(driver, fake)
        self.refused = await refuse(driver)
        metrics = await driver.send(b"", "/metrics")
        assert metrics[0] == 200
        process.terminate()
        rest = await asyncio.to_thread(process.stdout.read)
        self.sinks["stdout"] = first + rest
        self.sinks["metrics"] = metrics[1]
        self.sinks |= {kind: b"\n".join(told) for kind, told in driver.answers.items()}
