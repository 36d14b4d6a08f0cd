"""`POST /v1/embeddings`, free of any web framework: bytes and headers in, status, headers and
bytes out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from embedway.clock import Clock
from embedway.errors import EmbedError, InvalidRequest, ModelNotFound
from embedway.gateway import Gateway
from embedway.options import check_options
from embedway.secret import Secret
from embedway.server.answer import Answer
from embedway.server.envelope import render_error, request_id
from embedway.server.messages import Incoming, Outgoing
from embedway.server.render import render, render_aside
from embedway.server.wire import (
    EmbeddingsBody,
    GatewayOptions,
    check_inputs,
    decode_body,
    decode_options,
)
from embedway.settings import ServerSettings
from embedway.types import Call, EmbedParams, EmbedRequest, EmbedResponse, Grant

_TRACE = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_TAG = re.compile(r"[\x20-\x7e]{1,64}")


class Embeddings:
    """Answers embedding requests with *gateway*; the AI SDK's routes use it too."""

    def __init__(self, gateway: Gateway, settings: ServerSettings, clock: Clock) -> None:
        self.gateway = gateway
        self.settings = settings
        self._clock = clock

    async def handle(self, incoming: Incoming, grant: Grant, id: str) -> Outgoing:
        """One request of OpenAI's API. Raises EmbedError."""
        started = self._clock.monotonic()
        body = decode_body(incoming.body)
        answer = await self.ask(body, incoming, grant, id, started)
        form, metadata = body.encoding_format or "float", self.settings.response_metadata
        return await render_aside(answer, lambda: render(answer, form=form, metadata=metadata))

    def explain(self, error: EmbedError, incoming: Incoming, id: str) -> Outgoing:
        """The answer to a request that failed."""
        return render_error(error, incoming, id)

    async def ask(
        self, body: EmbeddingsBody, incoming: Incoming, grant: Grant, id: str, started: float
    ) -> Answer:
        """Ask the gateway. started: when the request came, on the monotonic clock."""
        request = self._request(body, incoming, grant, id, started)
        response = await self.gateway(request)
        return self._answer(body.model, request, response, incoming, started)

    def _request(
        self, body: EmbeddingsBody, incoming: Incoming, grant: Grant, id: str, started: float
    ) -> EmbedRequest:
        inputs = check_inputs(body.input)
        provider_options = dict(body.providerOptions or {})
        routing = _routing(body, provider_options)
        params = EmbedParams(
            model=body.model,
            dimensions=body.dimensions,
            input_type=body.input_type,
            options=_canonical_json(check_options(provider_options)),
        )
        call = Call(
            id=id,
            grant=grant,
            deadline=started + self.settings.request_timeout_s,
            cache=_cache_mode(body, incoming),
            fallbacks=self._fallbacks(body, routing),
            only=(body.provider,) if isinstance(body.provider, str) else routing.only or (),
            order=routing.order or (),
            sort=routing.sort,
            user=incoming.header(b"ai-reporting-user")[:256] or routing.user or body.user,
            tags=_tags(routing.tags or (), incoming.header(b"ai-reporting-tags")),
            trace=_trace(incoming),
            app=(incoming.header(b"x-title") or incoming.header(b"http-referer"))[:128] or None,
            credentials=_credentials(routing.byok),
        )
        return EmbedRequest(params=params, inputs=inputs, call=call)

    def _fallbacks(self, body: EmbeddingsBody, routing: GatewayOptions) -> tuple[str, ...]:
        directory = self.gateway.directory
        named, also = (body.gateflow and body.gateflow.fallbacks) or (), routing.models or ()
        same = list(map(directory.canonical, named)) == list(map(directory.canonical, also))
        if named and also and not same:
            raise InvalidRequest(
                "gateflow.fallbacks and providerOptions.gateway.models name different models; "
                "send one of them.",
                param="gateflow.fallbacks",
            )
        field = "gateflow.fallbacks" if named else "providerOptions.gateway.models"
        for position, name in enumerate(named or also):
            try:
                directory.look_up(name)
            except ModelNotFound as error:
                error.param = f"{field}[{position}]"
                raise
        return named or also

    def _answer(
        self,
        asked: str,
        request: EmbedRequest,
        response: EmbedResponse,
        incoming: Incoming,
        started: float,
    ) -> Answer:
        directory, served = self.gateway.directory, response.params.model
        entry = directory.look_up(asked)
        tokens = sum(embedding.tokens for embedding in response.embeddings)
        return Answer(
            response=response,
            asked=asked,
            is_bare=entry.is_bare,
            also=entry.others,
            requested_model=entry.model.id,
            model=directory.look_up(served).model,
            accounts=self.gateway.accounts[served],
            cost=sum(embedding.cost for embedding in response.embeddings),
            market_cost=tokens * self.gateway.prices[served],
            id=request.call.id,
            request_id=request_id(incoming, request.call.id),
            latency_ms=round((self._clock.monotonic() - started) * 1000),
            cache=request.call.cache,
            is_kept=self.gateway.keeps_vectors and request.call.cache != "skip",
        )


_NO_OPTIONS = GatewayOptions()


def _routing(body: EmbeddingsBody, provider_options: dict[str, Any]) -> GatewayOptions:
    """The routing options, from `providerOptions.gateway` or an object in `provider`."""
    nested = provider_options.pop("gateway", None)
    routing = _NO_OPTIONS
    if nested is not None:
        routing = decode_options(nested, "providerOptions.gateway")
    if not isinstance(body.provider, GatewayOptions):
        return routing
    if nested and body.provider != routing:
        raise InvalidRequest(
            "provider and providerOptions.gateway say different things; send one of them.",
            param="provider",
        )
    return body.provider


def _cache_mode(body: EmbeddingsBody, incoming: Incoming) -> Any:
    if body.gateflow and body.gateflow.cache:
        return body.gateflow.cache
    return "skip" if "no-store" in incoming.header(b"cache-control").lower() else "use"


def _tags(body_tags: tuple[str, ...], header: str) -> tuple[str, ...]:
    """The body's tags and those of the header `ai-reporting-tags`, each once."""
    named = [tag.strip() for tag in header.split(",") if tag.strip()]
    if any(not _TAG.fullmatch(tag) for tag in named):
        raise InvalidRequest(
            "The header ai-reporting-tags holds a tag of more than 64 characters, or one with "
            "characters other than printable ASCII.",
            param="ai-reporting-tags",
        )
    tags = tuple(dict.fromkeys((*body_tags, *named)))
    if len(tags) > 10:
        raise InvalidRequest(
            f"The body and the header ai-reporting-tags name {len(tags)} tags; at most 10 are "
            "allowed.",
            param="ai-reporting-tags",
        )
    return tags


def _trace(incoming: Incoming) -> str | None:
    named = incoming.header(b"x-gateflow-trace-id")
    # traceparent is version-traceid-spanid-flags (https://www.w3.org/TR/trace-context/).
    trace = named or "".join(incoming.header(b"traceparent").split("-")[1:2])
    return trace if _TRACE.fullmatch(trace) else None


def _credentials(byok: Mapping[str, Any] | None) -> dict[str, Secret]:
    """The first credential that the caller sent for each provider."""
    found = {}
    for provider, credentials in (byok or {}).items():
        if credentials is None:
            continue
        at = f"providerOptions.gateway.byok.{provider}"[:200]
        if not isinstance(credentials, list) or not credentials:
            raise InvalidRequest(f"{at} must be a list of {{apiKey}} objects.", param=at)
        keys = [_credential(item, f"{at}[{i}]") for i, item in enumerate(credentials)]
        found[provider] = keys[0]
    return found


def _credential(item: Any, at: str) -> Secret:
    key = item.get("apiKey") if isinstance(item, dict) else None
    if not isinstance(key, str) or not key:
        raise InvalidRequest(f"{at} must be an object with an apiKey.", param=at)
    if others := item.keys() - {"apiKey"}:
        at = f"{at}.{min(others)}"[:250]
        raise InvalidRequest(f"Unknown field {at}. Leave it out.", param=at)
    if not key.isascii() or not key.isprintable():
        raise InvalidRequest(f"{at}.apiKey holds characters no key has.", param=f"{at}.apiKey")
    return Secret(key)


def _canonical_json(options: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(options, option=orjson.OPT_SORT_KEYS) if options else b""
    except TypeError:  # orjson reads 64 bits and 254 levels
        raise InvalidRequest(
            "providerOptions holds a number of more than 64 bits, or is nested too deeply.",
            param="providerOptions",
        ) from None
