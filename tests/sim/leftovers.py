"""When all callers are gone nothing of them may be left: no task, no question, no place in a queue,
no permit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from embedway.layers.balance import Balance
from embedway.layers.batch import Batch
from embedway.layers.coalesce import Coalesce
from embedway.layers.limit import Limit
from tests.sim.log import Log


def check_leftovers(stack: object, log: Log) -> None:
    """To be asked when time has passed since the last caller went."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    log.expect(not others, "no task is left", sorted(str(task.get_coro()) for task in others))
    for layer in layers_of(stack):
        left: object = None
        if isinstance(layer, Coalesce):
            left = layer._asked
        elif isinstance(layer, Batch):
            left = layer.waiting or layer._running
        elif isinstance(layer, Limit):
            left = layer.headroom.in_flight or layer.waiting
        elif isinstance(layer, Balance):
            left = {name: one.in_flight for name, one in layer.health.items() if one.in_flight}
        log.expect(not left, "no layer holds on to a caller", type(layer).__name__, left)


def layers_of(stack: object) -> Iterator[object]:
    """The layers of a stack, however it is put together."""
    if isinstance(stack, Mapping):
        for one in stack.values():
            yield from layers_of(one)
    elif is_dataclass(stack) and not isinstance(stack, type):
        yield stack
        for field in fields(stack):
            yield from layers_of(getattr(stack, field.name))
