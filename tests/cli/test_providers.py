"""`embedway providers`: who is configured, and whether it answers."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from embedway.ledger import UsageLine
from embedway.store.books import UsageBook
from embedway.store.database import open_database
from tests.cli.running import Run
from tests.server.serving import serving


class Upstream:
    """Answers every POST on loopback with one prepared answer, in a thread of its own."""

    def __init__(self) -> None:
        self.body, self.status = b"", b"200 OK"
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> int:
        """Listen; the port."""
        self._thread.start()
        listening = asyncio.start_server(self._answer, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self.port

    def stop(self) -> None:
        """Close, and end the thread."""

        async def close() -> None:
            self._server.close()
            await self._server.wait_closed()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\nconnection: close\r\n"
        writer.write(head % self.status)
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(self.body), self.body))
        await writer.drain()
        writer.close()


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No gateway runs where the settings say: the port is taken and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("EMBEDWAY_SERVER_LISTEN", f"127.0.0.1:{taken.getsockname()[1]}")
        yield


@pytest.fixture
def upstream(work: Path) -> Iterator[Upstream]:
    """A provider on loopback, and a file that names it as the account "rack"."""
    server = Upstream()
    port = server.start()
    (work / "embedway.toml").write_text(
        '[providers.rack]\nkind = "openai-compatible"\nprivate = true\n'
        f'base_url = "http://127.0.0.1:{port}/v1"\n'
        'models = { "openai/text-embedding-ada-002" = "ada" }\n'
    )
    yield server
    server.stop()


def test_nobody(run: Run) -> None:
    """Without an account it says what to set."""
    ended = run("providers")
    assert (ended.code, ended.err) == (0, "")
    assert "OPENAI_API_KEY" in ended.out
    assert run("providers", "--json").out == "[]\n"


def test_list(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each account is listed with its models and a hint of its credential, never the credential."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdefWXYZ")
    ended = run("providers")
    assert ended.code == 0
    assert "openai" in ended.out
    assert "····WXYZ" in ended.out
    assert "0123456789" not in ended.out + run("providers", "--json").out
    (record,) = json.loads(run("providers", "ls", "--json").out)
    assert "openai/text-embedding-3-small" in record.pop("models")
    assert record == {
        "provider": "openai",
        "kind": "openai",
        "state": "ready",
        "credential": "OPENAI_API_KEY ····WXYZ",
        "last_error": None,
        "deployments": [],
    }


def test_last_error(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest failure of an account is shown, not an older one and not another's."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdefWXYZ")
    engine = open_database(home)
    book = UsageBook(engine)
    told = [("openai", "provider_timeout", 2), ("openai", "provider_unavailable", 1)]
    for provider, code, at in [*told, ("other", "rate_limit_exceeded", 3)]:
        book.add(
            UsageLine(
                id=f"{provider}{at}",
                created_ms=at,
                key_id="open",
                model="openai/text-embedding-3-small",
                provider=provider,
                inputs=1,
                tokens=0,
                cost=0,
                market_cost=0,
                latency_ms=1,
                status=503,
                code=code,
            )
        )
    book.close()
    engine.dispose()
    assert "provider_timeout" in run("providers").out
    (record,) = json.loads(run("providers", "--json").out)
    assert record["last_error"] == {"code": "provider_timeout", "at_ms": 2}


def test_ping(run: Run, upstream: Upstream) -> None:
    """A ping goes all the way and tells the width and the time."""
    item = {"object": "embedding", "index": 0, "embedding": [1.0] * 1536}
    upstream.body = orjson.dumps({"data": [item], "usage": {"prompt_tokens": 1}})
    ended = run("providers", "ping")
    assert ended.code == 0
    assert ended.out.startswith("ok    rack  openai/text-embedding-ada-002  1536 dims")
    (answer,) = json.loads(run("providers", "ping", "rack", "--json").out)
    assert (answer["provider"], answer["ok"]) == ("rack", True)


def test_ping_fails(run: Run, upstream: Upstream) -> None:
    """A failing account gives exit code 1 and its message; it is the last error from then on."""
    upstream.status, upstream.body = b"500 Oops", b'{"error": {"message": "out of order"}}'
    ended = run("providers", "ping")
    assert ended.code == 1
    assert ended.out == "fail  rack  rack failed (HTTP 500): out of order\n"
    assert "provider_unavailable" in run("providers").out


def test_unknown_account(run: Run) -> None:
    """An account that does not exist is exit code 3."""
    ended = run("providers", "ping", "nowhere")
    assert (ended.code, ended.out) == (3, "")
    assert "there is no account 'nowhere'" in ended.err


@pytest.fixture
def gateway(run: Run, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """In place of a running gateway, at the address of the settings; the account "rack" is its."""
    port = upstream.port
    monkeypatch.setenv("EMBEDWAY_SERVER_LISTEN", f"0.0.0.0:{port}")
    return upstream


def endpoints(status: int, breaker: str, provider: str = "rack") -> bytes:
    """What a gateway says of its deployments."""
    health = {
        "breaker": breaker,
        "wait_s": 1.5,
        "in_flight": 3,
        "concurrency": 20,
        "waiting": 7,
        "latency_ms": {"p50": 80.0, "p95": 240.4},
        "last_error": None,
    }
    endpoint = {"provider_name": provider, "status": status, "health": health, "name": "x"}
    return orjson.dumps({"data": {"id": "x", "endpoints": [endpoint]}})


@pytest.mark.parametrize(
    ("status", "breaker", "state"),
    [
        (0, "closed", "ready"),
        (-1, "closed", "at its limit"),
        (-2, "half_open", "tried again"),
        (-3, "open", "let alone"),
    ],
)
def test_a_running_gateway(
    run: Run, gateway: Upstream, status: int, breaker: str, state: str
) -> None:
    """Where a gateway runs, each account shows how its deployments fare there."""
    gateway.body = endpoints(status, breaker)
    ended = run("providers")
    head, row = ended.out.splitlines()
    assert head.split("  ")[-1].strip() == "P95 MS"
    assert (f"{state}: 1 of 1" if status else "ready") in row
    assert row.split()[-3:] == ["3", "7", "240"]
    (record,) = json.loads(run("providers", "--json").out)
    (deployment,) = record["deployments"]
    assert (deployment["model"], deployment["state"]) == ("openai/text-embedding-ada-002", state)
    assert (deployment["breaker"], deployment["concurrency"]) == (breaker, 20)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (b"200 OK", b"<html>"),
        (b"200 OK", b"{}"),
        (b"404 Not Found", b'{"error": {}}'),
        (b"200 OK", endpoints(0, "closed", provider="another")),
    ],
)
def test_somebody_else_is_there(run: Run, gateway: Upstream, code: bytes, body: bytes) -> None:
    """What answers there and is no gateway with these accounts changes nothing of what is shown."""
    gateway.status, gateway.body = code, body
    ended = run("providers", "--json")
    assert (ended.code, ended.err) == (0, "")
    (record,) = json.loads(ended.out)
    assert (record["provider"], record["deployments"]) == ("rack", [])


def test_a_real_gateway(
    run: Run, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a real gateway says of itself is understood."""
    config = Path("embedway.toml").read_text("utf-8")
    monkeypatch.delenv("EMBEDWAY_SERVER_LISTEN")
    with serving(tmp_path / "gateway", config) as (url, _):
        monkeypatch.setenv("EMBEDWAY_SERVER_LISTEN", url.removeprefix("http://"))
        (record,) = json.loads(run("providers", "--json").out)
    (deployment,) = record["deployments"]
    assert (deployment["state"], deployment["breaker"]) == ("ready", "closed")
    assert deployment["latency_ms"] == {"p50": None, "p95": None}
