"""Who may manage: every route of the document against every kind of caller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from embedway.server.app import App
from embedway.server.management import is_managed, management_routes
from embedway.server.management_answers import ROOT
from embedway.settings import Settings
from tests.asgi import bearer, call, running
from tests.fakes import FakeClock
from tests.server.managing import BODIES, OPERATIONS
from tests.server.staying import staying

pytestmark = pytest.mark.asyncio(loop_scope="session")

REFUSED = {
    "no key": (401, "missing_api_key"),
    "garbage": (401, "invalid_api_key"),
    "a basic login": (401, "invalid_api_key"),
    "an admin's key, cut": (401, "invalid_api_key"),
    "prod": (403, "insufficient_permissions"),
    "dev": (403, "insufficient_permissions"),
    "expired admin": (401, "expired_api_key"),
    "revoked admin": (401, "revoked_api_key"),
    "rotated admin": (401, "expired_api_key"),
}
BODY = b"x" * 2**20


class Closed:
    """A server with keys, and what each kind of caller sends."""

    def __init__(self, app: App, clock: FakeClock) -> None:
        keys = app.runtime.keys
        self.app = app
        admin = keys.create("boss", type="admin")[1]
        soon = int(clock.now() * 1000) + 1000
        rotated, old = keys.create("rotated", type="admin")
        keys.rotate(rotated.id, overlap_s=1)
        self.admin = bearer(admin)
        self.callers: dict[str, dict[str, str]] = {
            "no key": {},
            "garbage": bearer("gw_admin_0123456789ab_nonsense"),
            "a basic login": {"authorization": f"Basic {admin.reveal()}"},
            "an admin's key, cut": bearer(admin.reveal()[:-1]),
            "prod": bearer(keys.create("p")[1]),
            "dev": bearer(keys.create("d", type="dev")[1]),
            "expired admin": bearer(keys.create("e", type="admin", expires_ms=soon)[1]),
            "revoked admin": bearer(keys.create("r", type="admin")[1]),
            "rotated admin": bearer(old),
        }
        keys.revoke("r")
        clock.advance(2)
        self.id = keys.create("the one it is about")[0].id
        app.runtime.budgets.set("key", self.id, "month", 1)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Closed]:
    """One for all who are refused, since they change nothing."""
    clock = FakeClock()
    settings = Settings(home=str(tmp_path_factory.mktemp("closed")))
    async with running(settings, clock=clock) as app:
        yield Closed(app, clock)


def address(path: str, id: str) -> str:
    """A path of the document with its parameters filled in."""
    names = {"{id}": id, "{owner_kind}": "key", "{owner}": id, "{period}": "month"}
    for name, value in names.items():
        path = path.replace(name, value)
    return path


def all_that_is_kept(app: App) -> Any:
    """What a route could have changed."""
    runtime = app.runtime
    keys = [replace(key, last_used_ms=None) for key in runtime.keys.all()]
    return keys, runtime.budgets.states(int(runtime.clock.now() * 1000))


@pytest.fixture
def unchanged(closed: Closed) -> Iterator[Closed]:
    """Nothing that the test asks for may change anything."""
    before = all_that_is_kept(closed.app)
    yield closed
    assert all_that_is_kept(closed.app) == before


async def refuse(closed: Closed, method: str, path: str, caller: str) -> tuple[int, str]:
    """What *caller* hears: status and code. No body may be read."""
    headers = closed.callers[caller]
    response = await call(closed.app, method, path, headers, pieces=[BODY] * 3)
    assert response.pieces_read == 0
    return response.status, response.error["code"]


async def test_the_door_has_every_route(closed: Closed) -> None:
    """The routes are those of the document, method by method, all behind the door; and each that
    takes a body has one here."""
    routes = management_routes(closed.app.runtime, closed.app.guard, str)
    found = {
        (method, route.path) for route in routes for method in (route.methods or set()) - {"HEAD"}
    }
    assert found == set(OPERATIONS)
    assert all(is_managed(route.path) for route in routes)
    assert len(OPERATIONS) >= 18
    assert {one for one in OPERATIONS if one[0] in ("POST", "PUT")} == set(BODIES)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_refused(unchanged: Closed, method: str, path: str) -> None:
    """Nobody but an admin may use a route: each other caller hears why, before his body is read,
    and nothing changes."""
    heard = {
        caller: await refuse(unchanged, method, address(path, unchanged.id), caller)
        for caller in unchanged.callers
    }
    assert heard == REFUSED


# What ends something comes last.
IN_ORDER = sorted(OPERATIONS, key=lambda one: (one[0] == "DELETE", one))


async def test_admins(own: App, clock: FakeClock) -> None:
    """An admin's key opens every route, which then does what it is asked."""
    closed = Closed(own, clock)
    for method, path in IN_ORDER:
        body = BODIES.get((method, path), b"")
        response = await call(staying(own), method, address(path, closed.id), closed.admin, body)
        assert response.status == 200, f"{method} {path}: {response.body!r}"


async def test_open_server(own: App, clock: FakeClock) -> None:
    """While there is no key, a caller on this machine may do everything that makes sense without
    one; a web page of another origin, or one that reached us under another name, may not. The first
    key closes the server."""
    own.runtime.budgets.set("key", "nobody", "month", 1)
    first = ("POST", f"{ROOT}/api-keys")
    for method, path in sorted(IN_ORDER, key=lambda one: one == first):
        for headers in ({"host": "evil.com"}, {"origin": "http://evil.com"}, {"origin": "null"}):
            assert (await call(own, method, path, headers)).status == 403
        body = BODIES.get((method, path), b"")
        response = await call(staying(own), method, address(path, "nobody"), (), body)
        is_about_a_key = "{id}" in path or (method == "PUT" and "{owner}" in path)
        assert response.status == (404 if is_about_a_key else 200), f"{method} {path}"
    assert own.runtime.keys.all()
    clock.advance(2)
    assert (await call(own, "GET", f"{ROOT}/settings")).status == 401


async def test_open_only_to_this_machine(tmp_path: Path) -> None:
    """A server that others can reach is never open, even before the first key."""
    async with running(Settings(home=str(tmp_path)), is_loopback_only=False) as app:
        for method, path in OPERATIONS:
            response = await call(app, method, path, pieces=[BODY])
            assert (response.status, response.pieces_read) == (401, 0)


async def test_no_route_and_no_method(unchanged: Closed) -> None:
    """Who is no admin does not learn which routes there are: below the prefix all is refused; an
    admin is told, with every method that a path takes."""
    for path in (ROOT, f"{ROOT}/", f"{ROOT}/nothing", f"{ROOT}/api-keys/a/b/c"):
        for caller in ("no key", "prod"):
            assert await refuse(unchanged, "GET", path, caller) == REFUSED[caller]
        assert (await call(unchanged.app, "GET", path, unchanged.admin)).status == 404
    wrong = await call(unchanged.app, "PATCH", f"{ROOT}/api-keys", unchanged.admin)
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, HEAD, POST")
    wrong = await call(unchanged.app, "POST", f"{ROOT}/api-keys/{unchanged.id}", unchanged.admin)
    assert (wrong.status, wrong.headers["allow"]) == (405, "DELETE, GET, HEAD")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "BREW"])
async def test_every_method(unchanged: Closed, method: str) -> None:
    """No method of HTTP, known or made up, goes around the door."""
    for path in sorted({path for _, path in OPERATIONS}):
        for caller in ("no key", "prod"):
            heard = await refuse(unchanged, method, address(path, unchanged.id), caller)
            assert heard == REFUSED[caller], path


TRICKS = {
    "a slash at the end": lambda path: f"{path}/",
    "a slash in disguise": lambda path: path.replace("/management/", "/management%2F"),
    "a letter in disguise": lambda path: path.replace("/management/", "/m%61nagement/"),
    "two slashes inside": lambda path: path.replace("/management/", "/management//"),
    "a NUL": lambda path: f"{path}%00",
    "a parameter": lambda path: f"{path};a=b",
    "a dot": lambda path: path.replace("/management/", "/management/./"),
    "two dots": lambda path: path.replace("/management/", "/management/x/../"),
    "a question": lambda path: f"{path}?authorization=Bearer%20x&key=y",
    "another case": str.upper,
    "another case of the prefix": lambda path: path.replace("/v1/management", "/v1/Management"),
    "two slashes before": lambda path: f"/{path}",
    "two slashes between": lambda path: path.replace("/v1/", "/v1//"),
    "a dot before": lambda path: path.replace("/v1/", "/v1/./"),
    "two dots before": lambda path: path.replace("/v1/", "/v1/models/../"),
    "a backslash": lambda path: path.replace("/v1/", "/v1\\"),
    "a catalogue's path": lambda path: path.replace("/v1/", "/v1/models/..%2F"),
    "no version": lambda path: path.removeprefix("/v1"),
}


FOUND_NOTHING = {(404, "not_found"), (404, "model_not_found"), (405, "method_not_allowed")}


@pytest.mark.parametrize("trick", TRICKS)
async def test_tricks(unchanged: Closed, trick: str) -> None:
    """However a path is written, a caller who is no admin gets a refusal or finds nothing, and
    nothing changes."""
    for method, path in OPERATIONS:
        tricky = TRICKS[trick](address(path, unchanged.id))
        for caller in ("no key", "prod"):
            heard = await refuse(unchanged, method, tricky, caller)
            assert heard in {REFUSED[caller], *FOUND_NOTHING}, f"{method} {tricky}"
