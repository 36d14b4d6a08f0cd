"""Two accounts serve one model and read a question differently: whose vectors are known to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from embedway.provider import HttpRequest, HttpResponse
from embedway.secret import Secret
from embedway.settings import AccountSettings, Settings
from embedway.vectors import as_array
from tests.asgi import call, running
from tests.fakes import ScriptedSend, json_response, make_vector

NOMIC = "nomic/nomic-embed-text-v1.5"


def vector_of(*question: Any) -> list[float]:
    """A vector that depends on all that was asked."""
    return [float(n) for n in as_array(make_vector(repr(question), dimensions=768))]


def answer(request: HttpRequest) -> HttpResponse:
    """Nomic's own API, which knows four task types, and OpenAI's dialect, where the task stands in
    front of the text."""
    body = orjson.loads(request.body)
    if "texts" in body:
        found = [vector_of(text, body.get("task_type")) for text in body["texts"]]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return json_response({"embeddings": found, "usage": usage})
    data = [
        {"index": i, "embedding": vector_of(text, None)} for i, text in enumerate(body["input"])
    ]
    return json_response({"data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}})


async def test_a_word_that_an_account_does_not_know(tmp_path: Path) -> None:
    """A vector that an account made without the asked input type, since it was forced to, answers
    nobody else: who does not force it gets what he would get without a cache."""
    accounts = {
        name: AccountSettings(api_key=Secret("sk-operator")) for name in ("nomic", "fireworks")
    }
    settings = Settings(home=str(tmp_path), providers=accounts)
    async with running(settings, send=ScriptedSend(answer)) as app:

        async def ask(**fields: Any) -> tuple[str, list[float]]:
            body = {"model": NOMIC, "input": "a text", "input_type": "classification: ", **fields}
            response = await call(app, "POST", "/v1/embeddings", (), body)
            assert response.status == 200, response.body
            told = response.json()
            return told["gateflow"]["provider"], told["data"][0]["embedding"]

        forced = await ask(provider="nomic")
        free = await ask()
        assert (forced[0], free[0]) == ("nomic", "fireworks")
        assert free[1] == (await ask(gateflow={"cache": "skip"}))[1]
        assert free[1] != forced[1]
        assert (await ask())[0] == "cache"
