"""What waits to be written, bounded in bytes, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from embedway.cached import Cached, Key, Label

_BYTES_BESIDE = 400
"""What a waiting vector takes besides its numbers: the objects around it."""

Mark = asyncio.Future[None]


class Write(Struct, frozen=True, gc=False):
    """One vector to be written or, if there is none, deleted."""

    label: Label
    key: Key
    cached: Cached | None

    @property
    def bytes(self) -> int:
        """What it takes while it waits."""
        return _BYTES_BESIDE + (len(self.cached.vector) if self.cached else 0)


class WriteQueue:
    """First in, first out. For one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._items: deque[Write | Mark] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, writes: Iterable[Write]) -> list[Write]:
        """Append them; returns those for which there was no room."""
        refused = []
        for write in writes:
            if self._bytes + write.bytes > self._max_bytes:
                refused.append(write)
            else:
                self._bytes += write.bytes
                self._items.append(write)
        return refused

    def mark(self) -> Mark:
        """A mark that whoever takes it settles when all before it is written, or lost."""
        mark: Mark = asyncio.get_running_loop().create_future()
        self._items.append(mark)
        return mark

    def take(self, most: int) -> tuple[list[Write], list[Mark]]:
        """The next writes, *most* at most, and the marks between them."""
        writes: list[Write] = []
        marks: list[Mark] = []
        while self._items and len(writes) < most:
            item = self._items.popleft()
            if isinstance(item, Write):
                self._bytes -= item.bytes
                writes.append(item)
            else:
                marks.append(item)
        return writes, marks

    def clear(self) -> list[Write]:
        """Take out everything; returns the writes."""
        writes, marks = self.take(len(self._items) + 1)
        settle(marks)
        return writes


def settle(marks: Iterable[Mark]) -> None:
    """Tell those who wait."""
    for mark in marks:
        if not mark.done():  # whoever waited may have been cancelled
            mark.set_result(None)
