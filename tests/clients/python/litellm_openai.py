"""litellm: it asks for `encoding_format: null`."""

from __future__ import annotations

from typing import Any

import litellm
from cases import case, main, question

BASE, MODEL = f"{question['url']}/v1", question["model"]
HELLO, THREE = question["hello"], question["three"]


def lite(**fields: Any) -> Any:
    settings = {"model": f"openai/{MODEL}", "api_base": BASE, "api_key": "any", "input": THREE}
    answer = litellm.embedding(**{**settings, **fields})
    return {
        "vectors": [item["embedding"] for item in answer.data],
        "usage": answer.usage.model_dump(),
    }


@case
def list_input() -> Any:
    return lite()


@case
def string() -> Any:
    return lite(input=HELLO)


@case
def extra_body() -> Any:
    return lite(extra_body={"dimensions": 64, "gateflow": {"cache": "skip"}})


@case
async def async_list() -> Any:
    answer = await litellm.aembedding(
        model=f"openai/{MODEL}", api_base=BASE, api_key="any", input=THREE
    )
    return {"vectors": [item["embedding"] for item in answer.data]}


@case
def unknown_model() -> Any:
    return lite(model="openai/nobody/nothing")


main()
