from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from embedway.server import doubles
from embedway.server.app import App
from tests.asgi import MODEL, call, embed
from tests.server.bad_input import CASES, OPEN, Bad

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIMIT_S = 0.05
"""How long an answer to a bad request may take; the best of three, as a machine may be busy."""


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name)
async def test_a_bad_request_gets_its_error_at_once(app: App, bad: Bad) -> None:
    """Every bad request is refused with the contract's status and code, the field that is wrong
    named in `param` and in the message, within 50 ms."""
    body = bad.body() if callable(bad.body) else bad.body
    took = []
    for _ in range(3):
        started = time.perf_counter()
        response = await call(app, bad.method, bad.path, bad.headers, body)
        took.append(time.perf_counter() - started)
        if took[-1] <= LIMIT_S:
            break
    error = response.error
    assert (response.status, error["code"], error["param"]) == (bad.status, bad.code, bad.param)
    assert {"message", "type", "param", "code", "doc_url"} <= error.keys()
    assert error["type"] == "invalid_request_error"
    assert _is_named(bad, error["message"])
    assert len(error["message"]) < 1000
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers["content-type"] == "application/json"
    assert response.headers.get("allow") == bad.allow
    assert min(took) <= LIMIT_S


def _is_named(bad: Bad, message: str) -> bool:
    """Whether the message tells which field is wrong: some clients print nothing else."""
    if bad.param is None or bad.code == "model_not_found":
        return True
    return bad.param in message or message.startswith(("input has", "input is"))


async def test_the_table_is_long_and_its_names_are_unique() -> None:
    """The table of bad requests has at least 250 cases, none of them twice."""
    names = [bad.name for bad in CASES]
    assert len(names) >= 250
    assert sorted(set(names)) == sorted(names)


async def test_after_all_that_a_good_request_is_answered(app: App) -> None:
    """Whatever was sent before, the next good request gets its vector."""
    for bad in CASES[::7]:
        await call(
            app,
            bad.method,
            bad.path,
            bad.headers,
            bad.body() if callable(bad.body) else bad.body,
        )
    response = await embed(app)
    assert response.status == 200
    assert len(response.json()["data"][0]["embedding"]) == 256


NULLS: tuple[dict[str, Any], ...] = (
    *(
        {field: None}
        for field in (
            "encoding_format",
            "dimensions",
            "user",
            "input_type",
            "provider",
            "providerOptions",
            "gateflow",
        )
    ),
    {"gateflow": {"cache": None, "fallbacks": None}},
    {"provider": {"order": None, "only": None, "sort": None, "models": None, "tags": None}},
    {"provider": {"user": None, "byok": None}},
    {"provider": {"byok": {"openai": None}}},
    {"providerOptions": {"gateway": None, "openai": None}},
    {"providerOptions": {"local": {"dimensions": None}}},
    {"providerOptions": {"gateway": {"only": None, "byok": None}}},
)


@pytest.mark.parametrize("fields", NULLS, ids=lambda fields: orjson.dumps(fields).decode())
async def test_null_counts_as_absent(app: App, fields: dict[str, Any]) -> None:
    """A field that is null is a field that was not sent, at any depth."""
    plain = await embed(app)
    response = await embed(app, **fields)
    assert response.status == 200
    assert response.json()["data"] == plain.json()["data"]


SOUND = {
    "a text that names a field twice": b',"input":"\\"model\\": 1, \\"model\\": 2"}',
    "texts that are names": b',"input":["model","model","input","user"]}',
    "the same name in different objects": (
        b',"user":"u","input":"a","provider":{"user":"u"},"providerOptions":{"openai":{"user":"u"}}}'
    ),
    "2,047 texts": b',"input":[' + b'"x",' * 2046 + b'"x"]}',
    "2,048 texts": b',"input":[' + b'"x",' * 2047 + b'"x"]}',
    "whitespace": b',"input":" "}',
    "whitespace around": b' , "input" : [ "a" ] }  \n',
    "an escaped NUL": b',"input":"a\\u0000b"}',
    "a pair of surrogates": b',"input":"\\ud83d\\ude00"}',
    "the last ids of the vocabulary": b',"input":[0,100255,100257,100276]}',
    "a long text": b',"input":"' + b"word " * 40_000 + b'"}',
    "a long text with quotes": b',"input":["' + b'\\"model\\": ' * 10_000 + b'"],"user":"u"}',
    "the longest names": b',"input":"a","user":"' + b"u" * 256 + b'"}',
    "ten tags": b',"input":"a","provider":{"tags":["1","2","3","4","5","6","7","8","9","10"]}}',
}


@pytest.mark.parametrize("name", SOUND)
async def test_what_only_looks_bad_is_answered(app: App, name: str) -> None:
    """Nothing that the contract allows is refused for looking like something bad."""
    response = await call(app, "POST", "/v1/embeddings", body=OPEN + SOUND[name])
    assert response.status == 200, response.body


@pytest.mark.parametrize("sent", ["", "a b", "é", "x" * 65, "a/b", "<script>", "a\r\nb"])
async def test_an_unsound_request_id_is_replaced(app: App, sent: str) -> None:
    """Only letters, digits, `_` and `-`, at most 64, are echoed as request id."""
    response = await embed(app, {"x-request-id": sent})
    assert response.headers["x-request-id"] == response.json()["gateflow"]["request_id"]


async def test_a_long_body_is_refused_unread(app: App) -> None:
    """What says that it is longer than the limit is answered before a byte of it is taken."""
    headers = {"content-length": str(100 * 2**20)}
    response = await call(app, "POST", "/v1/embeddings", headers, pieces=[b"x"] * 100)
    assert response.status == 413
    assert response.pieces_read == 0
    assert response.headers["connection"] == "close"


async def test_an_endless_body_is_refused_at_the_limit(app: App) -> None:
    """A body without a length is read up to the limit and not further."""
    taken = []

    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            taken.append(1)
            yield b"x" * 2**20

    response = await call(app, "POST", "/v1/embeddings", pieces=endless())
    assert response.status == 413
    assert response.pieces_read == 11  # the limit is ten pieces


async def test_a_body_in_pieces_is_put_together(app: App) -> None:
    """A body that comes byte by byte is the same body."""
    body = orjson.dumps({"model": MODEL, "input": "a text"})
    pieces = [body[i : i + 1] for i in range(len(body))]
    response = await call(app, "POST", "/v1/embeddings", pieces=pieces)
    assert response.json()["data"] == (await embed(app)).json()["data"]


async def test_a_caller_who_hangs_up_gets_no_answer(app: App) -> None:
    """A caller who hangs up while he sends is dropped without an answer and without an error."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/embeddings",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": None,
    }
    await app(scope, receive, send)
    assert sent == []


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (None, b'{"model":"local/wordllama-256","input":"a"}'),
        ("application/json", b'{"model":"local/wordllama-256","input":"a"}'),
        ("Application/JSON; charset=utf-8", b'{"model":"local/wordllama-256","input":"a"}'),
        ("application/x-www-form-urlencoded", b' {"model":"local/wordllama-256","input":"a"}'),
    ],
)
async def test_json_is_taken_under_its_usual_names(
    app: App, media_type: str | None, body: bytes
) -> None:
    """No content type, JSON's, and on a loopback server curl's default for `-d` are all JSON."""
    headers = {"content-type": media_type} if media_type else {}
    response = await call(app, "POST", "/v1/embeddings", headers, body)
    assert response.status == 200


async def test_looking_for_doubles_does_not_read_the_inputs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long the inputs are, the slow parser that finds doubles sees only what is around
    them, so that nobody can hold the event loop with a long body."""
    seen = []

    def loads(text: bytes, **hooks: Any) -> Any:
        seen.append(len(text))
        return json.loads(text, **hooks)

    monkeypatch.setattr(doubles, "json", SimpleNamespace(loads=loads))
    tokens = b"[" + b",".join([b"[1,2,3]"] * 2000) + b"]"
    for field in (b"input", b"values"):
        around = b'{"user":"u","provider":{"user":"u"},"%b":' % field
        doubles.refuse_doubles(around + tokens + b"}")
        doubles.refuse_doubles(around + b'"' + b"\\u0041" * 100_000 + b'"}')
    assert len(seen) == 4
    assert max(seen) < 100
