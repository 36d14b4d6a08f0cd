"""`/v1/management/providers`: the accounts, and how they fare in this process. No credential, and
no part of an address that could hold one."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from embedway.accounts import base_url_of, provider_of
from embedway.gateway import Gateway
from embedway.runtime import Runtime
from embedway.server.management_answers import Methods, list_answer, public_url
from embedway.server.models import deployment_state
from embedway.settings import AccountSettings

_LOCAL = "local"
"""The account of the model in the process, which no settings name."""


class ProviderRoutes:
    """The routes about accounts."""

    def __init__(self, runtime: Runtime) -> None:
        self._gateway = runtime.gateway
        self._accounts = runtime.settings.providers

    def table(self) -> dict[str, Methods]:
        """Path below the root to its methods."""
        return {"providers": {"GET": self._list}}

    async def _list(self, request: Request) -> Response:
        served = {name for names in self._gateway.accounts.values() for name in names}
        own = [_own(self._gateway)] if _LOCAL in served - set(self._accounts) else []
        return list_answer(own + [_account(self._gateway, *one) for one in self._accounts.items()])


def _own(gateway: Gateway) -> dict[str, Any]:
    limits = dict.fromkeys(
        ("max_inputs", "concurrency", "requests_per_minute", "tokens_per_minute")
    )
    return {
        "id": _LOCAL,
        "object": "provider",
        "name": _LOCAL,
        "base_url": None,
        "configured": True,
        "limits": limits,
        **_state(gateway, _LOCAL),
    }


def _account(gateway: Gateway, name: str, account: AccountSettings) -> dict[str, Any]:
    provider = provider_of(name, account)
    credentials = (
        account.api_key,
        account.access_token,
        account.secret_access_key,
        account.credentials_file,
    )
    return {
        "id": name,
        "object": "provider",
        "name": provider.name,
        "base_url": public_url(base_url_of(name, account, provider)),
        "configured": any(one is not None for one in credentials),
        "limits": {
            "max_inputs": account.max_inputs,
            "concurrency": account.concurrency,
            "requests_per_minute": account.requests_per_minute,
            "tokens_per_minute": account.tokens_per_minute,
        },
        **_state(gateway, name),
    }


def _state(gateway: Gateway, account: str) -> dict[str, Any]:
    deployments = [
        {"model": model, **deployment_state(gateway.models[model], account)}
        for model, accounts in gateway.accounts.items()
        if account in accounts
    ]
    in_use = [one["status"] > -2 for one in deployments]
    status = "up" if all(in_use) else "degraded" if any(in_use) else "down"
    return {
        "status": status if deployments else "idle",
        "models": [one["model"] for one in deployments],
        "deployments": deployments,
    }
