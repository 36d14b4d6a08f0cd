"""Asks servers of the operator's own which model they serve: an account that names no models and
whose server can tell (TEI) configures itself at start.

The model is called `ACCOUNT/MODEL`, such as `rack/BAAI/bge-m3`. Its width is learned by embedding
one word. A server that does not answer serves nothing until the gateway is started again.
"""

from __future__ import annotations

import asyncio
import logging

from msgspec.structs import replace

from embedway.accounts import base_url_of, provider_of
from embedway.catalog import is_model_id
from embedway.provider import (
    Deployment,
    HttpRequest,
    HttpResponse,
    Introduction,
    Provider,
    Send,
    TransportError,
)
from embedway.settings import AccountSettings, ModelSettings, Settings
from embedway.types import Call, EmbedParams, EmbedRequest, Grant

_TIMEOUT_S = 5.0
_MAX_BYTES = 1 << 20
_log = logging.getLogger("embedway.introductions")


async def introduce(settings: Settings, send: Send) -> Settings:
    """The settings with the models that the servers told of. Raises SettingsError."""
    asked = {
        name: account
        for name, account in settings.providers.items()
        if not account.models and provider_of(name, account).ask_introduction is not None
    }
    found = await asyncio.gather(
        *(_introduce(name, account, send) for name, account in asked.items())
    )
    accounts, models = dict(settings.providers), dict(settings.models)
    for (name, account), told in zip(asked.items(), found, strict=True):
        if told is None:
            continue
        introduction, width = told
        ours = f"{name}/{introduction.model}"
        accounts[name] = replace(
            account,
            models={ours: introduction.model},
            max_inputs=account.max_inputs or introduction.max_inputs,
        )
        models[ours] = ModelSettings(
            dimensions=width, max_input_tokens=introduction.max_input_tokens
        )
    return replace(settings, providers=accounts, models=models)


async def _introduce(
    name: str, account: AccountSettings, send: Send
) -> tuple[Introduction, int] | None:
    """What one server says of itself, and the width of its vectors; None if it cannot be used."""
    provider = provider_of(name, account)
    assert provider.ask_introduction is not None
    assert provider.read_introduction is not None
    server = Deployment(
        name=name,
        model=name,
        upstream_model="",
        dimensions=0,
        price=0,
        base_url=base_url_of(name, account, provider),
        credential=account.api_key,
        is_private=account.private,
    )
    try:
        answer = await _exchange(provider.ask_introduction(server), server, send)
        introduction = provider.read_introduction(answer)
        if not is_model_id(f"{name}/{introduction.model}"):
            raise ValueError("the name it gives its model cannot be used; name it in the settings")
        return introduction, await _width(provider, server, send)
    except (TransportError, ValueError) as error:
        _log.warning("providers.%s serves nothing until the next start: %s", name, error)
        return None


async def _width(provider: Provider, server: Deployment, send: Send) -> int:
    """How many numbers a vector has, learned from one word."""
    call = Call(id="", grant=Grant.open(), deadline=0.0)
    request = EmbedRequest(params=EmbedParams(model=server.model), inputs=("width",), call=call)
    answer = await _exchange(provider.build(request, server), server, send)
    (embedding,) = provider.parse(request, server, answer)
    if not embedding.vector:
        raise ValueError("its vectors are empty")
    return len(embedding.vector) // 4


async def _exchange(request: HttpRequest, server: Deployment, send: Send) -> HttpResponse:
    request = replace(request, is_private=server.is_private)
    answer = await send(request, timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES)
    if answer.status != 200:
        raise ValueError(f"it answered HTTP {answer.status}")
    return answer
