"""A table of requests that must be refused, each with the error it must get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
from msgspec import Struct

from tests.asgi import MODEL

Body = bytes | Callable[[], bytes]

OPEN = b'{"model":"local/wordllama-256"'
"""The start of a body; `,` and more fields follow."""
DEEP = 10**6
_PARAMETER = "invalid_parameter"
_INPUT = "invalid_input"


class Bad(Struct, frozen=True, kw_only=True):
    """One bad request. `body` may be a function, so that long ones are made when needed."""

    name: str
    status: int = 400
    code: str = _PARAMETER
    param: str | None = None
    method: str = "POST"
    path: str = "/v1/embeddings"
    headers: tuple[tuple[str, str], ...] = ()
    body: Body = b""
    allow: str | None = None


def _with(field: str, value: str, **law: Any) -> Bad:
    """A sound request but for one *field*, whose *value* is raw JSON."""
    first = b"{" if field == "model" else OPEN + b","
    text = b"" if field == "input" else b',"input":"a text"'
    body = first + f'"{field}":{value}'.encode() + text + b"}"
    law.setdefault("param", field)
    return Bad(name=f"{field} {value[:80]}", body=body, **law)


def _json(name: str, body: bytes, param: str | None = None, **law: Any) -> Bad:
    return Bad(name=name, body=body, param=param, **law)


def _text(length: int) -> str:
    return '"' + "x" * length + '"'


_SCALARS = ("1", "1.5", "true", '"x"', "[]", "{}")


def wrong_types() -> Iterator[Bad]:
    """Every field of the body with every JSON type that it does not take."""
    takes = {
        "model": '"x"',
        "encoding_format": "",
        "dimensions": "1",
        "user": '"x"',
        "input_type": '"x"',
        "provider": '"x"{}',
        "providerOptions": "{}",
        "gateflow": "{}",
    }
    for field, taken in takes.items():
        for value in _SCALARS:
            if value not in taken:
                yield _with(field, value)
    for value in ("1", "1.5", "true", "{}", "null", "[]"):
        yield _with("input", value, code=_INPUT)
    for value in ("null", '""', _text(257)):
        yield _with("model", value)


def wrong_values() -> Iterator[Bad]:
    """Fields of the right type with a value outside their range."""
    for value in ('""', '"FLOAT"', '"int8"'):
        yield _with("encoding_format", value)
    for value in ("0", "-1", "256.0", "1e2", "1e999", "-1e999", "9" * 5000, "-" + "9" * 5000):
        yield _with("dimensions", value)
    for value in ("1", "63", "65", "255", "257", str(2**31), str(2**63), str(2**64)):
        yield _with("dimensions", value, code="unsupported_dimensions")
    yield _with("user", _text(257))
    for value in ('""', '"search_document"', '"Query"', _text(257)):
        yield _with("input_type", value)
    for value in ('""', '"openai"', '"nobody"', _text(257)):
        yield _with("provider", value)
    for value, status in (('"no/such-model"', 404), ('"local/WordLlama-256 "', 404)):
        yield _with("model", value, status=status, code="model_not_found")


def nested_fields() -> Iterator[Bad]:
    """`gateflow`, `provider` as an object, and `providerOptions`, down to the last field."""
    for inner, param in (
        ('"cache":1', "cache"),
        ('"cache":true', "cache"),
        ('"cache":"no"', "cache"),
        ('"cache":["skip"]', "cache"),
        ('"fallbacks":"a"', "fallbacks"),
        ('"fallbacks":{}', "fallbacks"),
        ('"fallbacks":[1]', "fallbacks[0]"),
        ('"fallbacks":["wordllama-256",null]', "fallbacks[1]"),
        ('"fallbacks":[""]', "fallbacks[0]"),
        ('"ttl":1', "ttl"),
        ('"cahce":"skip"', "cahce"),
    ):
        yield _with("gateflow", "{" + inner + "}", param=f"gateflow.{param}")
    yield _with(
        "gateflow",
        '{"fallbacks":["wordllama-256","no-such"]}',
        status=404,
        code="model_not_found",
        param="gateflow.fallbacks[1]",
    )
    for inner, param in _ROUTING:
        value = "{" + inner + "}"
        nested = f'{{"gateway":{value}}}'
        yield _with("provider", value, param=f"provider.{param}")
        yield _with("providerOptions", nested, param=f"providerOptions.gateway.{param}")
    for value in ("1", "0", "false", '""', '"x"', "[]"):
        yield _with("providerOptions", f'{{"gateway":{value}}}', param="providerOptions.gateway")
    yield _with("provider", '{"only":["openai"]}', param="provider")
    yield _with("providerOptions", '{"gateway":{"only":["openai"]}}', param="provider")


_ROUTING = (
    ('"order":"openai"', "order"),
    ('"order":[1]', "order[0]"),
    ('"only":{}', "only"),
    ('"only":[""]', "only[0]"),
    ('"sort":"speed"', "sort"),
    ('"sort":1', "sort"),
    ('"models":"a"', "models"),
    ('"models":[true]', "models[0]"),
    ('"user":1', "user"),
    (f'"user":{_text(257)}', "user"),
    ('"tags":"a"', "tags"),
    ('"tags":[1]', "tags[0]"),
    ('"tags":["a",""]', "tags[1]"),
    (f'"tags":[{_text(65)}]', "tags[0]"),
    (f'"tags":[{",".join(["1"] * 11)}]'.replace("1", '"t"'), "tags"),
    ('"byok":[]', "byok"),
    ('"byok":"sk-1"', "byok"),
    ('"zeroDataRetention":true', "zeroDataRetention"),
    ('"foo":{"bar":1}', "foo"),
)


def provider_options() -> Iterator[Bad]:
    """`providerOptions.<provider>` is an allow-list."""
    for inner, param in (
        ('"nobody":{}', "nobody"),
        ('"openai":1', "openai"),
        ('"openai":"x"', "openai"),
        ('"openai":[]', "openai"),
        ('"openai":{"model":"x"}', "openai.model"),
        ('"openai":{"base_url":"http://169.254.169.254/"}', "openai.base_url"),
        ('"openai":{"dimensions":0}', "openai.dimensions"),
        ('"openai":{"dimensions":"64"}', "openai.dimensions"),
        ('"openai":{"dimensions":true}', "openai.dimensions"),
        ('"openai":{"dimensions":64.0}', "openai.dimensions"),
        (f'"openai":{{"dimensions":{2**31}}}', "openai.dimensions"),
        (f'"openai":{{"dimensions":{2**64}}}', "openai.dimensions"),
        ('"google":{"outputDimensionality":-1}', "google.outputDimensionality"),
        ('"google":{"taskTyp":"x"}', "google.taskTyp"),
        ('"cohere":{"texts":["x"]}', "cohere.texts"),
        ('"local":{"normalize":true}', "local.normalize"),
        ('"gateway":{"byok":{"openai":[]}}', "gateway.byok.openai"),
        ('"gateway":{"byok":{"openai":{}}}', "gateway.byok.openai"),
        ('"gateway":{"byok":{"openai":[{}]}}', "gateway.byok.openai[0]"),
        ('"gateway":{"byok":{"openai":[{"apiKey":1}]}}', "gateway.byok.openai[0]"),
        ('"gateway":{"byok":{"openai":[{"apiKey":""}]}}', "gateway.byok.openai[0]"),
        ('"gateway":{"byok":{"openai":[{"apiKey":"a\\nb"}]}}', "gateway.byok.openai[0].apiKey"),
        (
            '"gateway":{"byok":{"openai":[{"apiKey":"a"},{"apiKey":"é"}]}}',
            "gateway.byok.openai[1].apiKey",
        ),
        (
            '"gateway":{"byok":{"openai":[{"apiKey":"a","baseUrl":"http://x"}]}}',
            "gateway.byok.openai[0].baseUrl",
        ),
    ):
        yield _with("providerOptions", "{" + inner + "}", param=f"providerOptions.{param}")
    yield _with(
        "providerOptions",
        '{"local":{"dimensions":65}}',
        code="unsupported_dimensions",
        param="dimensions",
    )
    deep = "[" * 500 + "]" * 500
    for inner in (f'"mistral":{{"metadata":{deep}}}', f'"openai":{{"user":{2**64}}}'):
        yield _with("providerOptions", "{" + inner + "}", param="providerOptions")


def unknown_fields() -> Iterator[Bad]:
    """Fields that do not exist, and required ones that are missing."""
    for field in ("temperature", "Model", "dimension", "inputs", "stream", "__proto__", "a b", "é"):
        yield _with(field, "1")
    yield _json("no model", b'{"input":"a"}', "model")
    yield _json("no input", OPEN + b"}", "input")
    yield _json("an empty object", b"{}", "model")
    yield _json("a very long name", OPEN + b',"' + b"x" * 100_000 + b'":1}', "x" * 200)


def inputs() -> Iterator[Bad]:
    """Inputs that are empty, mixed, too many, or no tokens."""

    def many(*items: Any) -> bytes:
        return orjson.dumps({"model": MODEL, "input": items})

    def bad(name: str, position: int, *items: Any) -> Bad:
        return _json(f"input {name}", many(*items), f"input[{position}]", code=_INPUT)

    yield _with("input", '""', code=_INPUT, param="input[0]")
    for position in (0, 37, 2047):
        texts = ["x"] * 2048
        texts[position] = ""
        yield bad(f"empty text at {position}", position, *texts)
    yield bad("empty tokens first", 0, [], [1])
    yield bad("empty tokens last", 2, [1], [2], [])
    yield bad("2,049 texts", 2048, *["x"] * 2049)
    yield bad("2,049 token lists", 2048, *[[1]] * 2049)
    yield bad("100,000 texts", 2048, *["x"] * 100_000)
    yield bad("text then number", 1, "a", 1)
    yield bad("number then text", 1, 1, "a")
    yield bad("text then tokens", 3, "a", "b", "c", [1])
    yield bad("tokens then text", 1, [1], "a")
    yield bad("tokens then number", 1, [1], 1)
    yield bad("null at 1", 1, "a", None)
    yield bad("bool", 0, True)
    yield bad("float", 1, 1, 1.5)
    yield bad("object", 0, {"text": "a"})
    yield bad("texts nested", 0, ["a"])
    yield bad("tokens nested twice", 1, [1], [[1]])
    yield bad("bool in tokens", 0, [True])
    yield bad("null in tokens", 2, [1], [2], [None])
    yield bad("float in tokens", 0, [1.0])
    for number in (-1, -(2**31), 2**31, 2**32, 2**63):
        yield bad(f"token id {number}", 0, number)
        yield bad(f"token list with {number}", 1, [1], [2, number])
    for number in (100_256, 100_261, 100_277, 2**31 - 1):
        yield bad(f"out of vocabulary {number}", 0, number)
        yield bad(f"out of vocabulary list {number}", 2, [1], [2], [number])
    for number in ("9" * 5000, "1e999", "-1e999", str(2**64)):
        yield _with("input", f"[{number}]", code=_INPUT, param="input[0]")
    yield Bad(
        name="input of too many tokens",
        code="token_limit_exceeded",
        param="input[1]",
        body=lambda: many("a", "x " * 1_200_000),
    )


def broken_json() -> Iterator[Bad]:
    """Bodies that are no JSON, no UTF-8, or no object."""
    good = OPEN + b',"input":"a text"}'
    yield from (
        _json("no body", b""),
        _json("whitespace", b" \t\r\n "),
        _json("cut off", good[:-1]),
        _json("cut in a text", good[:-4]),
        _json("trailing rubbish", good + b"x"),
        _json("two values", good + good),
        _json("trailing comma", OPEN + b',"input":"a",}'),
        _json("a comment", OPEN + b',"input":"a" /* c */}'),
        _json("single quotes", b"{'model':'m'}"),
        _json("byte order mark", b"\xef\xbb\xbf" + good),
        _json("UTF-16", good.decode().encode("utf-16")),
        _json("UTF-16 without mark", good.decode().encode("utf-16-le")),
        _json("UTF-32", good.decode().encode("utf-32")),
        _json("Latin-1", OPEN + b',"input":"\xe9"}'),
        _json("raw surrogate", OPEN + b',"input":"\xed\xa0\x80"}'),
        _json("overlong", OPEN + b',"input":"\xc0\xaf"}'),
        _json("escaped surrogate", OPEN + b',"input":"\\ud800"}'),
        _json("escaped low surrogate", OPEN + b',"input":"\\udc00x"}'),
        _json("surrogates swapped", OPEN + b',"input":"\\udc00\\ud800"}'),
        _json("raw NUL", OPEN + b',"input":"a\x00b"}'),
        _json("NUL first", b"\x00" + good),
        _json("raw newline", OPEN + b',"input":"a\nb"}'),
        _json("bad escape", OPEN + b',"input":"\\x41"}'),
        _json("NaN", OPEN + b',"input":[NaN]}'),
        _json("Infinity", OPEN + b',"input":"a","dimensions":Infinity}'),
        _json("-Infinity", OPEN + b',"input":"a","dimensions":-Infinity}'),
        _json("leading zero", OPEN + b',"input":"a","dimensions":0256}'),
        _json("plus sign", OPEN + b',"input":"a","dimensions":+256}'),
        _json("hexadecimal", OPEN + b',"input":"a","dimensions":10x40}'),
        _json("HTML", b"<html></html>"),
    )
    for value in (b"null", b"true", b"1", b'"a"', b"[]", b"[{}]"):
        yield _json(f"no object: {value.decode()}", value)


def doubles() -> Iterator[Bad]:
    """A name that stands twice in one object, at any depth and however long the body."""
    more = OPEN + b',"input":"a",'
    yield _json("twice: model", OPEN + b',"input":"a","model":"x"}', "model")
    yield _json("twice: input", OPEN + b',"input":"a","input":"b"}', "input")
    yield _json("twice: the same value", OPEN + b',"user":"u","user":"u","input":"a"}', "user")
    yield _json("twice: escaped", b'{"mod\\u0065l":"a","model":"b","input":"x"}', "model")
    yield _json("twice: cache", more + b'"gateflow":{"cache":"skip","cache":"refresh"}}', "cache")
    yield _json("twice: order", more + b'"provider":{"order":["a"],"order":["b"]}}', "order")
    yield _json(
        "twice: option",
        more + b'"providerOptions":{"openai":{"user":"a","user":"b"}}}',
        "user",
    )
    yield _json("twice: provider", more + b'"providerOptions":{"a":{},"a":{}}}', "a")
    long_text = b'"' + b"x" * 100_000 + b'"'
    middle = b',"user":"u","input":' + long_text + b',"user":"v","input_type":"query"}'
    yield _json("twice: around a long input", OPEN + middle, "user")
    yield _json(
        "twice: a long input",
        OPEN + b',"input":' + long_text + b',"input":' + long_text + b"}",
        "input",
    )


def bombs() -> Iterator[Bad]:
    """A million brackets, wherever they stand."""
    square, curly = (lambda: b"[" * DEEP + b"]" * DEEP), (lambda: b'{"a":' * DEEP + b"}" * DEEP)
    for kind, bomb in (("brackets", square), ("braces", curly)):

        def bomb_in(before: bytes, after: bytes = b"}", bomb: Any = bomb) -> Callable[[], bytes]:
            return lambda: before + bomb() + after

        of_input = "input[0]" if kind == "brackets" else "input"
        yield Bad(
            name=f"{kind} in input",
            code=_INPUT,
            param=of_input,
            body=bomb_in(OPEN + b',"input":'),
        )
        yield Bad(
            name=f"{kind} in an unknown field",
            param="foo",
            body=bomb_in(OPEN + b',"foo":', b',"input":"a"}'),
        )
        yield Bad(
            name=f"{kind} in providerOptions",
            body=bomb_in(OPEN + b',"providerOptions":{"mistral":{"metadata":', b'}},"input":"a"}'),
        )
        yield Bad(
            name=f"{kind} after the inputs",
            body=bomb_in(OPEN + b',"input":"a","providerOptions":{"openai":{"user":', b"}}}"),
        )
    yield Bad(name="brackets as the body", body=square)
    yield Bad(name="brackets unclosed", body=lambda: b"[" * DEEP)
    yield Bad(name="braces as the body", param="a", body=curly)
    yield Bad(name="braces unclosed", param="a", body=lambda: b'{"a":' * DEEP)


def media_types() -> Iterator[Bad]:
    """Bodies that say they are something else than JSON."""
    good = OPEN + b',"input":"a text"}'

    def typed(header: str, value: str, body: bytes = good) -> Bad:
        return Bad(
            name=f"{header}: {value[:50]} {len(body)}",
            status=415,
            code="unsupported_media_type",
            headers=(("content-type", "application/json"), (header, value)),
            body=body,
        )

    for media_type in (
        "text/plain",
        "text/json",
        "text/html; charset=utf-8",
        "application/xml",
        "application/octet-stream",
        "application/x-ndjson",
        "application/jsonlines",
        "application/vnd.api+json",
        "multipart/form-data; boundary=x",
        "json",
        "application/json, text/plain",
        "application/" + "x" * 5000,
    ):
        yield typed("content-type", media_type)
    yield typed("content-type", "application/x-www-form-urlencoded", b"model=x&input=y")
    yield typed("content-type", "application/x-www-form-urlencoded", b"")
    for encoding in ("gzip", "br", "zstd", "deflate", "GZIP", "identity, gzip"):
        yield typed("content-encoding", encoding)


def heads() -> Iterator[Bad]:
    """Heads that are too large, lengths that are no lengths, headers with bad values."""
    for name, headers in (
        ("10,000 headers", tuple((f"x-{i}", "1") for i in range(10_000))),
        ("101 headers", tuple((f"x-{i}", "1") for i in range(101))),
        ("a header of 1 MB", (("x-long", "x" * 10**6),)),
        ("a name of 40 KB", (("x" * 40_000, "1"),)),
    ):
        yield Bad(name=name, status=431, code="headers_too_large", headers=headers, body=b"{}")
    yield Bad(
        name="a query of 40 KB",
        status=431,
        code="headers_too_large",
        path="/v1/embeddings?" + "x" * 40_000,
        body=b"{}",
    )
    for length in (str(100 * 2**20), "9" * 5000, "-1", "1e3", "0x10", "", "1 2"):
        yield Bad(
            name=f"content-length {length[:20]}",
            status=413,
            code="request_too_large",
            headers=(("content-length", length),),
            body=OPEN + b',"input":"a"}',
        )
    good = OPEN + b',"input":"a"}'
    for tags in ("x" * 65, "a,é", "a,\x7f", ",".join(f"t{i}" for i in range(11))):
        yield Bad(
            name=f"ai-reporting-tags {tags[:20]!a}",
            param="ai-reporting-tags",
            headers=(("ai-reporting-tags", tags),),
            body=good,
        )


def methods_and_routes() -> Iterator[Bad]:
    """Methods a route does not take, and routes that do not exist."""
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "FOO"):
        for path in ("/v1/embeddings", "/embeddings", "/v4/ai/embedding-model"):
            yield Bad(
                name=f"{method} {path}",
                status=405,
                code="method_not_allowed",
                method=method,
                path=path,
                allow="POST",
            )
    for path in ("/v1/models", "/v1/models/a", "/livez", "/docs", "/openapi.json", "/v3/ai/config"):
        for method in ("POST", "DELETE"):
            yield Bad(
                name=f"{method} {path}",
                status=405,
                code="method_not_allowed",
                method=method,
                path=path,
                body=b"{}",
                allow="GET, HEAD",
            )
    for path in (
        "/v1",
        "/v1/",
        "/v1/embedding",
        "/v1/embeddings/",
        "//v1/embeddings",
        "/V1/embeddings",
        "/v2/embeddings",
        "/v1/chat",
        "/v5/ai/embedding-model",
        "/docs/a/docs.js",
        "/docs/../app.py",
        "/docs/%2e%2e%2fapp.py",
        "/%00",
        "/" + "x" * 5000,
    ):
        for method in ("GET", "POST"):
            yield Bad(
                name=f"{method} {path[:40]}",
                status=404,
                code="not_found",
                method=method,
                path=path,
            )
    for path in ("/docs/docs.html", "/docs/secret.js"):
        yield Bad(name=f"GET {path}", status=404, code="not_found", method="GET", path=path)


CASES: tuple[Bad, ...] = (
    *wrong_types(),
    *wrong_values(),
    *nested_fields(),
    *provider_options(),
    *unknown_fields(),
    *inputs(),
    *broken_json(),
    *doubles(),
    *bombs(),
    *media_types(),
    *heads(),
    *methods_and_routes(),
)
