"""A gateway with an OpenAI account behind it that a test scripts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import orjson

from embedway.provider import HttpRequest, HttpResponse
from embedway.secret import Secret
from embedway.server.app import App
from embedway.settings import AccountSettings, ServerSettings, Settings
from tests.asgi import running
from tests.fakes import ScriptedSend, json_response, make_vector, openai_body

SMALL = "openai/text-embedding-3-small"
WIDTHS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
TOKENS = 2
"""How many tokens the provider reports for each input."""


def answer(request: HttpRequest) -> HttpResponse:
    """What OpenAI answers: vectors that depend on the text alone."""
    asked = orjson.loads(request.body)
    width = asked.get("dimensions") or WIDTHS[asked["model"]]
    texts = [tuple(text) if isinstance(text, list) else text for text in asked["input"]]
    vectors = [make_vector(text, dimensions=width) for text in texts]
    return json_response(openai_body(*vectors, tokens=TOKENS * len(vectors)))


def failure(status: int, message: str = "no", **headers: str) -> HttpResponse:
    """An error of the provider's."""
    return json_response({"error": {"message": message}}, status, headers)


def settings(home: Path, **server: Any) -> Settings:
    """One OpenAI account; *server* are settings of the HTTP server."""
    account = AccountSettings(api_key=Secret("sk-operator-0123456789"))
    return Settings(home=str(home), providers={"openai": account}, server=ServerSettings(**server))


def with_openai(
    home: Path, *answers: Any, **server: Any
) -> tuple[AbstractAsyncContextManager[App], ScriptedSend]:
    """The application to enter, and the transport that saw what it sent."""
    send = ScriptedSend(*(answers or (answer,)))
    return running(settings(home, **server), send=send), send
