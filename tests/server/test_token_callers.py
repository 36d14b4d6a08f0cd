"""Callers with a token of another issuer, through the whole gateway."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from embedway.provider import HttpRequest, HttpResponse
from embedway.secret import Secret
from embedway.server.app import App
from embedway.settings import AccountSettings
from tests.asgi import bearer, embed, running
from tests.fake_provider.exchange import KEY
from tests.fake_provider.server import FakeProvider
from tests.fakes import FakeClock
from tests.oidc_issuer import ISSUER, FakeIssuer, entry, make_claims, make_token, settings

SMALL = "openai/text-embedding-3-small"
LARGE = "openai/text-embedding-3-large"
PRICE = 20_000
"""Picodollars a token of the small one."""


_ids = itertools.count(2)


class World:
    """An issuer and a provider, told apart by their hosts."""

    def __init__(self) -> None:
        self.issuer, self.provider = FakeIssuer(), FakeProvider()

    async def __call__(self, request: HttpRequest, /, **bounds: Any) -> HttpResponse:
        """The transport."""
        is_issuer = urlsplit(request.url).hostname == urlsplit(ISSUER).hostname
        return await (self.issuer if is_issuer else self.provider.send)(request, **bounds)


@pytest.fixture
def world() -> World:
    """What is outside."""
    return World()


@pytest.fixture
async def app(tmp_path: Path, world: World) -> AsyncIterator[App]:
    """A gateway with a key of its own, and one issuer: the small model, for 100 tokens in all."""
    account = AccountSettings(
        base_url=world.provider.url("openai"), api_key=Secret(KEY), private=True
    )
    trusted = entry(models=[SMALL], project="ci", budget_total=f"{100 * PRICE / 10**12:.12f}usd")
    given = replace(settings(trusted), home=str(tmp_path), providers={"openai": account})
    async with running(given, is_loopback_only=False, send=world, clock=FakeClock()) as app:
        yield app


async def ask(app: App, token: bytes, tokens: int, model: str = SMALL) -> tuple[int, str | None]:
    """Status and error code of a request of so many tokens."""
    new = [next(_ids), *[1] * (tokens - 1)]  # nothing that the cache knows
    response = await embed(app, bearer(token.decode()), model=model, input=new)
    return response.status, response.error["code"] if response.status != 200 else None


async def test_a_token_is_a_key(app: App) -> None:
    """A sound token lets its caller in, for the models of its entry; the books name him and his
    project."""
    token = make_token()
    assert await ask(app, token, 5) == (200, None)
    assert await ask(app, token, 5, LARGE) == (403, "model_not_allowed")
    lines = app.runtime.book
    lines.flush()
    with app.runtime.database.connect() as connection:
        rows = connection.exec_driver_sql("SELECT key_id, project, status FROM usage").all()
    assert {(row[0][:5], row[1]) for row in rows} == {("oidc:", "ci")}
    assert sorted(row[2] for row in rows) == [200, 403]


async def test_a_subject_has_its_budget(app: App, world: World) -> None:
    """What an entry lets each subject spend holds from its first request on, over all its tokens,
    and others have their own."""
    first, second = make_token(), make_token(make_claims(jti="another"))
    assert await ask(app, first, 60) == (200, None)
    assert await ask(app, second, 60) == (402, "budget_exceeded")
    assert await ask(app, second, 40) == (200, None)
    asked = len(world.provider.bill)
    assert await ask(app, first, 1) == (402, "budget_exceeded")
    assert len(world.provider.bill) == asked
    assert await ask(app, make_token(make_claims(sub="somebody else")), 70) == (200, None)


async def test_a_bad_token_is_no_key(app: App) -> None:
    """A token that was changed opens nothing, nor does one of nobody's."""
    token = make_token()
    assert await ask(app, token[:-4] + b"AAAA", 5) == (401, "invalid_api_key")
    assert await ask(app, make_token(make_claims(iss="https://nobody.test")), 5) == (
        401,
        "invalid_api_key",
    )
