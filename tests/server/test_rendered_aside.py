"""Where an answer is made: a large one in a thread, whichever route it is for."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from embedway.server import ai_sdk, embeddings
from embedway.server.app import App
from tests.asgi import MODEL, call

pytestmark = pytest.mark.asyncio(loop_scope="session")
SMALL, LARGE = 512, 513
"""Vectors of 256 floats: 2**17 numbers, and more."""
AI_SDK = {"ai-model-id": MODEL, "ai-embedding-model-specification-version": "4"}


@pytest.mark.parametrize(("texts", "is_aside"), [(SMALL, False), (LARGE, True)])
@pytest.mark.parametrize(
    ("path", "headers", "field", "made_in"),
    [
        ("/v1/embeddings", {}, "input", (embeddings, "render")),
        ("/v4/ai/embedding-model", AI_SDK, "values", (ai_sdk, "_render")),
    ],
)
async def test_large_answers_do_not_hold_the_event_loop(
    app: App,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    headers: dict[str, str],
    field: str,
    made_in: tuple[Any, str],
    texts: int,
    is_aside: bool,
) -> None:
    """An answer of more than 2**17 floats is made in another thread, a smaller one where it is."""
    threads, make = [], getattr(*made_in)

    def note(*given: Any, **named: Any) -> Any:
        threads.append(threading.current_thread())
        return make(*given, **named)

    monkeypatch.setattr(*made_in, note)
    body = {field: [f"text {i}" for i in range(texts)]}
    if field == "input":
        body["model"] = MODEL
    assert (await call(app, "POST", path, headers, body)).status == 200
    assert [one is not threading.current_thread() for one in threads] == [is_aside]
