"""The checker itself: each law is found out when it is broken."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from embedway.store.keys import KeyStore
from tests.fake_provider.exchange import KEY
from tests.fake_provider.server import FakeProvider
from tests.fakes import until
from tests.faults.behaviours import RIGHT, UNAVAILABLE
from tests.faults.heard import Heard
from tests.faults.laws import TEXT, Laws
from tests.faults.world import World

TRUE = [bytes([0, 0, 128, 63, 0, 0, 0, 0]), bytes([0, 0, 0, 0, 0, 0, 128, 63])]


def answer(vectors: list[bytes]) -> Heard:
    """A good answer."""
    data = [
        {"index": index, "embedding": base64.b64encode(vector).decode()}
        for index, vector in enumerate(vectors)
    ]
    return Heard(heads=1, ends=1, status=200, body=orjson.dumps({"data": data}))


def refusal(message: str = "it failed", **beside: Any) -> Heard:
    """A good error."""
    error = {"message": message, "code": "provider_unavailable"}
    body = orjson.dumps({"error": error, **beside})
    return Heard(heads=1, ends=1, status=503, headers={"x-should-retry": "false"}, body=body)


def test_good_ends() -> None:
    """What keeps the laws is not complained of."""
    laws = Laws()
    laws.check_end("a caller", answer(TRUE), [RIGHT], 1.0)
    laws.check_vectors("a caller", answer(TRUE), TRUE)
    laws.check_end("a caller", refusal(), [UNAVAILABLE], 1.0)
    laws.check_calls("a caller", 3, 3)
    assert not laws.broken


BROKEN: dict[str, tuple[Heard, str]] = {
    "no answer": (Heard(), "one answer ends a request"),
    "two answers": (replace(refusal(), heads=2), "one answer ends a request"),
    "half an answer": (replace(refusal(), ends=0), "one answer ends a request"),
    "a crash": (replace(refusal(), crash=KeyError()), "one answer ends a request"),
    "late": (replace(refusal(), took_s=1.1), "nobody is held longer"),
    "no JSON": (replace(refusal(), body=b"{"), "an answer is JSON"),
    "another status": (replace(refusal(), status=500), "the status names who is to blame"),
    "success": (answer(TRUE), "the status names who is to blame"),
    "another code": (
        replace(refusal(), body=b'{"error":{"message":"no","code":"overloaded"}}'),
        "the status names who is to blame",
    ),
    "control characters": (refusal("\x1b[31mred"), "errors are plain"),
    "no words": (refusal(""), "errors are plain"),
    "a vector beside": (refusal(data=[{"embedding": "AAAA"}]), "no vector with an error"),
    "nothing about retries": (replace(refusal(), headers={}), "nobody else retries"),
    "a credential": (refusal(f"bad key {KEY}"), "no secret is told"),
    "a text": (replace(refusal(), headers={"x": TEXT}), "no secret is told"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_ends(name: str) -> None:
    """Each law about an answer is found out when it is broken."""
    heard, law = BROKEN[name]
    laws = Laws()
    laws.check_end("a caller", heard, [UNAVAILABLE], 1.0)
    assert any(broken.startswith(law) for broken in laws.broken), laws.broken


@pytest.mark.parametrize(
    "spoil", [lambda v: v[::-1], lambda v: v[:1], lambda v: [*v, v[0]], lambda v: [v[0], v[0][:4]]]
)
def test_bad_vectors(spoil: Callable[[list[bytes]], list[bytes]]) -> None:
    """A vector of another text, one too few, one too many, and a short one are found out."""
    laws = Laws()
    laws.check_vectors("a caller", answer(spoil(TRUE)), TRUE)
    assert laws.broken


def test_too_many_calls() -> None:
    """A fourth attempt is found out."""
    laws = Laws()
    laws.check_calls("a caller", 4, 3)
    assert laws.broken


@pytest.mark.parametrize(("level", "message"), [(20, TEXT), (20, KEY), (40, "a bug")])
def test_bad_logs(level: int, message: str) -> None:
    """A text or a credential in a log is found out, and so is a bug."""
    laws = Laws()
    laws.check_logs([logging.LogRecord("any", level, __file__, 1, message, (), None)])
    assert laws.broken


async def test_leftovers(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is still under way is found out in every place that holds something of it."""
    monkeypatch.setattr("tests.faults.laws._SETTLED_S", 0.0)
    laws, never = Laws(), asyncio.Event()
    world = World(FakeProvider(), ["openai"], keys)
    await world.start()

    async def hang(*_: object, **__: object) -> Any:
        await never.wait()

    world.send = hang
    asking = asyncio.create_task(world.ask("openai", [TEXT]))
    await until(lambda: world.sent)
    await laws.check_leftovers(world.gateway, [world.app], [], None)
    asking.cancel()
    await asyncio.wait([asking])
    (broken,) = laws.broken
    for place in ("World.ask", "Limit", "Health", "Coalesce", "Batch", "Shed"):
        assert place in broken
