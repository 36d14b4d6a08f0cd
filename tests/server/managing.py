"""What the tests of the management routes share: a sound request for each route, and answers held
to their types."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import orjson
from msgspec import Struct

from embedway.cached import Cached, Label
from embedway.server.app import App
from embedway.server.management_answers import ROOT
from embedway.server.openapi import build_document
from embedway.settings import Settings
from embedway.vector_files import write_line
from embedway.vectors import from_numbers
from tests.asgi import Headers, Response, call, running
from tests.fakes import FakeClock
from tests.server.provider import SMALL
from tests.server.staying import staying

Kind = TypeVar("Kind", bound=Struct)

OPERATIONS = tuple(
    (method.upper(), path)
    for path, methods in build_document()["paths"].items()
    if path.startswith(ROOT)
    for method in methods
)
"""Every management route that the document knows."""

_VECTOR = (
    bytes(16),
    Label(SMALL, f"{SMALL}@2", "default"),
    Cached(
        vector=from_numbers(np.array([1.0, 0.0])),
        tokens=1,
        origin=bytes(8),
        created_s=1_799_999_000,
    ),
)
BODIES: dict[tuple[str, str], Any] = {
    ("POST", f"{ROOT}/api-keys"): {"name": "one more"},
    ("POST", f"{ROOT}/api-keys/{{id}}/rotate"): {},
    ("PUT", f"{ROOT}/budgets/{{owner_kind}}/{{owner}}/{{period}}"): {"amount": "5"},
    ("POST", f"{ROOT}/cache/purge"): {"all": True},
    ("POST", f"{ROOT}/cache/warm"): orjson.loads(write_line(_VECTOR)),
}
"""What each route takes that takes something."""


@asynccontextmanager
async def managing(folder: Path) -> AsyncIterator[App]:
    """An open server, for many tests that change nothing."""
    async with running(Settings(home=str(folder)), clock=FakeClock()) as app:
        yield app


async def ask(app: App, method: str, path: str, headers: Headers = (), body: Any = b"") -> Response:
    """The answer of a route below the root, to a caller who waits for it."""
    return await call(staying(app), method, f"{ROOT}{path}", headers, body)


def answered(response: Response, kind: type[Kind]) -> Kind:
    """The answer as *kind*, which it must be to the last field."""
    assert response.status == 200, response.body
    assert response.headers["cache-control"] == "no-store"
    decoded = msgspec.json.decode(response.body, type=kind, strict=True)
    assert orjson.loads(msgspec.json.encode(decoded)) == response.json()
    return decoded
