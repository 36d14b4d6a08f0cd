"""Every place where a caller can put a text: the request for each, with the text in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from embedway.options import ALLOWED

SMALL = "openai/text-embedding-3-small"


class Sent(Struct, frozen=True, kw_only=True):
    """A request that a caller may make."""

    method: str = "POST"
    path: str = "/v1/embeddings"
    headers: Mapping[str, str] = {}
    body: Any = b""


Field = Callable[[str], Sent]

_OPENAI_TEXT: dict[str, Any] = {
    "model": SMALL,
    "input": "a text",
    "gateflow": {"cache": "skip"},  # or else a known text would keep everybody at home
}
_WHERE = ("base_url", "api_base", "baseURL", "baseUrl", "endpoint", "host", "url", "proxy")
_HEADERS = (
    "host",
    "origin",
    "referer",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-host",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-real-ip",
    "via",
    "proxy",
    "proxy-authorization",
    "x-portkey-custom-host",
    "x-portkey-provider",
    "x-portkey-config",
    "helicone-target-url",
    "x-base-url",
    "x-api-base",
    "x-upstream",
    "openai-organization",
    "openai-project",
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "user-agent",
    "accept",
    "cache-control",
    "content-encoding",
    "traceparent",
    "tracestate",
    "baggage",
    "x-gateflow-trace-id",
    "x-request-id",
    "x-request-timeout-ms",
    "x-title",
    "http-referer",
    "ai-reporting-user",
    "ai-reporting-tags",
)
_SDK_HEADERS = (
    "ai-model-id",
    "ai-embedding-model-specification-version",
    "ai-gateway-protocol-version",
    "ai-gateway-auth-method",
    "ai-o11y-deployment-id",
)


def _body(**fields: Any) -> Sent:
    return Sent(body={**_OPENAI_TEXT, **fields})


def _gateway(**fields: Any) -> Sent:
    return _body(providerOptions={"gateway": fields})


def _sdk(headers: Mapping[str, str], **fields: Any) -> Sent:
    named = {"ai-model-id": SMALL, **headers}
    return Sent(path="/v4/ai/embedding-model", headers=named, body={"values": ["a text"], **fields})


def _in_body() -> dict[str, Field]:
    return {
        "model": lambda s: _body(model=s),
        "model, behind a provider": lambda s: _body(model=f"openai/{s}"),
        "model, before a name": lambda s: _body(model=f"{s}/text-embedding-3-small"),
        "input": lambda s: _body(input=s),
        "input[0]": lambda s: _body(input=[s, "another"]),
        "user": lambda s: _body(user=s),
        "encoding_format": lambda s: _body(encoding_format=s),
        "dimensions": lambda s: _body(dimensions=s),
        "input_type": lambda s: _body(input_type=s),
        "provider": lambda s: _body(provider=s),
        "provider.order": lambda s: _body(provider={"order": [s]}),
        "provider.only": lambda s: _body(provider={"only": [s]}),
        "provider.models": lambda s: _body(provider={"models": [s]}),
        "gateflow.cache": lambda s: _body(gateflow={"cache": s}),
        "gateflow.fallbacks": lambda s: _body(gateflow={"fallbacks": [s]}),
        "gateflow.base_url": lambda s: _body(gateflow={"base_url": s}),
        "gateway.order": lambda s: _gateway(order=[s]),
        "gateway.only": lambda s: _gateway(only=[s]),
        "gateway.models": lambda s: _gateway(models=[s]),
        "gateway.sort": lambda s: _gateway(sort=s),
        "gateway.user": lambda s: _gateway(user=s),
        "gateway.tags": lambda s: _gateway(tags=[s]),
        "gateway.byok, its name": lambda s: _gateway(byok={s: [{"apiKey": "own-0123456789"}]}),
        "gateway.byok.openai[0].apiKey": lambda s: _gateway(byok={"openai": [{"apiKey": s}]}),
        **{
            f"gateway.byok.openai[0].{name}": lambda s, name=name: _gateway(
                byok={"openai": [{"apiKey": "own-0123456789", name: s}]}
            )
            for name in _WHERE
        },
        "providerOptions, its name": lambda s: _body(providerOptions={s: {"user": "u"}}),
        "providerOptions, in place of options": lambda s: _body(providerOptions={"openai": s}),
        **{name: lambda s, name=name: _body(**{name: s}) for name in _WHERE},
        "litellm_params.api_base": lambda s: _body(litellm_params={"api_base": s}),
        "a field of that name": lambda s: _body(**{s: 1}),
    }


def _in_options() -> dict[str, Field]:
    """What each provider takes, which goes through to it, and what none does."""
    return {
        f"providerOptions.{provider}.{name}": lambda s, provider=provider, name=name: _body(
            provider=provider, providerOptions={provider: {name: s}}
        )
        for provider, names in ALLOWED.items()
        for name in (*sorted(names), "base_url", "endpoint", "url")
    }


def _in_head() -> dict[str, Field]:
    return {
        **{
            f"header {name}": lambda s, name=name: Sent(headers={name: s}, body=_OPENAI_TEXT)
            for name in _HEADERS
        },
        **{f"header {name}": lambda s, name=name: _sdk({name: s}) for name in _SDK_HEADERS},
        "values": lambda s: _sdk({}, values=[s]),
        "base_url beside values": lambda s: _sdk({}, base_url=s),
        "query base_url": lambda s: Sent(
            path=f"/v1/embeddings?base_url={quote(s)}", body=_OPENAI_TEXT
        ),
        "query id": lambda s: Sent(method="GET", path=f"/v1/generation?id={quote(s)}"),
        "query of models": lambda s: Sent(method="GET", path=f"/v1/models?provider={quote(s)}"),
        "path of a model": lambda s: Sent(method="GET", path=f"/v1/models/{quote(s)}"),
        "path of endpoints": lambda s: Sent(method="GET", path=f"/v1/models/{quote(s)}/endpoints"),
        "path": lambda s: Sent(method="GET", path=f"/{quote(s)}"),
        "path behind a route": lambda s: Sent(path=f"/v1/embeddings/{quote(s)}", body=_OPENAI_TEXT),
        "path of an asset": lambda s: Sent(method="GET", path=f"/docs/{quote(s, safe='')}"),
    }


FIELDS: dict[str, Field] = {**_in_body(), **_in_head()}
OPTIONS: dict[str, Field] = _in_options()
