"""httpx alone: the least that a caller may send."""

from __future__ import annotations

from typing import Any

import httpx
from cases import case, main, question

URL, MODEL = question["url"], question["model"]


def post(body: dict[str, Any]) -> dict[str, Any]:
    response = httpx.post(f"{URL}/v1/embeddings", json=body)
    answer = response.raise_for_status().json()
    return {"vectors": [item["embedding"] for item in answer["data"]], "model": answer["model"]}


@case
def minimal() -> Any:
    return post({"model": MODEL, "input": question["hello"]})


@case
def list_input() -> Any:
    return post({"model": MODEL, "input": question["three"]})


@case
def provider_field() -> Any:
    return post({"model": MODEL, "input": question["hello"], "provider": "local"})


@case
def http2_is_not_needed() -> Any:
    with httpx.Client(base_url=URL) as client:
        answers = [client.get("/livez"), client.get("/v1/models/local/wordllama-256")]
    return {"versions": [answer.http_version for answer in answers], "id": answers[1].json()["id"]}


main()
