from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embedway.server.app import App
from embedway.settings import ServerSettings, Settings
from tests.asgi import bearer, call, embed, running
from tests.fakes import FakeClock

pytestmark = pytest.mark.asyncio(loop_scope="session")


HOSTS = (
    "localhost:1536",
    "localhost",
    "LocalHost:9",
    "localhost.:1536",
    "127.0.0.1",
    "127.0.0.1:1536",
    "127.8.9.10:80",
    "[::1]:1536",
    "[::1]",
)
FOREIGN_HOSTS = (
    "evil.com",
    "evil.com:1536",
    "localhost.evil.com",
    "127.0.0.1.evil.com:1536",
    "127.0.0.1.nip.io",
    "evil.com#@localhost",
    "localhost@evil.com",
    "192.168.0.2:1536",
    "0.0.0.0:1536",
    "[::]:1536",
    "[2001:db8::1]:1536",
    "[::1",
    "2130706433",
    "",
)
GUARDED = (
    "/v1/models",
    "/v1/credits",
    "/v4/ai/config",
    "/docs",
    "/docs/docs.js",
    "/openapi.json",
    "/metrics",
    "/readyz",
    "/nowhere",
)


@pytest.mark.parametrize("host", HOSTS)
async def test_loopback_names_are_let_in(app: App, host: str) -> None:
    """Without any key a loopback server answers under every loopback name."""
    assert (await embed(app, {"host": host})).status == 200


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
async def test_other_names_are_refused(app: App, host: str) -> None:
    """A name that a web page can point at loopback (DNS rebinding) reaches no open server."""
    response = await embed(app, {"host": host})
    assert (response.status, response.error["code"]) == (403, "insufficient_permissions")
    assert "embedway keys create" in response.error["message"]


@pytest.mark.parametrize("path", GUARDED)
async def test_every_page_is_guarded(app: App, path: str) -> None:
    """Foreign names and origins are refused on every route that says anything."""
    for headers in ({"host": "evil.com"}, {"origin": "http://evil.com"}):
        assert (await call(app, "GET", path, headers)).status == 403
    assert (await call(app, "GET", path)).status != 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:1536", 200),
        ("http://evil.com", 403),
        ("null", 403),
        ("", 403),
        ("https://localhost:1536", 403),
        ("http://localhost:3000", 403),
        ("http://127.0.0.1:1536", 403),
        ("http://localhost:1536.evil.com", 403),
        ("file://", 403),
    ],
)
async def test_only_its_own_origin_is_let_in(app: App, origin: str, status: int) -> None:
    """A page of any other origin cannot use an open server, of whatever port or scheme."""
    assert (await embed(app, {"origin": origin})).status == status


async def test_an_origin_the_operator_named_is_let_in(tmp_path: Path) -> None:
    """`cors_origins` opens the server to the pages it names and to no others."""
    server = ServerSettings(cors_origins=("http://localhost:3000", "*"))
    async with running(Settings(home=str(tmp_path), server=server)) as app:
        assert (await embed(app, {"origin": "http://localhost:3000"})).status == 200
        assert (await embed(app, {"origin": "http://evil.com"})).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer anything")],
        [("authorization", "Basic eDp5")],
        [("authorization", "")],
        [("authorization", "Bearer a"), ("authorization", "Bearer b")],
    ],
)
async def test_any_key_will_do(app: App, headers: Any) -> None:
    """While it is open a server takes whatever a client sends as key."""
    assert (await embed(app, headers)).status == 200


async def test_the_first_key_closes_it(own: App, clock: FakeClock) -> None:
    """A second after the first key was made nobody is let in without one."""
    assert (await embed(own)).status == 200
    _, key = own.runtime.keys.create("first")
    clock.advance(1.0)
    assert (await embed(own)).error["code"] == "missing_api_key"
    assert (await embed(own, bearer(key))).status == 200


async def test_a_revoked_last_key_does_not_open_it(own: App, clock: FakeClock) -> None:
    """A server that ever had a key stays closed."""
    _, key = own.runtime.keys.create("first")
    own.runtime.keys.revoke("first")
    assert (await embed(own)).error["code"] == "missing_api_key"
    assert (await embed(own, bearer(key))).error["code"] == "revoked_api_key"


async def test_a_closed_server_answers_any_name(own: App) -> None:
    """With a key the Host and the Origin say nothing any more."""
    _, key = own.runtime.keys.create("first")
    headers = {**bearer(key), "host": "evil.com", "origin": "http://evil.com"}
    assert (await embed(own, headers)).status == 200


async def test_without_loopback_there_is_no_open_server(tmp_path: Path) -> None:
    """A server that others reach lets nobody in without a key, not even from loopback."""
    async with running(Settings(home=str(tmp_path)), is_loopback_only=False) as app:
        assert (await embed(app)).error["code"] == "missing_api_key"
