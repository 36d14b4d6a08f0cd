"""A key that names accounts is served by those alone, and hears of no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.asgi import MODEL, bearer, embed
from tests.server.provider import SMALL
from tests.server.test_told import gateway_of, refuse, two_accounts

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_others_are_neither_asked_nor_named(tmp_path: Path) -> None:
    """While the key's one account fails the other is not asked, though it could serve, and the
    plan in the error does not name it."""
    async with two_accounts(tmp_path, one=refuse(503)) as app:
        _, text = app.runtime.keys.create("k", providers=("one",))
        _, free = app.runtime.keys.create("free")
        failed = await embed(app, bearer(text), model=SMALL, provider={"order": ["two", "one"]})
        served = await embed(app, bearer(free), model=SMALL, provider={"order": ["one", "two"]})
    tried = gateway_of(failed)["modelAttempts"][0]["providerAttempts"]
    assert failed.status == 503
    assert {one["provider"] for one in tried} == {"one"}
    assert "two" not in failed.body.decode()
    assert (served.status, gateway_of(served)["finalProvider"]) == (200, "two")


async def test_what_another_account_made(tmp_path: Path) -> None:
    """A vector that is known in the key's project is given whichever account made it: nobody is
    asked for it. What is not known is asked of the key's own accounts."""
    async with two_accounts(tmp_path) as app:
        _, one = app.runtime.keys.create("one", providers=("one",))
        _, both = app.runtime.keys.create("both")
        made = await embed(app, bearer(both), model=SMALL, provider="two")
        known = await embed(app, bearer(one), model=SMALL)
        fresh = await embed(app, bearer(one), model=SMALL, input="another text")
    providers = [answer.json()["gateflow"]["provider"] for answer in (made, known, fresh)]
    assert providers == ["two", "cache", "one"]


async def test_fallbacks(tmp_path: Path) -> None:
    """A fallback is served by the key's accounts too, and one that only others serve is 403 before
    anybody is asked."""
    async with two_accounts(tmp_path, one=refuse(503)) as app:
        _, text = app.runtime.keys.create("k", providers=("one", "local"))
        _, bound = app.runtime.keys.create("bound", providers=("one",))
        fields = {"model": SMALL, "gateflow": {"fallbacks": [MODEL]}}
        served = await embed(app, bearer(text), **fields)
        refused = await embed(app, bearer(bound), **fields)
    assert (served.status, served.json()["model"]) == (200, MODEL)
    assert (refused.status, refused.error["param"]) == (403, "model")
    assert f"the providers that serve {MODEL}" in refused.error["message"]
