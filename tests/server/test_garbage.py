"""What a request leaves behind: nothing that only the collector could free. It holds the event loop
while it works, the longer the more requests are under way, and vectors are large."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from embedway.provider import HttpRequest, HttpResponse
from embedway.server.app import App
from tests.asgi import embed
from tests.server.provider import SMALL, answer, failure, with_openai

UNSERVED = "cohere/embed-v4.0"
AT_ONCE = 40
"""More than an account has slots: some travel together."""


class Provider:
    """Takes a moment, and answers or fails."""

    def __init__(self) -> None:
        self.failures: list[HttpResponse] = []
        self.is_silent = False

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer a request."""
        await asyncio.sleep(0)
        if self.is_silent:
            await asyncio.Event().wait()
        return self.failures.pop() if self.failures else answer(request)


async def ask(app: App, *texts: str) -> list[int]:
    """All of them at once, each in a request of its own."""
    answers = [embed(app, model=SMALL, input=text) for text in texts]
    return [one.status for one in await asyncio.gather(*answers)]


def new_texts(number: int) -> list[str]:
    """Nobody has asked for these in this round."""
    return [f"{number} {i}" for i in range(AT_ONCE)]


async def one_by_one(app: App, provider: Provider, number: int) -> None:
    """Each is sent at once."""
    for text in new_texts(number)[:5]:
        assert await ask(app, text) == [200]


async def together(app: App, provider: Provider, number: int) -> None:
    """Most wait for a slot and travel together."""
    assert set(await ask(app, *new_texts(number))) == {200}


async def same_text(app: App, provider: Provider, number: int) -> None:
    """All wait for one question."""
    assert set(await ask(app, *[str(number)] * AT_ONCE)) == {200}


async def known(app: App, provider: Provider, number: int) -> None:
    """All but the first round are hits."""
    assert set(await ask(app, "a known text", "another one")) == {200}


async def wrong_input(app: App, provider: Provider, number: int) -> None:
    """Refused before any layer, by one, and for the model's sake."""
    assert await ask(app, "") == [400]
    assert (await embed(app, model="nobody/nothing")).status == 404
    assert (await embed(app, model=SMALL, dimensions=9999)).status == 400


async def retried(app: App, provider: Provider, number: int) -> None:
    """The first attempt fails."""
    provider.failures = [failure(500)]
    assert await ask(app, f"retried {number}") == [200]


async def refused(app: App, provider: Provider, number: int) -> None:
    """The provider refuses the text; those who travelled with it are asked for again."""
    provider.failures = [failure(400, "a bad text")] * 3
    assert set(await ask(app, *new_texts(number))) <= {200, 400}


async def given_up(app: App, provider: Provider, number: int) -> None:
    """The callers leave, some of them aboard and some waiting."""
    provider.is_silent = True
    tasks = [asyncio.create_task(ask(app, text)) for text in new_texts(number)]
    for _ in range(20):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    provider.is_silent = False


async def too_late(app: App, provider: Provider, number: int) -> None:
    """The caller's own time is over."""
    provider.is_silent = True
    late = await embed(app, {"x-request-timeout-ms": "5"}, model=SMALL, input=f"late {number}")
    assert late.status == 504
    provider.is_silent = False


async def fallen_back(app: App, provider: Provider, number: int) -> None:
    """Nobody serves the first model, and the second one answers."""
    others = {"fallbacks": [SMALL]}
    found = await embed(app, model=UNSERVED, input=f"fallen back {number}", gateflow=others)
    assert found.status == 200


SCENARIOS = (
    one_by_one,
    together,
    same_text,
    known,
    wrong_input,
    retried,
    refused,
    given_up,
    too_late,
    fallen_back,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_nothing_is_left_to_the_collector(
    scenario: Callable[[App, Provider, int], Awaitable[None]], tmp_path: Path
) -> None:
    """Requests, whatever their end, leave no objects that hold each other."""
    provider = Provider()
    context, _ = with_openai(tmp_path, provider)
    async with context as app:
        for number in range(3):  # what is made once is made by then
            await scenario(app, provider, number)
        await settle()
        gc.collect()
        gc.disable()
        try:
            for number in range(3, 6):
                await scenario(app, provider, number)
            await settle()
            found = unreachable()
        finally:
            gc.enable()

    assert found == {}


async def settle() -> None:
    """Callbacks that are due have run."""
    for _ in range(50):
        await asyncio.sleep(0)


def unreachable() -> Counter[str]:
    """What only the collector can free, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        found: list[Any] = gc.garbage[:]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    return Counter(type(one).__qualname__ for one in found)
