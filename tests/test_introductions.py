"""A server that can tell which model it serves configures its account by itself."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from embedway.introductions import introduce
from embedway.provider import HttpRequest, HttpResponse, TransportError
from embedway.runtime import open_runtime
from embedway.secret import Secret
from embedway.settings import AccountSettings, LocalSettings, Settings
from embedway.types import Call, EmbedParams, EmbedRequest, Grant
from embedway.wrong_settings import SettingsError
from tests.fake_provider.exchange import KEY
from tests.fake_provider.server import running_fake

INFO = b'{"model_id": "BAAI/bge-m3", "max_client_batch_size": 32, "max_input_length": 512}'


class Server:
    """Answers by path, and remembers what it was asked."""

    def __init__(self, **answers: HttpResponse | Exception) -> None:
        self.answers = answers
        self.asked: list[HttpRequest] = []

    async def __call__(
        self, request: HttpRequest, /, *, timeout_s: float, max_bytes: int
    ) -> HttpResponse:
        """The answer of the path's last part."""
        self.asked.append(request)
        answer = self.answers[request.url.rpartition("/")[2]]
        if isinstance(answer, Exception):
            raise answer
        return answer


def ok(body: bytes) -> HttpResponse:
    """A 200."""
    return HttpResponse(200, {}, body)


def rack(**changes: object) -> Settings:
    """Settings with one TEI server that names no models."""
    fields = {"kind": "tei", "base_url": "http://127.0.0.1:8081", "private": True, **changes}
    return Settings(home="unused", providers={"rack": AccountSettings(**fields)})  # type: ignore[arg-type]  # a table of fields


async def test_what_a_server_tells() -> None:
    """The model, its limits and the width of its vectors come from the server; the credential goes
    along, and private addresses stay allowed."""
    server = Server(info=ok(INFO), embed=ok(b"[[0.6, 0.8, 0.0]]"))
    settings = await introduce(rack(api_key=Secret("k")), server)
    account, own = settings.providers["rack"], settings.models["rack/BAAI/bge-m3"]
    assert account.models == {"rack/BAAI/bge-m3": "BAAI/bge-m3"}
    assert account.max_inputs == 32
    assert (own.dimensions, own.max_input_tokens) == (3, 512)
    assert all(request.is_private for request in server.asked)
    assert {request.headers["authorization"] for request in server.asked} == {"Bearer k"}


async def test_the_operator_has_the_last_word() -> None:
    """An account that names its models is not asked, and its own limit stays."""
    server = Server(info=ok(INFO), embed=ok(b"[[0.6, 0.8]]"))
    named = rack(models={"rack/x": "x"})
    assert await introduce(named, server) == named
    assert server.asked == []
    told = await introduce(rack(max_inputs=8), server)
    assert told.providers["rack"].max_inputs == 8


@pytest.mark.parametrize(
    "answers",
    [
        {"info": TransportError("it cannot be reached", was_sent=False)},
        {"info": HttpResponse(503, {}, b"")},
        {"info": ok(b"<html>")},
        {"info": ok(b"{}")},
        {"info": ok(INFO), "embed": ok(b"[]")},
        {"info": ok(INFO), "embed": ok(b"[[]]")},
        {"info": ok(INFO.replace(b"BAAI/bge-m3", rb"a\r\nset-cookie: x"))},
        {"info": ok(INFO), "embed": HttpResponse(429, {}, b"")},
    ],
)
async def test_a_server_that_does_not_tell(
    answers: dict[str, HttpResponse | Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """A server that cannot be asked serves nothing, the operator is told, and the start goes on."""
    settings = rack()
    with caplog.at_level(logging.WARNING):
        assert await introduce(settings, Server(**answers)) == settings
    assert "providers.rack serves nothing until the next start" in caplog.text


async def test_wrong_settings_stop_the_start() -> None:
    """An account without an address is a mistake of the settings, not of the server."""
    with pytest.raises(SettingsError, match=r"providers\.rack\.base_url must be set"):
        await introduce(rack(base_url=None), Server())


async def test_all_the_way(tmp_path: Path) -> None:
    """Over real sockets: the gateway serves the model under the account's name."""
    async with running_fake() as fake:
        account = AccountSettings(
            kind="tei", base_url=fake.url("tei"), private=True, api_key=Secret(KEY)
        )
        settings = Settings(
            home=str(tmp_path), local=LocalSettings(enabled=False), providers={"rack": account}
        )
        async with open_runtime(settings) as runtime:
            (name,) = runtime.gateway.accounts
            call = Call(
                id=runtime.ids.new(),
                grant=Grant.open(),
                deadline=runtime.clock.monotonic() + 10,
            )
            inputs = tuple(f"text {n}" for n in range(70))
            request = EmbedRequest(params=EmbedParams(model=name), inputs=inputs, call=call)
            response = await runtime.gateway(request)
    assert name.startswith("rack/")
    assert len(response.embeddings) == 70
