"""A small OpenAI: vectors that depend on the text and nothing else, and errors on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
FAILS = "the upstream fails"
LIMITS = "the upstream limits"


def fake_vector(value: Any, dimensions: int) -> NDArray[np.float32]:
    """The unit vector of a text or of a list of token ids."""
    seed = hashlib.sha256(json.dumps(value).encode()).digest()
    numbers = np.random.default_rng(list(seed)).standard_normal(dimensions)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        inputs = body["input"]
        if FAILS in inputs:
            self._answer(500, {"error": {"message": "It broke.", "type": "server_error"}})
        elif LIMITS in inputs:
            error = {"message": "Slow down.", "code": "rate_limit_exceeded"}
            self._answer(429, {"error": error}, ("retry-after", "7"))
        else:
            self._answer(200, _embed(body))

    def _answer(self, status: int, body: Any, *headers: tuple[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (
            ("content-type", "application/json"),
            ("content-length", str(len(data))),
            *headers,
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests' output is not a log."""


def _embed(body: dict[str, Any]) -> dict[str, Any]:
    dimensions = body.get("dimensions", _DIMENSIONS[body["model"]])
    vectors = [fake_vector(value, dimensions) for value in body["input"]]
    count = sum(len(value) for value in body["input"])
    return {
        "object": "list",
        "model": body["model"],
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.tobytes()).decode(),
            }
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


@contextmanager
def serving() -> Iterator[str]:
    """Its URL, for as long as the block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
