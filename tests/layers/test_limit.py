"""Limit lets so many calls run side by side, and no more."""

import asyncio

import pytest

from embedway.errors import UpstreamUnavailable
from embedway.layers.limit import Limit
from tests.fakes import make_request
from tests.layers.held import Held, settle


def begin(layer, count):
    """So many callers, each with one text."""
    return [asyncio.create_task(layer(make_request(str(i)))) for i in range(count)]


async def test_never_more_at_once():
    """So many calls run at once, and the others follow in the order they came, whichever ends."""
    inner = Held()
    tasks = begin(Limit(inner, 3), 10)
    await settle()
    while running := inner.running:
        assert len(running) == min(3, 10 - len(inner.calls) + len(running))
        running[-1].answer()
        await settle()

    assert inner.asked == [(str(i),) for i in range(10)]
    assert [(await task).params for task in tasks] == [make_request().params] * 10


@pytest.mark.parametrize("end", ["error", "bug", "cancelled", "cancelled in the queue"])
async def test_places_are_given_back(end):
    """A place is free again however its call ended, and a place in the queue is passed over."""
    inner = Held()
    tasks = begin(Limit(inner, 1), 3)
    await settle()
    if end == "error":
        inner.calls[0].fail(UpstreamUnavailable("down", provider="openai"))
    elif end == "bug":
        inner.calls[0].fail(ZeroDivisionError("a bug"))
    elif end == "cancelled":
        tasks[0].cancel()
    else:
        tasks[1].cancel()
        await settle()
        inner.calls[0].answer()
    await settle()
    for _ in range(2):
        for call in inner.running:
            call.answer()
        await settle()
    await asyncio.wait(tasks)

    gone = 1 if end == "cancelled in the queue" else 0
    assert [i for i, task in enumerate(tasks) if task.cancelled() or task.exception()] == [gone]
    assert inner.asked == [(str(i),) for i in range(3) if i != gone or not gone]
    assert inner.calls[-1].has_ended
