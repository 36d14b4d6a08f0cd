"""`/v1/management/providers` and `/v1/management/settings`: what is, without a secret."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from embedway.origins import flatten, load_settings
from embedway.runtime import open_runtime
from embedway.secret import Secret
from embedway.server.app import App
from embedway.server.management_answers import public_url
from embedway.server.management_state_schemas import ProviderAccount, ProviderList, SettingList
from embedway.settings import AccountSettings, CacheSettings, LocalSettings, Settings
from tests.asgi import embed, running
from tests.fakes import FakeClock, ScriptedSend
from tests.server.managing import answered, ask
from tests.server.provider import SMALL, answer, failure

pytestmark = pytest.mark.asyncio(loop_scope="session")

HIDDEN = "hidden-7f3a"
"""A part of every secret below."""
LARGE = "openai/text-embedding-3-large"


def account(**fields: Any) -> AccountSettings:
    """An account with a credential."""
    return AccountSettings(api_key=Secret(f"sk-{HIDDEN}-0123456789"), **fields)


async def providers(app: App) -> dict[str, ProviderAccount]:
    """By account."""
    listed = answered(await ask(app, "GET", "/providers"), ProviderList).data
    return {one.id: one for one in listed}


async def test_accounts(tmp_path: Path) -> None:
    """Each account is listed with what it serves, its limits and its address, and the model in the
    process with it."""
    models = {SMALL: "text-embedding-3-small"}
    mirror = account(
        kind="openai",
        base_url="https://mirror.example/v1/",
        models=models,
        requests_per_minute=10,
        concurrency=3,
    )
    settings = Settings(home=str(tmp_path), providers={"mirror": mirror, "openai": account()})
    async with running(settings, send=ScriptedSend()) as app:
        response = await ask(app, "GET", "/providers")
        found = await providers(app)
    assert list(found) == ["local", "mirror", "openai"]
    assert found["mirror"].base_url == "https://mirror.example/v1"
    assert (found["mirror"].name, found["mirror"].configured) == ("openai", True)
    assert msgspec.to_builtins(found["mirror"].limits) == {
        "max_inputs": None,
        "concurrency": 3,
        "requests_per_minute": 10,
        "tokens_per_minute": None,
    }
    assert found["mirror"].models == [SMALL]
    assert {SMALL, LARGE} <= set(found["openai"].models)
    assert (found["local"].base_url, found["local"].models) == (None, ["local/wordllama-256"])
    assert {one.status for one in found.values()} == {"up"}
    assert HIDDEN.encode() not in response.body


async def test_no_credential(tmp_path: Path) -> None:
    """An account without a credential says so."""
    plain = AccountSettings(
        kind="vllm", base_url="http://127.0.0.1:9/v1", private=True, models={SMALL: "a"}
    )
    settings = Settings(
        home=str(tmp_path), providers={"rack": plain}, local=LocalSettings(enabled=False)
    )
    async with running(settings, send=ScriptedSend()) as app:
        (only,) = (await providers(app)).values()
    assert (only.id, only.configured, only.status) == ("rack", False, "up")


async def test_how_accounts_fare(tmp_path: Path) -> None:
    """An account whose credential is refused is degraded for the model that was asked for, and down
    once that is all it serves."""
    one, two = "text-embedding-3-small", "text-embedding-3-large"
    settings = Settings(
        home=str(tmp_path), providers={"openai": account(models={SMALL: one, LARGE: two})}
    )
    send = ScriptedSend(failure(401), failure(401))
    async with running(settings, clock=FakeClock(), send=send) as app:
        await embed(app, model=SMALL)
        found = (await providers(app))["openai"]
        assert found.status == "degraded"
        by_model = {each.model: each for each in found.deployments}
        assert (by_model[SMALL].status, by_model[LARGE].status) == (-3, 0)
        assert by_model[SMALL].health.breaker == "open"
        last = by_model[SMALL].health.last_error
        assert last is not None
        assert (last.code, last.at_ms) == ("provider_unauthorized", 1_800_000_000_000)
        await embed(app, model=LARGE)
        assert (await providers(app))["openai"].status == "down"


async def test_head_room(tmp_path: Path) -> None:
    """A call that was answered shows in the latency, and the head-room is what is left for
    others."""
    settings = Settings(home=str(tmp_path), providers={"openai": account(concurrency=5)})
    async with running(settings, send=ScriptedSend(answer)) as app:
        await embed(app, model=SMALL)
        found = (await providers(app))["openai"]
    (asked,) = [each for each in found.deployments if each.model == SMALL]
    assert asked.health.latency_ms.p50 is not None
    assert (asked.health.concurrency, asked.health.in_flight, asked.health.waiting) == (5, 0, 0)


async def test_settings(tmp_path: Path) -> None:
    """Every setting is listed once, by its name, with its value."""
    settings = Settings(home=str(tmp_path), cache=CacheSettings(scope="key"))
    async with running(settings) as app:
        listed = answered(await ask(app, "GET", "/settings"), SettingList).data
        effective = app.runtime.settings
    found = {one.name: one.value for one in listed}
    assert len(found) == len(listed)
    assert list(found) == [name for name, _ in flatten(effective)]
    assert (found["cache.scope"], found["home"]) == ("key", str(tmp_path))
    assert (found["server.cors_origins"], found["providers"]) == ([], {})
    assert {one.origin for one in listed} == {"unknown"}


FILE = """
[cache]
scope = "global"
[providers.openai]
api_key = "${MY_KEY}"
[[oidc]]
issuer = "https://issuer.example"
audience = "us"
claims = {team = "search", level = 3}
"""


async def test_origins(tmp_path: Path) -> None:
    """Where a value came from is told as the command line tells it."""
    file = tmp_path / "embedway.toml"
    file.write_text(FILE)
    loaded = load_settings(
        environ={"EMBEDWAY_HOME": str(tmp_path), "MY_KEY": f"sk-{HIDDEN}"},
        config=file,
        overrides={"log.level": "error"},
    )
    app = App(
        lambda: open_runtime(loaded.settings, send=ScriptedSend()),
        is_loopback_only=True,
        origin=loaded.origin,
    )
    await app.start()
    try:
        response = await ask(app, "GET", "/settings")
    finally:
        await app.stop()
    found = {one.name: one for one in answered(response, SettingList).data}
    assert {name: found[name].origin for name in ("cache.scope", "home", "log.level")} == {
        "cache.scope": str(file),
        "home": "environment EMBEDWAY_HOME",
        "log.level": "command line",
    }
    assert found["server.listen"].origin == "default"
    claims = [found[f"oidc[1].claims.{name}"] for name in ("team", "level")]
    assert [(one.value, one.origin) for one in claims] == [("search", str(file)), (3, str(file))]
    key = found["providers.openai.api_key"]
    assert (key.value, key.origin) == ("***", str(file))
    assert HIDDEN.encode() not in response.body


def secretive() -> AccountSettings:
    """An account with every secret that one can have."""
    secrets = {
        field.name: Secret(f"{HIDDEN}-{field.name}")
        for field in msgspec.structs.fields(AccountSettings)
        if "Secret" in str(field.type)
    }
    assert len(secrets) >= 4
    return AccountSettings(
        kind="openai",
        access_key_id="AKIA0",
        models={SMALL: "a"},
        **secrets,  # type: ignore[arg-type]
    )


async def test_no_secret(tmp_path: Path) -> None:
    """No secret that settings can hold is in any answer: those of accounts, and those at the
    root."""
    settings = Settings(home=str(tmp_path), providers={"openai": secretive()})
    async with running(settings, send=ScriptedSend()) as app:
        roots = {
            name: Secret(f"redis://user:{HIDDEN}@host/0")
            for name, kind in Settings.__annotations__.items()
            if "Secret" in str(kind)
        }
        assert "redis_url" in roots
        # Shown by an application of its own, since nobody is there at these addresses.
        shown = with_fields(app.runtime, settings=replace(app.runtime.settings, **roots))
        app = App(lambda: nullcontext(shown), is_loopback_only=True)
        await app.start()
        for path in ("/settings", "/providers"):
            response = await ask(app, "GET", path)
            assert response.status == 200
            assert HIDDEN.encode() not in response.body
        listed = answered(await ask(app, "GET", "/settings"), SettingList).data
    values = {one.name: one.value for one in listed}
    assert values["redis_url"] == "***"
    assert values["providers.openai.secret_access_key"] == "***"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/path", "https://host/path"),
        ("https://me:secret@host:8443/a/b?key=secret#secret", "https://host:8443/a/b"),
        ("http://a@b@host/", "http://host/"),
        ("https://[2001:db8::1]:8443/v1", "https://[2001:db8::1]:8443/v1"),
        ("", ""),
    ],
)
async def test_addresses(url: str, shown: str) -> None:
    """An address leads where it leads, and holds no credential."""
    assert public_url(url) == shown
