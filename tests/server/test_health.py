from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from embedway.runtime import open_runtime
from embedway.server.app import App
from embedway.server.openapi import LIVE_PATHS, READY_PATHS
from embedway.settings import Settings
from embedway.store.database import StoreError
from tests.asgi import call, embed

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_paths_are_those_of_the_contract() -> None:
    """Health is asked for under the six names that orchestrators and LiteLLM's users know."""
    assert {*LIVE_PATHS, *READY_PATHS} == {
        "/livez",
        "/readyz",
        "/healthz",
        "/health",
        "/health/liveliness",
        "/health/readiness",
    }


@pytest.mark.parametrize("path", [*LIVE_PATHS, *READY_PATHS])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_healthy_gateway_says_so(app: App, method: str, path: str) -> None:
    """Every health route answers 200 with `{"status": "ok"}`."""
    response = await call(app, method, path)
    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"status": "ok"}


async def test_metrics_count_what_happened(app: App) -> None:
    """Metrics are Prometheus' text format and count requests by our own names only."""
    await embed(app)
    await embed(app, model="caller/invented-this")
    await call(app, "GET", "/v1/nothing/of/the/kind")
    response = await call(app, "GET", "/metrics")
    text = response.body.decode()
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    served = 'embedway_requests_total{model="local/wordllama-256",provider="local",status="200"}'
    assert re.search(re.escape(served) + r" [1-9]", text)
    assert re.search(r'embedway_http_responses_total\{route="/v1/embeddings",status="404"\} ', text)
    assert "invented" not in text
    assert "nothing/of" not in text


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/docs.js", "text/javascript; charset=utf-8"),
        ("/docs/docs.css", "text/css; charset=utf-8"),
    ],
)
async def test_the_page_is_ours_alone(app: App, path: str, media_type: str) -> None:
    """The page and its parts come from us with a policy that lets it ask nobody else, and hold
    neither inline script nor another address."""
    response = await call(app, "GET", path)
    assert response.headers["content-type"] == media_type
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    text = response.body.decode()
    assert "//" not in re.sub(r"//127\.|^\s*//.*$|(?<=[;{}]) +//.*$", "", text, flags=re.MULTILINE)
    assert not re.search(r"<script>|<style>| on[a-z]+=|innerHTML|eval\(", text)


async def test_the_root_leads_to_the_page(app: App) -> None:
    """Whoever opens the address in a browser is led to the page."""
    response = await call(app, "GET", "/")
    assert (response.status, response.headers["location"]) == (307, "/docs")


async def test_a_websocket_is_closed(app: App) -> None:
    """What is neither HTTP nor a lifespan is closed at once."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1003}]


async def test_the_lifespan_opens_and_closes(tmp_path: Path) -> None:
    """Under any ASGI server the lifespan opens what `start` opens, and tells if it cannot."""
    sent: list[Any] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    settings = Settings(home=str(tmp_path / "home"))
    app = App(lambda: open_runtime(settings), is_loopback_only=True)
    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    (tmp_path / "file").touch()
    settings = Settings(home=str(tmp_path / "file"))
    app = App(lambda: open_runtime(settings), is_loopback_only=True)
    messages, sent = iter([{"type": "lifespan.startup"}]), []
    with pytest.raises(StoreError):
        await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.failed"]


async def test_the_log_has_no_texts(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """At `info` each embedding request and each refusal has a line with its route, status and id;
    never a text, a key, or a control character of a caller."""
    with caplog.at_level(logging.INFO, logger="embedway.access"):
        body = (await embed(app, input="a secret text")).json()
        await call(app, "GET", "/no\nwhere")
    answered, refused = caplog.messages
    assert answered == f"POST '/v1/embeddings' 200 {body['gateflow']['request_id']}"
    assert refused.startswith("GET '/no\\nwhere' 404 req_")
    assert "secret" not in caplog.text
