"""`POST /v1/embeddings`, free of any web framework: bytes and headers in, status, headers and
bytes out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson

from embedway.clock import Clock
from embedway.errors import EmbedError, InvalidRequest, ModelNotFound
from embedway.gateway import Gateway
from embedway.options import check_options
from embedway.secret import Secret
from embedway.server.answer import Answer, sum_up
from embedway.server.envelope import render_error, request_id
from embedway.server.headers import read_said, read_tags
from embedway.server.messages import Incoming, Outgoing
from embedway.server.planning import make_plan
from embedway.server.render import is_large, render, render_aside
from embedway.server.wire import (
    EmbeddingsBody,
    GatewayOptions,
    check_inputs,
    decode_body,
    decode_options,
)
from embedway.settings import ServerSettings
from embedway.types import (
    CACHED,
    Attempt,
    Call,
    EmbedParams,
    EmbedRequest,
    EmbedResponse,
    Grant,
    Plan,
    replace,
)


class Embeddings:
    """Answers embedding requests with *gateway*; the AI SDK's routes use it too."""

    def __init__(self, gateway: Gateway, settings: ServerSettings, clock: Clock) -> None:
        self.gateway = gateway
        self.settings = settings
        self._clock = clock

    async def handle(self, incoming: Incoming, grant: Grant, id: str) -> Outgoing:
        """One request of OpenAI's API. Raises EmbedError."""
        started = self._clock.monotonic() - incoming.waited_s
        body = decode_body(incoming.body)
        answer = await self.ask(body, incoming, grant, id, started)
        form, metadata = body.encoding_format or "float", self.settings.response_metadata
        rendered = partial(render, answer, form=form, metadata=metadata)
        return await render_aside(rendered) if is_large(answer, form) else rendered()

    def explain(self, error: EmbedError, incoming: Incoming, id: str) -> Outgoing:
        """The answer to a request that failed."""
        return render_error(error, incoming, id)

    async def ask(
        self, body: EmbeddingsBody, incoming: Incoming, grant: Grant, id: str, started: float
    ) -> Answer:
        """Ask the gateway. started: when the request came, on the monotonic clock."""
        request = self._request(body, incoming, grant, id, started)
        try:
            response = await self.gateway(request)
        except EmbedError as error:
            if error.attempts:
                error.plan = self._plan(body.model, request, error.attempts)
            raise
        return self._answer(body.model, request, response, incoming, started)

    def _request(
        self, body: EmbeddingsBody, incoming: Incoming, grant: Grant, id: str, started: float
    ) -> EmbedRequest:
        inputs, said = check_inputs(body.input), read_said(incoming, self.settings)
        routing, options = _NO_OPTIONS, b""
        if body.providerOptions or isinstance(body.provider, GatewayOptions):
            routing, options = _routing(body)
        params = EmbedParams(
            model=body.model,
            dimensions=body.dimensions,
            input_type=body.input_type,
            options=options,
        )
        call = Call(
            id=id,
            grant=grant,
            deadline=started + said.timeout_s,
            cache="skip" if said.is_no_store else "use",
            only=(body.provider,) if isinstance(body.provider, str) else routing.only or (),
            order=routing.order or (),
            sort=routing.sort,
            user=said.user or routing.user or body.user,
            tags=read_tags(routing.tags or (), said.tags),
            trace=said.trace,
            app=said.app,
        )
        if body.gateflow or routing is not _NO_OPTIONS:
            call = replace(
                call,
                # Who wants nothing stored means it, whatever else he wants.
                cache=call.cache
                if said.is_no_store
                else (body.gateflow and body.gateflow.cache) or "use",
                fallbacks=self._fallbacks(body, routing),
                credentials=_credentials(routing.byok),
            )
        return EmbedRequest(params=params, inputs=inputs, call=call)

    def _plan(
        self,
        asked: str,
        request: EmbedRequest,
        attempts: tuple[Attempt, ...],
        served: str | None = None,
        *,
        is_known: bool = False,
    ) -> Plan:
        entry = self.gateway.directory.look_up(asked)
        return make_plan(
            self.gateway,
            request.call,
            asked=asked,
            model=served or entry.model.id,
            others=entry.others,
            attempts=attempts,
            is_known=is_known,
        )

    def _fallbacks(self, body: EmbeddingsBody, routing: GatewayOptions) -> tuple[str, ...]:
        named, also = (body.gateflow and body.gateflow.fallbacks) or (), routing.models or ()
        if not named and not also:
            return ()
        directory = self.gateway.directory
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
        model, totals = directory.look_up(served).model, sum_up(response.embeddings)
        return Answer(
            response=response,
            totals=totals,
            space=self.gateway.space(response.params),
            plan=self._plan(
                asked, request, response.attempts, served, is_known=totals.provider == CACHED
            ),
            is_bare=entry.is_bare,
            requested_model=entry.model.id,
            model=model,
            market_cost=totals.tokens * self.gateway.prices[served],
            id=request.call.id,
            request_id=request_id(incoming, request.call.id),
            latency_ms=round((self._clock.monotonic() - started) * 1000),
            cache=request.call.cache,
            is_kept=self.gateway.keeps_vectors and request.call.cache != "skip",
        )


_NO_OPTIONS = GatewayOptions()


def _routing(body: EmbeddingsBody) -> tuple[GatewayOptions, bytes]:
    """The routing options, from `providerOptions.gateway` or an object in `provider`; and those of
    the providers."""
    provider_options = dict(body.providerOptions or {})
    nested = provider_options.pop("gateway", None)
    routing = _NO_OPTIONS
    if nested is not None:
        routing = decode_options(nested, "providerOptions.gateway")
    if isinstance(body.provider, GatewayOptions):
        if nested and body.provider != routing:
            raise InvalidRequest(
                "provider and providerOptions.gateway say different things; send one of them.",
                param="provider",
            )
        routing = body.provider
    return routing, _canonical_json(check_options(provider_options))


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
