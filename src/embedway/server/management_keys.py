"""`/v1/management/api-keys`: make, list, rotate and revoke keys. A key's text is told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from embedway.errors import NotFound
from embedway.grants import Terms, within
from embedway.runtime import Runtime
from embedway.secret import Secret
from embedway.server.management_answers import Methods, json_answer, list_answer, moment
from embedway.server.management_bodies import read_object
from embedway.server.management_budgets import amounts, budgets_by_owner, owner_budgets
from embedway.server.management_key_schemas import NewKeyBody, RotateBody
from embedway.server.management_terms import (
    Known,
    permissions_of,
    read_terms,
    terms_of,
)
from embedway.store.budgets import BudgetState
from embedway.store.keys import Key
from embedway.types import Grant

_OVERLAP_S = 86_400


class KeyRoutes:
    """The routes about keys. renew: called once the store has changed."""

    def __init__(self, runtime: Runtime, renew: Callable[[], None]) -> None:
        self._renew = renew
        self._keys, self._budgets = runtime.keys, runtime.budgets
        self._gateway, self._clock = runtime.gateway, runtime.clock
        self._max_body_bytes = runtime.settings.server.max_body_bytes
        served = (name for names in runtime.gateway.accounts.values() for name in names)
        self._accounts = frozenset((*runtime.settings.providers, *served))

    def table(self) -> dict[str, Methods]:
        """Path below the root to its methods."""
        return {
            "api-keys": {"GET": self._list, "POST": self._create},
            "api-keys/{id}": {"GET": self._show, "DELETE": self._revoke},
            "api-keys/{id}/rotate": {"POST": self._rotate},
        }

    async def _list(self, request: Request) -> Response:
        keys = await asyncio.to_thread(self._keys.all)
        of_key = await self._budgets_by_key()
        return list_answer(self._record(key, of_key.get(key.id, ())) for key in keys)

    async def _create(self, request: Request) -> Response:
        body = await read_object(request, NewKeyBody, self._max_body_bytes)
        terms = read_terms(body, Known(self._gateway, self._accounts, self._now_ms))
        await self._check_grantor(request, terms)
        key, text = await asyncio.to_thread(self._make, body.name, terms)
        self._renew()
        return await self._tell(key, text)

    async def _show(self, request: Request) -> Response:
        return await self._tell(await self._find(request))

    async def _rotate(self, request: Request) -> Response:
        body = await read_object(request, RotateBody, self._max_body_bytes)
        overlap_s = _OVERLAP_S if body.overlap_seconds is None else body.overlap_seconds
        found = await self._find(request)
        # Who rotates a key has it: he may not get hold of one that is worth more than his own.
        budgets = amounts((await self._budgets_by_key()).get(found.id, ()))
        await self._check_grantor(request, terms_of(found, budgets))
        key, text = await asyncio.to_thread(self._keys.rotate, found.id, overlap_s=overlap_s)
        self._renew()
        return await self._tell(key, text)

    async def _revoke(self, request: Request) -> Response:
        key = await self._find(request)
        await asyncio.to_thread(self._keys.revoke, key.id)
        self._renew()
        return await self._tell(await self._find(request))

    async def _find(self, request: Request) -> Key:
        """The key of the id in the path; a name would not do, since names need not differ."""
        id = request.path_params["id"]
        for key in await asyncio.to_thread(self._keys.find, id):
            if key.id == id:
                return key
        raise NotFound(
            f"There is no key of the id {id[:64]!r}; GET /v1/management/api-keys lists them.",
            param="id",
        )

    def _make(self, name: str, terms: Terms) -> tuple[Key, Secret]:
        key, text = self._keys.create(
            name,
            type=terms.type,
            models=terms.models,
            expires_ms=terms.expires_ms,
            project=terms.project,
            allows_fallbacks=terms.allows_fallbacks,
            space=terms.space,
            providers=terms.providers,
            ips=terms.ips,
            requests_per_minute=terms.rates.requests_per_minute,
            tokens_per_minute=terms.rates.tokens_per_minute,
            concurrency=terms.rates.concurrency,
        )
        # Should this fail, nobody has seen the text: there is no key without its budgets.
        for period, amount in terms.budgets.items():
            self._budgets.set("key", key.id, period, amount)
        return key, text

    async def _check_grantor(self, request: Request, wanted: Terms) -> None:
        """Raise PermissionDenied where the caller's own key is worth less."""
        grantor: Grant = request.scope["grant"]
        own = (await self._budgets_by_key()).get(grantor.key_id, ())
        within(grantor, wanted, budgets=amounts(own))

    async def _budgets_by_key(self) -> dict[str, tuple[BudgetState, ...]]:
        states = await asyncio.to_thread(self._budgets.states, self._now_ms)
        return budgets_by_owner(states, "key")

    async def _tell(self, key: Key, text: Secret | None = None) -> Response:
        record = self._record(key, (await self._budgets_by_key()).get(key.id, ()))
        return json_answer(record if text is None else {**record, "key": text.reveal()})

    @property
    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)

    def _record(self, key: Key, budgets: tuple[BudgetState, ...]) -> dict[str, Any]:
        return {
            "id": key.id,
            "object": "api_key",
            "name": key.name,
            "prefix": key.prefix,
            "type": key.type,
            "status": key.state(self._now_ms),
            "created_at": moment(key.created_ms),
            "expires_at": moment(key.expires_ms),
            "revoked_at": moment(key.revoked_ms),
            "last_used_at": moment(key.last_used_ms),
            "previous_key_expires_at": moment(key.previous_until_ms),
            "permissions": permissions_of(key.type),
            "allowed_models": key.models,
            "allowed_providers": key.providers,
            "allowed_ips": key.ips,
            "rate_limits": {
                "rpm": key.requests_per_minute,
                "tpm": key.tokens_per_minute,
                "concurrency": key.concurrency,
            },
            "project": key.project,
            "space": key.space,
            "allow_fallbacks": key.allows_fallbacks,
            "budgets": owner_budgets(budgets),
        }
