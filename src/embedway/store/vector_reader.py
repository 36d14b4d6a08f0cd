"""The reading thread's half of the disk cache: finds rows, and believes none that is not whole.

What several ask for while one read is under way is read together: to wake the thread, and the event
loop again, costs more than to find a row.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor

from msgspec import Struct

from embedway.cached import Cached, Damaged, Key, Label, Selection, unpack
from embedway.clock import Clock
from embedway.store.vector_file import VectorFile
from embedway.store.vector_rows import Row, find, page_after, purged_since
from embedway.store.vector_trouble import TROUBLE, Complaints

_KEYS_AT_ONCE = 512
"""Whoever asked first must not wait for much more than his own."""
_USED_EVERY_S = 60.0
"""How exactly the time of a row's last use is known: a write for each read would cost more than
the read."""
_ROWS_PER_PAGE = 200


class _Asked(Struct, frozen=True, eq=False):
    """Somebody waits for what is known under *keys*."""

    keys: Sequence[Key]
    found: asyncio.Future[Mapping[Key, Cached]]


class VectorReader:
    """Reads *file* in *thread*, for one event loop.

    use: told the ids of rows that were read. delete: told rows that are damaged.
    """

    def __init__(
        self,
        file: VectorFile,
        thread: Executor,
        *,
        ttl_s: float,
        clock: Clock,
        complain: Complaints,
        use: Callable[[Sequence[int]], None],
        delete: Callable[[Sequence[Row]], None],
    ) -> None:
        self._file = file
        self._thread = thread
        self._ttl_s = ttl_s
        self._clock = clock
        self._complain = complain
        self._use = use
        self._delete = delete
        self._waiting: deque[_Asked] = deque()
        self._is_woken = False

    async def find(self, keys: Sequence[Key]) -> Mapping[Key, Cached]:
        """What is known, whole and not too old."""
        loop = asyncio.get_running_loop()
        asked = _Asked(keys, loop.create_future())
        self._waiting.append(asked)
        if not self._is_woken:
            self._is_woken = True
            self._thread.submit(self._find_waiting, loop)
        return await asked.found

    # In the reading thread. All of it blocks.

    def _find_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_woken = False  # before anybody is taken: who asks from here on wakes again
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for group in _groups(taken):
            try:
                found = self._find(list(dict.fromkeys(k for asked in group for k in asked.keys)))
            except Exception as bug:  # it must reach those who wait, not hang them
                loop.call_soon_threadsafe(_fail, group, bug)
            else:
                loop.call_soon_threadsafe(_tell, group, found)

    def _find(self, keys: Sequence[Key]) -> Mapping[Key, Cached]:
        try:
            rows = self._file.run(lambda connection: find(connection, keys))
        except TROUBLE as error:
            self._complain("read_error", error)
            return {}
        if not rows:
            return {}
        found = self._checked(rows)
        long_ago = self._clock.now() - _USED_EVERY_S
        unused = [
            row.id
            for row in rows
            if row.key in found and not (isinstance(row.used_s, int) and row.used_s > long_ago)
        ]
        if unused:
            self._use(unused)
        return found

    def page(
        self, after: int, last: int, selection: Selection
    ) -> tuple[int | None, list[tuple[Key, Label, Cached]]]:
        """The last id of the page, None behind all of them, and what is meant of it. Raises
        sqlite3.Error and OSError."""
        rows = self._file.run(lambda c: page_after(c, after, last, _ROWS_PER_PAGE))
        meant = [(row, label) for row, label in rows if selection.holds(label)]
        found = self._checked([row for row, _ in meant])
        page = [(row.key, label, found[row.key]) for row, label in meant if row.key in found]
        return rows[-1][0].id if rows else None, page

    def purged_since(self, mark: int) -> tuple[int, list[Selection]]:
        """See VectorStore."""
        try:
            return self._file.run(lambda connection: purged_since(connection, mark))
        except TROUBLE as error:
            self._complain("read_error", error)
            return mark, []

    def _checked(self, rows: Sequence[Row]) -> dict[Key, Cached]:
        """What is whole and not too old. The age is the value's own, which its checksum covers."""
        found, damaged = {}, []
        too_old_s = self._clock.now() - self._ttl_s if self._ttl_s else -1.0
        for row in rows:
            try:
                cached = unpack(row.key, row.value if isinstance(row.value, bytes) else b"")
            except Damaged:
                damaged.append(row)
                continue
            if cached.created_s > too_old_s:
                found[row.key] = cached
        if damaged:
            self._complain.damaged(len(damaged))
            self._delete(damaged)
        return found


def _groups(waiting: Iterable[_Asked]) -> Iterator[list[_Asked]]:
    """Those whose keys are looked for together, in the order they came."""
    group: list[_Asked] = []
    keys = 0
    for asked in waiting:
        if group and keys + len(asked.keys) > _KEYS_AT_ONCE:
            yield group
            group, keys = [], 0
        group.append(asked)
        keys += len(asked.keys)
    if group:
        yield group


# In the event loop. Whoever has gone meanwhile is told nothing.


def _tell(group: Sequence[_Asked], found: Mapping[Key, Cached]) -> None:
    """Each what he asked for."""
    for asked in group:
        if not asked.found.done():
            own = {key: found[key] for key in asked.keys if key in found} if found else {}
            asked.found.set_result(own)


def _fail(group: Sequence[_Asked], bug: Exception) -> None:
    for asked in group:
        if not asked.found.done():
            asked.found.set_exception(bug)
