"""`/v1/management/settings`: what is in effect, and where each value came from. Nothing is set
here: settings are the operator's, who has the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from embedway.origins import flatten
from embedway.runtime import Runtime
from embedway.secret import Secret
from embedway.server.management_answers import Methods, list_answer, public_url


class SettingsRoutes:
    """The routes about settings. origin: where that of a dotted name comes from."""

    def __init__(self, runtime: Runtime, origin: Callable[[str], str]) -> None:
        self._settings = runtime.settings
        self._origin = origin

    def table(self) -> dict[str, Methods]:
        """Path below the root to its methods."""
        return {"settings": {"GET": self._list}}

    async def _list(self, request: Request) -> Response:
        return list_answer(
            {"name": name, "value": _shown(name, value), "origin": self._origin(name)}
            for name, value in flatten(self._settings)
        )


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, Secret):
        return str(value)
    if isinstance(value, str) and name.endswith("_url"):
        return public_url(value)
    return value
