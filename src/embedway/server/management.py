"""`/v1/management/…`: the one door to all of it, and the routes behind it.

Whoever is no admin is refused at the prefix, before anything is looked up or read: a route that is
added cannot forget to ask, and nobody else learns which routes there are.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedway.errors import Overloaded, PermissionDenied
from embedway.runtime import Runtime
from embedway.server.auth import Guard
from embedway.server.management_answers import ROOT, Methods
from embedway.server.management_budgets import BudgetRoutes
from embedway.server.management_cache import CacheRoutes
from embedway.server.management_keys import KeyRoutes
from embedway.server.management_projects import ProjectRoutes
from embedway.server.management_providers import ProviderRoutes
from embedway.server.management_settings import SettingsRoutes
from embedway.server.management_usage import UsageRoutes
from embedway.server.messages import Incoming
from embedway.store.database import StoreError
from embedway.types import Grant

_RETRY_S = 5
_log = logging.getLogger("embedway.management")


def is_managed(path: str) -> bool:
    """Whether *path* lies behind the door, be there a route or not."""
    return path == ROOT or path.startswith(f"{ROOT}/")


async def demand_admin(guard: Guard, incoming: Incoming) -> Grant:
    """The grant of an admin. Raises an Unauthenticated, or PermissionDenied for all others."""
    grant = await guard.identify(incoming)
    if not grant.is_admin:
        raise PermissionDenied(
            "The gateway is managed with an admin key; 'embedway keys create NAME --type admin' "
            "makes one."
        )
    return grant


def management_routes(runtime: Runtime, guard: Guard, origin: Callable[[str], str]) -> list[Route]:
    """All of them. origin: where the setting of a dotted name comes from."""
    groups = (
        KeyRoutes(runtime, guard.renew_keys),
        ProjectRoutes(runtime),
        BudgetRoutes(runtime),
        UsageRoutes(runtime),
        CacheRoutes(runtime),
        ProviderRoutes(runtime),
        SettingsRoutes(runtime, origin),
    )
    return [
        # One route for all methods of a path, so that a 405 names them all.
        Route(f"{ROOT}/{path}", _answering(methods), methods=list(methods))
        for group in groups
        for path, methods in group.table().items()
    ]


def _answering(methods: Methods) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        try:
            response = await methods[method](request)
        except StoreError as error:
            _log.error("%s", error)
            raise Overloaded(
                "The gateway cannot use its store; try again soon.", retry_after_s=_RETRY_S
            ) from None
        # What is told here is for one reader: keys are shown once, and sums change.
        response.headers["cache-control"] = "no-store"
        return response

    return answer
