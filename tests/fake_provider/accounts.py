"""The settings of a gateway whose every account is served by the fake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedway.secret import Secret
from embedway.settings import AccountSettings, ModelSettings, Settings
from tests.fake_provider.exchange import KEY
from tests.fake_provider.server import FakeProvider
from tests.fake_provider.signature import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

OWN_MODEL = "rack/small"
"""What the self-hosted servers serve."""

_SMALL, _ADA = "openai/text-embedding-3-small", "openai/text-embedding-ada-002"
_OWN: dict[str, Any] = {"models": {OWN_MODEL: OWN_MODEL}}
_KEYLESS: dict[str, Any] = {**_OWN, "api_key": None}
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "azure": {"models": {_SMALL: "my-deployment", _ADA: "my-ada"}, "api_version": "2024-10-21"},
    "bedrock": {
        "api_key": None,
        "access_key_id": ACCESS_KEY_ID,
        "secret_access_key": Secret(SECRET_ACCESS_KEY),
        "region": REGION,
    },
    "vertex": {
        "api_key": None,
        "access_token": Secret(KEY),
        "project": "my-project",
        "location": "us-central1",
    },
    "openrouter": {"models": {_SMALL: _SMALL}},
    "vercel": {"models": {_SMALL: _SMALL}},
    "openai-compatible": _OWN,
    "tei": _OWN,
    "infinity": _KEYLESS,
    "llama-cpp": _KEYLESS,
    "lm-studio": _KEYLESS,
    "ollama": _KEYLESS,
    "vllm": _KEYLESS,
}


def account(fake: FakeProvider, provider: str, **changes: Any) -> AccountSettings:
    """An account at *provider*, at the fake's address."""
    fields = {"api_key": Secret(KEY), **_FIELDS.get(provider, {}), **changes}
    return AccountSettings(kind=provider, base_url=fake.url(provider), private=True, **fields)


def settings(fake: FakeProvider, *providers: str, **changes: Any) -> Settings:
    """Settings with one account at each of *providers*, called like it."""
    accounts = {provider: account(fake, provider, **changes) for provider in providers}
    is_own = any(OWN_MODEL in one.models for one in accounts.values())
    own = ModelSettings(dimensions=16, matryoshka=True, price_usd_per_million_tokens="0.01")
    return Settings(home="unused", providers=accounts, models={OWN_MODEL: own} if is_own else {})
