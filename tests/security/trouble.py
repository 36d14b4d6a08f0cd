"""What goes wrong at a gateway, by its provider or by its caller, with canaries all over it."""

from __future__ import annotations

import json
from typing import Any

from tests.fake_provider.exchange import KEY
from tests.fake_provider.faults import Fault, answers, html, raw, reset, status
from tests.fake_provider.server import FakeProvider
from tests.fake_provider.signature import ACCESS_KEY_ID, REGION
from tests.security.canaries import AUDIENCE, ISSUER, NAMES, SECRETS, TEXTS, echo

SMALL = "openai/text-embedding-3-small"
ELSEWHERE = {
    "cohere": "cohere/embed-v4.0",
    "mistral": "mistral/mistral-embed",
    "bedrock": "amazon/titan-embed-text-v2",
}
"""One refuses the key, one is not there, one refuses the signature."""


def faults() -> dict[str, Fault]:
    """How a provider fails, with an echo wherever there is room for one."""
    told = echo()
    line = told.encode().replace(b"\r\n", b" ")
    codes = (400, 401, 403, 404, 409, 413, 418, 422, 429, 500, 503)
    header = {"retry_after": KEY, "x_request_id": KEY, "x_ratelimit_remaining_requests": KEY}
    return {
        **{f"status {code}": status(code, told) for code in codes},
        "flat": answers(json.dumps({"detail": [{"input": told}]}).encode(), 422),
        "bare": answers(line, 500, content_type="text/plain"),
        "no json": answers(line),
        "wrong types": answers(json.dumps({"data": told, "usage": told}).encode()),
        "wrong base64": answers(json.dumps({"data": [{"embedding": told}]}).encode()),
        "page": html(),
        "headers": answers(b'{"error": {"message": "no"}}', 429, **header),
        "reason": raw(b"HTTP/1.1 500 " + line + b"\r\ncontent-length: 0\r\n\r\n"),
        "not http": raw(line + b"\r\n\r\n"),
        "reset": reset(),
    }


def settings(fake: FakeProvider, form: str, redis: bool) -> str:
    """One account for each fault, so that none is let alone because of another."""
    password, openai = SECRETS["the password of Redis"], fake.url("openai")
    lines = [f'redis_url = "redis://:{password}@127.0.0.1:9/0"'] if redis else []
    lines += ["[log]", 'level = "debug"', f'format = "{form}"']
    lines += _account("well", kind="openai", api_key=KEY, base_url=openai)
    for number in range(len(faults())):
        lines += _account(f"failing{number}", kind="openai", api_key=KEY, base_url=openai)
    key = SECRETS["another provider's key"]
    lines += _account("cohere", api_key=key, base_url=fake.url("cohere"))
    key = SECRETS["the key of one who cannot be reached"]
    lines += _account("mistral", api_key=key, base_url="http://127.0.0.1:9/v1")
    key = SECRETS["a secret access key"]
    pair = {"access_key_id": ACCESS_KEY_ID, "secret_access_key": key, "region": REGION}
    lines += _account("bedrock", **pair, base_url=fake.url("bedrock"))
    lines += ["[[oidc]]", f'issuer = "{ISSUER}"', f'audience = "{AUDIENCE}"', "private = true"]
    lines += ['claims = { sub = "plover-2b71" }']
    return "\n".join(lines)


def _account(name: str, **fields: str) -> list[str]:
    values = [f'{field} = "{value}"' for field, value in fields.items()]
    return [f"[providers.{name}]", "private = true", *values]


def body(**fields: Any) -> dict[str, Any]:
    """A request with every canary of the caller's in it."""
    gateway = {"user": NAMES["the user"], "tags": [NAMES["the tag"]]}
    return {
        "model": SMALL,
        "input": TEXTS["the text"],
        "providerOptions": {"gateway": gateway},
        **fields,
    }


def new(**fields: Any) -> dict[str, Any]:
    """The same for a provider, whatever is known."""
    return body(**fields, gateflow={"cache": "skip"})


def with_byok(credentials: Any, **fields: Any) -> dict[str, Any]:
    """The same under the caller's own credential."""
    made = body(**fields)
    made["providerOptions"]["gateway"]["byok"] = credentials
    return made


def mistakes() -> list[Any]:
    """Bodies that are refused here, each with the canaries in it."""
    text, own = TEXTS["the text"], SECRETS["the caller's own key"]
    return [
        body(input=[text, 5]),
        body(input={text: text}),
        body(input=[text, ""]),
        body(input=[[text]]),
        body(input=text * 5000),
        body(input=[text] * 2049),
        body(input=text, dimensions=5000),
        body(input=text, model="openai/text-embedding-4"),
        body(input=text, encoding_format="hex"),
        body(input=text, unknown=text),
        body(input=text, provider="nobody"),
        json.dumps(body()).encode()[:-9],
        json.dumps(body()).encode() + b'"',
        json.dumps(body()).encode("utf-16"),
        b'{"input": "' + text.encode("latin-1") + b'"}',
        b'{"model": "' + SMALL.encode() + b'", "input": "a", "input": "' + text[:11].encode(),
        with_byok({"openai": {"apiKey": own}}),
        with_byok({"openai": own}),
        with_byok({"openai": [own]}),
        with_byok({"openai": [{"apiKey": f"{own}\r\nHost: x"}]}),
        with_byok({"openai": [{"apiKey": [own]}]}),
        with_byok({"openai": [{"apiKey": own, "baseURL": "http://127.0.0.1:9"}]}),
        with_byok([own]),
    ]
