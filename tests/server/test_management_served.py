"""Management through the real server: from the first key on, and with odd paths."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.server.serving import serving

ROOT = "/v1/management"


def request(
    url: str, method: str, target: str, key: str | None = None, body: Any = None
) -> tuple[int, Any]:
    """Status and body. The target is sent as it is, letter by letter."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    data = b"" if body is None else json.dumps(body).encode()
    try:
        connection.putrequest(method, target)
        if key is not None:
            connection.putheader("Authorization", f"Bearer {key}")
        if data:
            connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()


def test_the_first_key(tmp_path: Path) -> None:
    """The first key, made over HTTP, closes the server at once; with it everything is managed, and
    the keys that it makes work, until they are revoked, from one request to the next."""
    with serving(tmp_path) as (url, _):
        keys, embeddings = f"{ROOT}/api-keys", "/v1/embeddings"
        assert request(url, "GET", keys)[1] == {"object": "list", "data": []}
        status, boss = request(url, "POST", keys, None, {"name": "boss", "type": "admin"})
        assert (status, request(url, "GET", keys)[0]) == (200, 401)
        admin = boss["key"]
        made = request(url, "POST", keys, admin, {"name": "team", "budgets": {"day": "1"}})[1]
        text = {"model": "local/wordllama-256", "input": "a"}
        assert request(url, "POST", embeddings, made["key"], text)[0] == 200
        assert request(url, "GET", keys, made["key"])[0] == 403
        summary = request(url, "GET", f"{ROOT}/usage?key={made['id']}", admin)[1]["summary"]
        assert summary["total_requests"] == 1
        assert request(url, "DELETE", f"{keys}/{made['id']}", admin)[1]["status"] == "revoked"
        assert request(url, "POST", embeddings, made["key"], text)[0] == 401
        origins = {
            one["name"]: one["origin"]
            for one in request(url, "GET", f"{ROOT}/settings", admin)[1]["data"]
        }
        assert origins["home"] == "environment EMBEDWAY_HOME"
        for target in (
            keys,
            f"{keys}/",
            f"{ROOT}%2Fapi-keys",
            f"{ROOT}/%61pi-keys",
            "/v1%2Fmanagement/api-keys",
            f"{url}{keys}",
            f"/{keys}",
            f"{ROOT}//api-keys",
            f"{ROOT}/./api-keys",
            "/v1/models/../management/api-keys",
            f"{keys}?a=b#{ROOT}",
            f"{keys};a",
            f"{keys}%00",
            keys.upper(),
        ):
            for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE"):
                status, told = request(url, method, target)
                assert status in (400, 401, 404, 405), f"{method} {target}"
                assert method == "HEAD" or "error" in told
