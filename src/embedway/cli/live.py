"""What the running gateway says of its deployments, asked at the address that the settings give."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from embedway.provider import HttpRequest, TransportError
from embedway.settings import Settings
from embedway.transport import Transport

_WAIT_S = 2.0
_MOST_BYTES = 1 << 20
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where such a listener can be reached
_STATES = {-1: "at its limit", -2: "tried again", -3: "let alone"}


class Deployment(Struct, frozen=True):
    """One entry of `/v1/models/{creator}/{model}/endpoints`, as far as it is shown here."""

    provider_name: str
    status: int
    health: dict[str, Any]
    model: str = ""

    @property
    def state(self) -> str:
        """In a word or two."""
        return _STATES.get(self.status, "ready")


class _Data(Struct, frozen=True):
    endpoints: list[Deployment]


class _Answer(Struct, frozen=True):
    data: _Data


async def ask_around(settings: Settings, models: Iterable[str]) -> list[Deployment]:
    """The deployments of *models*; none if no gateway answers."""
    base = _base_url(settings.server.listen)
    async with Transport() as send:
        answers = await asyncio.gather(*(_ask(send, base, model) for model in models))
    return [deployment for answer in answers for deployment in answer]


async def _ask(send: Transport, base: str, model: str) -> list[Deployment]:
    request = HttpRequest("GET", f"{base}/v1/models/{model}/endpoints", {}, b"", is_private=True)
    try:
        response = await send(request, timeout_s=_WAIT_S, max_bytes=_MOST_BYTES)
        found = msgspec.json.decode(response.body, type=_Answer).data.endpoints
    except (TransportError, msgspec.DecodeError):  # nobody is there, or somebody else
        return []
    return [msgspec.structs.replace(one, model=model) for one in found]


def _base_url(listen: str) -> str:
    from embedway.server.run import parse_address  # reads the web framework, which takes its time

    host, port = parse_address(listen)
    host = _EVERYWHERE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
